"""Old and new SDKs in one fleet: a newer one's keys are not lost to an older one that knows fewer keys. Pure.

An SDK that fetches hands over the keys that it knows, and drops the others (`Vendor.keys`). Hence three rules for
definitions that another SDK wrote:

1. A process that would drop a key does not lead, unless no other process does: if the lease has been free for a
   challenge time, the processes that could carry the key are gone.
2. A process that misses a key asks for a turn at once, once for each publication, and not only if the leader is silent.
3. A process that holds a key keeps what it holds, although it is older, until another process brings newer definitions
   with that key, unless the store was cleared since.

The fleet's own fetch drops nothing, whichever SDK it serves: attached processes lead under the first rule too.
"""

from __future__ import annotations

from typing import NamedTuple

from flagcache.core.knowledge import StoreView
from flagcache.core.order import Held
from flagcache.stores.base import Ask, Meta, Reply
from flagcache.vendor import Definitions

__all__ = [
    "Lacking",
    "as_held",
    "ask_for_turn",
    "drops_keys",
    "is_emptied",
    "keeps_held",
    "missing_keys",
    "still_lacking",
]


class Lacking(NamedTuple):
    """Definitions in a store that lack keys."""

    meta: Meta
    kept: bool
    """This process kept what it holds instead."""


def drops_keys(held: Held | None, writer: str, keys: frozenset[str]) -> bool:
    """Whether a fetch by this process's SDK would drop keys of what it holds (rule 1).

    Args:
        held: what the process holds.
        writer: its SDK, as `Meta.writer` names it. What this SDK wrote lacks nothing for it.
        keys: the keys that its SDK hands over.
    """
    return held is not None and held.meta.writer != writer and not keys.issuperset(held.definitions)


def is_emptied(view: StoreView) -> bool:
    """Whether the store is empty. Unless people cleared it, it is soon repaired."""
    return bool(view.replied_at) and view.stored is None


def missing_keys(meta: Meta, definitions: Definitions, writer: str, keys: frozenset[str]) -> tuple[str, ...]:
    """Return the keys that this process's SDK reads and that definitions of another SDK lack, sorted."""
    return () if meta.writer == writer else tuple(sorted(keys - definitions.keys()))


def keeps_held(held: Held | None, meta: Meta, missing: tuple[str, ...]) -> bool:
    """Whether a process keeps what it holds instead of newer definitions that lack these keys (rule 3)."""
    return held is not None and held.meta.epoch == meta.epoch and not held.definitions.keys().isdisjoint(missing)


def ask_for_turn(ask: Ask, view: StoreView, lacking: Lacking) -> Ask:
    """Return the poll of a store whose definitions lack keys (rule 2)."""
    if lacking.kept:  # say that it is known, so that it is not sent again
        ask = ask._replace(held=lacking.meta.order, held_version=lacking.meta.version)
    if view.leads or view.last_grant > lacking.meta.as_of:
        return ask
    # With half an interval for each, more than three processes in one interval never get a turn this way.
    return ask._replace(interval=ask.interval // 10, challenge=min(ask.challenge, ask.interval // 2))


def as_held(reply: Reply, lacking: Lacking) -> Reply:
    """Return the reply in terms of what this process holds, and not of what its poll said that it holds."""
    if reply.unchanged and lacking.kept:
        return reply._replace(unchanged=False, meta=lacking.meta)
    return reply


def still_lacking(reply: Reply, lacking: Lacking) -> Lacking | None:
    """Return what lacks keys after this reply (`as_held`); None: the store has other definitions."""
    if reply.meta is not None and reply.meta.version == lacking.meta.version:
        return lacking._replace(meta=reply.meta)
    return lacking if reply.unchanged else None
