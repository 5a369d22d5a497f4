"""When a process saves what it holds to the fallback file of its machine, and what it writes there. Pure.

The file is a store like any other, so the ages decide between what it has and what a process holds. One process of a
machine writes a version, and the others find it there. If the file already has it, only its times are renewed.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import NamedTuple

from flagcache.core.ageing import outranking
from flagcache.core.order import Held
from flagcache.stores.base import Meta

__all__ = ["Copy", "Key", "Saved", "Write", "delay", "is_saved", "next_write", "saves_at_once"]

_AFTER = 1.0
"""Least seconds after which definitions that replace others are saved. The processes of a machine also spread over this
time: the first one writes, and the others find the version in the file."""


class Key(Enum):
    """The key that protects stored definitions, as one process sees it."""

    CURRENT = auto()
    """The first key of this process."""
    OUTDATED = auto()
    """A key that is being replaced, so it will not be readable later; or the protection is broken."""
    LACKING = auto()
    """A key that this process lacks, of workers that are a step ahead or behind in a rotation. They renew the file
    themselves. If each process replaced what another one wrote, both would write without end."""


class Saved(NamedTuple):
    """What the file has, as far as this process knows. Not the definitions themselves, which would stay in memory."""

    version: str = ""
    born: float = -math.inf
    """`Held.born` of the copy."""
    tried: bool = False
    """Whether this process has tried to save anything yet."""


class Copy(NamedTuple):
    """What the file has, by its reply."""

    meta: Meta
    born: float
    """Own clock when it was granted or last confirmed."""
    key: Key = Key.CURRENT


class Write(NamedTuple):
    """What to write to the file."""

    meta: Meta | None = None
    """With these metadata; None: write nothing."""
    times_only: bool = False
    """The file has this version, and only needs its times."""
    born: float | None = None
    """`Held.born` of what the file has then, if it is this version or must not be replaced; None: it is younger."""


def is_saved(saved: Saved, held: Held, stale_after: float) -> bool:
    """Whether the file has this version, with times that are young enough."""
    return saved.version == held.meta.version and held.born - saved.born < stale_after


def saves_at_once(saved: Saved, *, later: bool) -> bool:
    """Whether to save new definitions at once, before the clients have them.

    Args:
        saved: what the file has. A process saves its first definitions at once, because it may end or fork.
        later: a thread runs that saves what is due.
    """
    return not later or not saved.tried


def delay(jitter: float) -> float:
    """Seconds after which to save other definitions, or to try again if the file did not answer.

    Args:
        jitter: from 0 to 1.
    """
    return _AFTER * (1 + jitter)


def next_write(held: Held, meta: Meta, copy: Copy | None, stale_after: float) -> Write:
    """Return what to write to the file.

    The file may have a higher epoch, if the fleet's store has lost its own, or a time in the future, if this machine's
    clock was ahead. So the order says nothing. A copy that is younger than what is held came from a process that holds
    newer definitions, which the next poll brings.

    Args:
        held: what this process holds.
        meta: its metadata, with the times of the file's clock.
        copy: what the file has; None: nothing.
        stale_after: seconds after which the times of a copy are too old.
    """
    if copy is None:
        return Write(meta, born=held.born)
    if copy.meta.version == meta.version:
        return _renewal(held, meta, copy, stale_after)
    return Write(outranking(meta, copy.meta), born=held.born) if copy.born < held.born else Write()


def _renewal(held: Held, meta: Meta, copy: Copy, stale_after: float) -> Write:
    """Return how to renew times and protection of the version that the file has."""
    cleared = copy.meta.epoch < meta.epoch
    renamed = copy.meta.project != meta.project and copy.born < held.born
    current = copy.key is Key.CURRENT and not cleared and not renamed
    left_alone = current or (copy.key is Key.LACKING and not cleared)
    if left_alone and held.born - copy.born < stale_after:
        return Write(born=copy.born)
    if copy.born > held.born:
        meta = meta._replace(as_of=copy.meta.as_of, confirmed_at=copy.meta.confirmed_at)
    meta = outranking(meta, copy.meta)
    return Write(meta, times_only=current, born=held.born if current else max(copy.born, held.born))
