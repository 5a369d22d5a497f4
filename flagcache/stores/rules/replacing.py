"""What comes of definitions that a process cannot read for want of the key: the part of the rules for that. Pure.

Newcomers ask the holders to look. Only who holds definitions may replace them, by its own and in one step, and a
namespace sees that at most once a refresh interval: two halves of a fleet without a key in common share a store so.
"""

from __future__ import annotations

from flagcache.stores.base import Meta, Notice, Replacing
from flagcache.stores.rules.state import State, passed

__all__ = ["may_replace", "report"]


def report(state: State, version: str, interval: int, clock: int) -> tuple[State, bool, Notice | None]:
    """Ask the holders to look, because a process lacks the key of this version; at most once an interval."""
    if state.meta is None or state.meta.version != version or not passed(state.key_missed_at, interval, clock):
        return state, False, None
    return state._replace(key_missed_at=clock), True, Notice("note", state.epoch, version)


def may_replace(state: State, meta: Meta, replacing: Replacing, clock: int) -> bool:
    """Whether what is stored may give way, though newer: still that version, and none gave way in this interval."""
    stored = state.meta is not None and state.meta.version == replacing.version
    return stored and meta.epoch >= state.epoch and passed(state.replaced_at, replacing.interval, clock)
