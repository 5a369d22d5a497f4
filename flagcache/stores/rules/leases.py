"""Who leads, and when the leader may fetch: the part of the store's rules that decides about lease and grants. Pure."""

from __future__ import annotations

from flagcache.stores.base import REFRESHER, Ask, Grant, Order
from flagcache.stores.rules.state import Outcome, State, passed, running

__all__ = ["GRANTS_PER_INTERVAL", "elect", "extend", "grant", "leads", "leased", "noted"]

GRANTS_PER_INTERVAL = 3
"""How many grants one interval may see when the holders of the first ones died or failed."""

_LONGEST_NOTE = 3_600_000
"""Milliseconds for which a note may keep all from fetching, unless the asker's own back-off is longer: no note of ours
does so for longer, and one of somebody else's could stop the fleet for years."""


def leased(state: State, clock: int) -> bool:
    """Whether anybody holds the lease."""
    return bool(state.owner) and running(state.lease_until, state.lease_length, clock)


def leads(state: State, me: str, clock: int) -> bool:
    """Whether this process holds it."""
    return state.owner == me and leased(state, clock)


def extend(state: State, me: str, lease: int, clock: int) -> State:
    """Let the lease last that long from now, if this process holds it."""
    if not leads(state, me, clock):
        return state
    return state._replace(lease_until=clock + lease, lease_length=lease)


def noted(state: State, ask: Ask, clock: int) -> bool:
    """Whether a failure for everybody keeps all from fetching."""
    longest = max(_LONGEST_NOTE, ask.backoff)
    return state.note_length <= longest and running(state.note_until, state.note_length, clock)


def _due(state: State, ask: Ask, clock: int) -> bool:
    """Whether the refresh interval, less a tenth for workers that poll a little early, is over.

    While fetches fail in a row it doubles up to the asker's `backoff`.
    """
    interval = ask.interval
    if state.failures > GRANTS_PER_INTERVAL:
        doublings = min(state.failures - GRANTS_PER_INTERVAL, 20)
        interval = max(interval, min(ask.backoff, interval * 2**doublings))
    interval = interval * 9 // 10
    return passed(state.granted[0], interval, clock) and not 0 <= ask.grant_age < interval


def _silent(state: State, ask: Ask, clock: int, more: int = 0) -> bool:
    """The leader has brought nothing to light for so long (and `more`) that another worker is to have a turn."""
    if state.meta is None:
        return False
    since = max(state.meta.confirmed_at if state.meta.confirmed_at <= clock else 0, state.led_since)
    return passed(since, ask.challenge + more, clock)


def _precedes(me: str, other: str) -> bool:
    """Whether the one is a refresher and the other a worker."""
    return me.startswith(REFRESHER) and not other.startswith(REFRESHER)


def elect(state: State, ask: Ask, clock: int) -> State:
    """Give the lease to the asker if it is free, or the asker's already, or its turn.

    A refresher takes it from a worker at any time, but not while that one makes the first fetch: all wait for it.
    """
    if not ask.may_lead:
        return state
    lease = ask.lease if state.meta else ask.cold_lease
    if leads(state, ask.me, clock):
        return extend(state, ask.me, lease, clock)
    turn = state.holder != ask.me and _due(state, ask, clock) and _silent(state, ask, clock)
    first_fetch = state.meta is None and state.outcome is Outcome.OPEN
    if leased(state, clock) and not turn and (first_fetch or not _precedes(ask.me, state.owner)):
        return state
    return state._replace(owner=ask.me, lease_until=clock + lease, lease_length=lease, led_since=clock)


def grant(state: State, ask: Ask, held: Order | None, clock: int) -> tuple[State, Grant | None]:
    """A grant for the leader: a lost one again, the regular one, or one that follows a holder who died or failed."""
    if noted(state, ask, clock):
        return state, None
    lost = state.holder == ask.me and state.outcome is Outcome.OPEN and state.grant > ask.last_grant
    if lost and (held is None or state.grant > held.as_of):  # else what it brought would be refused as late
        return state, Grant(state.epoch, state.grant, state.granted[0])
    silent = state.holder == ask.me and _silent(state, ask, clock)
    if silent and not _silent(state, ask, clock, ask.interval * 9 // 10):
        return state, None  # challenged: from now on the others have an interval to take this turn
    if not _due(state, ask, clock) and not _follows(state, ask, held, clock):
        return state, None
    as_of = max(clock, state.highest + 1, ask.last_grant + 1, held.as_of + 1 if held else 0)
    state = state._replace(
        highest=as_of,
        grant=as_of,
        granted=(clock, *state.granted[:2]),
        holder=ask.me,
        outcome=Outcome.OPEN,
        led_since=clock if silent else state.led_since,
    )
    return state, Grant(state.epoch, as_of, clock)


def _follows(state: State, ask: Ask, held: Order | None, clock: int) -> bool:
    """Whether the leader may fetch at once because the latest grant came to nothing."""
    if state.failures >= GRANTS_PER_INTERVAL or not passed(state.granted[GRANTS_PER_INTERVAL - 1], ask.interval, clock):
        return False
    if state.outcome is Outcome.FAILED:
        return True
    if state.outcome is Outcome.OPEN:
        # It has lost the lease, for I lead: it died. Or I took the lease from it, and its fetch is still under way.
        return state.holder != ask.me and (state.meta is None or not _precedes(ask.me, state.holder))
    return state.meta is None and (held is None or held.epoch < state.epoch)  # what it brought is lost, or was cleared
