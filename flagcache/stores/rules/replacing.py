"""Definitions whose key a process lacks: the rules that report and replace them. Pure.

Newcomers ask the holders to look. Only a process that holds definitions may replace them, with its own and in one step,
and a namespace allows that at most once a refresh interval. So two halves of a fleet without a common key can share a
store.
"""

from __future__ import annotations

from flagcache.stores.base import Envelope, Meta, Notice, Published, Replacing
from flagcache.stores.rules.state import State, passed

__all__ = ["may_replace", "renew_protection", "replaces_payload", "report"]


def report(state: State, version: str, interval: int, clock: int) -> tuple[State, bool, Notice | None]:
    """Ask the holders to look, because a process lacks the key of this version; at most once an interval."""
    if state.meta is None or state.meta.version != version or not passed(state.key_missed_at, interval, clock):
        return state, False, None
    return state._replace(key_missed_at=clock), True, Notice("note", state.epoch, version)


def may_replace(state: State, meta: Meta, replacing: Replacing, clock: int) -> bool:
    """Whether the stored version may be replaced: it is still that one, and none was replaced in this interval."""
    stored = state.meta is not None and state.meta.version == replacing.version
    return stored and meta.epoch >= state.epoch and passed(state.replaced_at, replacing.interval, clock)


def replaces_payload(state: State, envelope: Envelope, published: Published) -> bool:
    """Whether the envelope's payload replaces the stored one, after a `publish` that returned these values.

    Also if it is of the stored version: payload and metadata are always written together, so that both are protected
    with one key.
    """
    accepted = published in (Published.STORED, Published.CONFIRMED)
    return accepted and state.meta is not None and state.meta.as_of == envelope.meta.as_of


def renew_protection(state: State, meta: Meta, stored: Meta) -> State:
    """Publish the stored content again, perhaps under another key; if it is older, what is stored stays."""
    if meta.order < stored.order:
        return state
    meta = stored._replace(etag=meta.etag or stored.etag, writer=meta.writer, project=meta.project, stamp=meta.stamp)
    return state._replace(meta=meta)
