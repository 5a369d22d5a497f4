"""The election: which process leads, and when it may fetch.

The part of the store's rules for lease and grants. Pure.
"""

from __future__ import annotations

from flagcache.stores.base import GRANTED, REFRESHER, Ask, Grant, Notice, Order, Reply
from flagcache.stores.rules.state import Outcome, State, passed, running

__all__ = [
    "GRACE",
    "GRANTS_PER_INTERVAL",
    "announced",
    "appoint",
    "elect",
    "extend",
    "fenced",
    "grant",
    "hurry",
    "is_exhausted",
    "is_fetching",
    "leads",
    "leased",
    "noted",
]

GRANTS_PER_INTERVAL = 3
"""The most grants in one interval, if the holders of the first ones died or failed.

An interval here is the nine tenths of it after which a grant is due. So the fourth grant never comes sooner than that
after the third, but it may come before the first is a whole interval old.
"""

GRACE = 2000
"""Milliseconds after which a due fetch that was not granted to the leader may be granted to another worker that acts
between its polls, even if the lease has not expired. Also the longest silence of a holder while its fetch is under way:
it renews each second."""

_LONGEST_NOTE = 3_600_000
"""Milliseconds for which a note may keep all workers from fetching, unless the asker's own back-off is longer. No
worker writes a longer note; a forged one could stop the fleet for years."""


def leased(state: State, clock: int) -> bool:
    """Whether any process holds the lease."""
    return bool(state.owner) and running(state.lease_until, state.lease_length, clock)


def leads(state: State, me: str, clock: int) -> bool:
    """Whether this process holds it."""
    return state.owner == me and leased(state, clock)


def extend(state: State, me: str, lease: int, clock: int) -> State:
    """Let the lease last this long from now, if this process holds it."""
    if not leads(state, me, clock):
        return state
    return state._replace(lease_until=clock + lease, lease_length=lease)


def hurry(state: State, clock: int) -> State:
    """Shorten the lease, unless its holder renews it: the store was emptied, and new workers wait for definitions.

    A leader that gets the notice keeps the lease; one that hears nothing until its next poll is replaced.
    """
    if not leased(state, clock) or state.lease_until - clock <= GRACE:
        return state
    return state._replace(lease_until=clock + GRACE, lease_length=GRACE)


def noted(state: State, ask: Ask, clock: int) -> bool:
    """Whether a failure for all keeps all workers from fetching."""
    longest = max(_LONGEST_NOTE, ask.backoff)
    return (
        not ask.ignores_backoff
        and state.backoff_length <= longest
        and running(state.backoff_until, state.backoff_length, clock)
    )


def _due(state: State, ask: Ask, clock: int) -> bool:
    """Whether the refresh interval, less a tenth for workers that poll a little early, is over.

    While fetches fail in a row it doubles up to the asker's `backoff`.
    """
    return _since_grant(state, ask, _pause(state, ask) * 9 // 10, clock)


def _pause(state: State, ask: Ask) -> int:
    """Milliseconds from one grant to the next."""
    if state.failures <= GRANTS_PER_INTERVAL:
        return ask.interval
    doublings = min(state.failures - GRANTS_PER_INTERVAL, 20)
    return max(ask.interval, min(ask.backoff, ask.interval * (1 << doublings)))


def _since_grant(state: State, ask: Ask, length: int, clock: int) -> bool:
    """Whether the latest grant is this long ago; the asker may know of a later one than the store."""
    return passed(state.granted[0], length, clock) and not 0 <= ask.grant_age < length


def _neglected(state: State, ask: Ask, clock: int) -> bool:
    """Whether a fetch has been due for so long that the leader must be dead, frozen or starved.

    A fetch under way is not overdue: as long as its holder renews the lease or, because an SDK that fetches can't renew
    it, until the lease expires. Only workers that listen take this turn, because the others poll too seldom to keep it.
    A refresher may fetch less often than a worker would; a worker replaces it when its lease expires.
    """
    if not ask.listens or state.meta is None or _precedes(state.owner, ask.me):
        return False
    if noted(state, ask, clock) or not passed(state.backoff_until, GRACE, clock):
        return False
    if not _since_grant(state, ask, _pause(state, ask) + GRACE, clock):
        return False
    if state.outcome is not Outcome.OPEN or state.holder != state.owner:
        return True
    renewed = state.lease_until - state.lease_length
    return state.grant == state.reporting and not running(renewed + GRACE, GRACE, clock)


def _abandoned(state: State, ask: Ask, clock: int) -> bool:
    """Whether the fetch under way, without which the asker cannot start, has lost its holder.

    A holder that listens renews its lease each second; a child that ends by `os._exit` just stops. Running workers
    leave it to `_neglected`, so that a starved leader isn't replaced before its fetch is overdue.
    """
    if not ask.starts or state.meta is None or _precedes(state.owner, ask.me):
        return False
    if state.outcome is not Outcome.OPEN or state.holder != state.owner or state.grant != state.renewing:
        return False
    renewed = state.lease_until - state.lease_length
    old = passed(state.meta.confirmed_at, ask.interval * 3 // 2, clock)
    return old and passed(renewed, GRACE, clock)


def _silent(state: State, ask: Ask, clock: int, more: int = 0) -> bool:
    """Whether the leader was silent for the challenge time plus `more`, so that another worker gets a turn."""
    if state.meta is None:
        return False
    since = max(state.meta.confirmed_at if state.meta.confirmed_at <= clock else 0, state.led_since)
    return passed(since, ask.challenge + more, clock)


def _unused(state: State, ask: Ask, clock: int) -> bool:
    """Whether an empty store has a lease that no process uses: then any worker may take it.

    A fetch has been due for longer than the asker's longest lease, and none was granted. If the holder's own leases are
    longer, the asker fetches in its place, and the store is no longer empty. A fetch is under way as long as its holder
    renews the lease each second. A lease that expires soon is left alone.
    """
    if state.meta is not None or noted(state, ask, clock):
        return False
    if ask.doubts_lease and state.owner == ask.leader:
        return True
    longest = max(ask.lease, ask.cold_lease)
    if state.lease_until - clock <= GRACE or not passed(state.led_since, longest, clock):
        return False
    return _since_grant(state, ask, _pause(state, ask) + longest, clock) and not _renews(state, clock)


def _renews(state: State, clock: int) -> bool:
    """Whether the holder's fetch is under way, and it renewed its lease a moment ago."""
    renewed = state.lease_until - state.lease_length
    fetches = state.outcome is Outcome.OPEN and state.holder == state.owner
    return fetches and running(renewed + GRACE, GRACE, clock)


def _precedes(me: str, other: str) -> bool:
    """Whether the first is a refresher and the second a worker."""
    return me.startswith(REFRESHER) and not other.startswith(REFRESHER)


def elect(state: State, ask: Ask, clock: int) -> State:
    """Give the lease to the asker if it is free or already the asker's, or if it is the asker's turn.

    A refresher takes it from a worker at any time, except during the worker's first fetch, for which all wait.
    """
    if not ask.may_lead:
        return state
    lease = ask.lease if state.meta else ask.cold_lease
    if leads(state, ask.me, clock):
        return extend(state, ask.me, lease, clock)
    turn = state.holder != ask.me and _due(state, ask, clock) and _silent(state, ask, clock)
    first_fetch = state.meta is None and state.outcome is Outcome.OPEN
    missed = _neglected(state, ask, clock) or _abandoned(state, ask, clock) or _unused(state, ask, clock)
    displaced = turn or missed or (not first_fetch and _precedes(ask.me, state.owner))
    if leased(state, clock) and not displaced:
        return state
    state = state._replace(owner=ask.me, lease_until=clock + lease, lease_length=lease, led_since=clock)
    return state._replace(deputy="", deputy_seen=0) if state.deputy == ask.me else state


def appoint(state: State, ask: Ask, clock: int) -> State:
    """Make the asker deputy if there is none, or none that looked recently; record that the deputy looks.

    The deputy's other polls change nothing here, so that an unchanged poll writes nothing.
    """
    if not ask.listens or leads(state, ask.me, clock):
        return state
    if state.deputy == ask.me:
        return state._replace(deputy_seen=clock) if ask.watches else state
    if state.deputy and not passed(state.deputy_seen, 2 * (ask.interval + GRACE), clock):
        return state
    return state._replace(deputy=ask.me, deputy_seen=clock)


def fenced(state: State, as_of: int) -> bool:
    """Whether a later grant counts against definitions that were fetched on this one.

    If its holder reports, nothing has to be assumed, because what it found is stored. A holder that does not report may
    have found newer definitions, or the same ones, without saying so.
    """
    silent = state.grant != state.reporting and state.outcome is not Outcome.FAILED
    return as_of < max(state.fence, state.grant if silent else 0)


def grant(state: State, ask: Ask, held: Order | None, clock: int) -> tuple[State, Grant | None]:
    """Return a grant for the leader: a lost one again, the regular one, or one after a holder that died or failed."""
    if noted(state, ask, clock):
        return state, None
    due = _due(state, ask, clock)  # then a new one: the lost one would date definitions long before their fetch
    lost = not due and state.holder == ask.me and state.outcome is Outcome.OPEN and state.grant > ask.last_grant
    if lost and (held is None or state.grant > held.as_of):  # else what it brought would be refused as late
        return state, Grant(state.epoch, state.grant, state.granted[0])
    silent = state.holder == ask.me and _silent(state, ask, clock)
    if silent and not _silent(state, ask, clock, ask.interval * 9 // 10):
        return state, None  # challenged: from now on the others have an interval to take this turn
    followed = (
        ask.doubts_lease and state.meta is None and state.led_since == clock
    )  # whatever the doubted leader was granted
    if not due and not followed and not _follows(state, ask, held, clock):
        return state, None
    as_of = max(clock, state.highest + 1, ask.last_grant + 1, held.as_of + 1 if held else 0)
    silent_before = state.grant != state.reporting and state.outcome is not Outcome.FAILED
    state = state._replace(
        highest=as_of,
        grant=as_of,
        reporting=as_of if ask.reports else state.reporting,
        renewing=as_of if ask.listens else state.renewing,
        fence=max(state.fence, state.grant) if silent_before else state.fence,
        granted=(clock, *state.granted[:2]),
        holder=ask.me,
        outcome=Outcome.OPEN,
        led_since=clock if silent else state.led_since,
    )
    return state, Grant(state.epoch, as_of, clock)


def announced(before: State, ask: Ask, reply: Reply) -> Notice | None:
    """Return the notice of a grant by a store that had lost its memory, as the asker's memory shows.

    It knew of no earlier grant, although the asker does or holds definitions. It may lose its memory again before
    others ask; then each uses its own memory, so all must know of this grant.
    """
    lost = not before.granted[0] and (ask.grant_age >= 0 or ask.held is not None)
    return Notice(GRANTED, reply.grant.epoch, str(reply.grant.as_of)) if lost and reply.grant is not None else None


def _follows(state: State, ask: Ask, held: Order | None, clock: int) -> bool:
    """Whether the leader may fetch at once because the latest grant brought nothing."""
    if state.failures >= GRANTS_PER_INTERVAL or not passed(state.granted[GRANTS_PER_INTERVAL - 1], ask.interval, clock):
        return False
    if state.outcome is Outcome.FAILED:
        return True
    if state.outcome is Outcome.OPEN:
        # The asker leads, so the holder lost the lease: it died. Or the asker took the lease, and its fetch still runs.
        return state.holder != ask.me and (state.meta is None or not _precedes(ask.me, state.holder))
    return state.meta is None and (held is None or held.epoch < state.epoch)  # what it brought is lost, or was cleared


def is_fetching(state: State, ask: Ask, clock: int) -> bool:
    """Whether another process is fetching, as far as can be told: worth waiting for.

    If the leader's SDK fetches, only its first grant counts. The SDK doesn't report "unchanged", so a later grant looks
    open until the next poll, and what the leader confirmed before is not old. For a holder that died, processes wait as
    long as on an empty store: until a cold lease has passed since it last took or renewed its lease.
    """
    if state.outcome is not Outcome.OPEN or state.holder in ("", ask.me):
        return False
    if state.led_since < state.granted[0] and state.grant != state.reporting:
        return False
    renewed = state.lease_until - state.lease_length
    return leads(state, state.holder, clock) and running(renewed + ask.cold_lease, ask.cold_lease, clock)


def is_exhausted(state: State) -> bool:
    """Whether so many fetches failed one after the other that no worker may fetch before the next one is due."""
    return state.outcome is Outcome.FAILED and state.failures >= GRANTS_PER_INTERVAL
