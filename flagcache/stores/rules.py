"""What each verb of a store does to what is stored: pure, and the one definition of it.

The memory and the SQLite store run these functions under their lock or transaction; `redis_*.lua` say the same in Lua,
and the contract suite holds them to it. No clock, no I/O: the store's clock comes in as an argument, the state is one
immutable value, and a verb that changes nothing returns the very same state.
"""

from __future__ import annotations

from dataclasses import replace

from flagcache.stores.base import Ask, Envelope, Grant, Meta, Notice, Order, Published, Reply, Scope, Snapshot
from flagcache.stores.state import Outcome, State, passed, running

__all__ = [
    "GRANTS_PER_INTERVAL",
    "REPUBLISH_EVERY",
    "Outcome",
    "State",
    "clear",
    "confirm",
    "discard",
    "fail",
    "poll",
    "publish",
    "release",
    "renew",
    "snapshot",
]

GRANTS_PER_INTERVAL = 3
"""How many grants one interval may see when the holders of the first ones died or failed."""

REPUBLISH_EVERY = 1000
"""Milliseconds between two askers who are told to repair the store, so that not all do it at once."""


def poll(state: State, ask: Ask, clock: int) -> tuple[State, Reply]:
    """Decide lease and grant, and find out what the asker lacks. `payload` is left for the store to fill in.

    The reply's `payload` is `b""` where the payload is to be sent.
    """
    held = _held_here(state, ask, clock)
    if held is not None and held.epoch > state.epoch:  # the store has lost its epoch: whoever knows it tells
        meta = state.meta and replace(state.meta, epoch=held.epoch)
        state = replace(state, epoch=held.epoch, meta=meta)
    state = _end_idle_grant(state, ask.me, ask.last_grant) if ask.idle else state
    state = _elect(state, ask, clock)
    leads = _leads(state, ask.me, clock)
    state, grant = _grant(state, ask, held, clock) if leads and ask.may_lead else (state, None)
    unchanged = _unchanged(state.meta, ask)
    newer = state.meta is not None and not unchanged and (held is None or state.meta.order >= held)
    older = held is not None and not unchanged and not newer and held.epoch == state.epoch
    republish = older and passed(state.repair_asked, REPUBLISH_EVERY, clock)
    if republish:
        state = replace(state, repair_asked=clock)
    lease_left = state.lease_until - clock if _leased(state, clock) else 0
    note_left = state.note_until - clock if running(state.note_until, state.note_length, clock) else 0
    wanted = newer and state.meta is not None and state.meta.version != ask.held_version
    return state, Reply(
        clock=clock,
        leads=leads,
        lease_left=lease_left,
        granted_at=state.granted[0],
        grant=grant,
        unchanged=unchanged,
        meta=None if unchanged else state.meta,
        payload=b"" if wanted else None,
        republish=republish,
        note_status=state.note_status if note_left else 0,
        note_left=note_left,
    )


def publish(
    state: State, me: str, envelope: Envelope, clock: int, *, fresh: bool, lease: int
) -> tuple[State, Published, Notice | None]:
    """Accept what is newer than what is stored; refuse a late writer."""
    meta, stored = envelope.meta, state.meta
    answers_grant = fresh and meta.as_of == state.grant and me == state.holder
    if answers_grant:  # the grant is the store's own, and so is its epoch
        meta = replace(meta, epoch=state.epoch)
    late = fresh and stored is not None and meta.as_of < state.grant
    if late or meta.epoch < state.epoch or (stored is not None and meta.order <= stored.order):
        return state, Published.STALE, None
    same = stored is not None and stored.version == meta.version
    if same and stored is not None:
        meta = replace(meta, changed_at=stored.changed_at, etag=meta.etag or stored.etag)
    state = replace(state, meta=meta, epoch=meta.epoch, highest=max(state.highest, meta.as_of))
    if fresh:
        state = _answered(state, me, meta.as_of)
    state = _extend(state, me, lease, clock)
    if same:
        return state, Published.CONFIRMED, None
    return state, Published.STORED, Notice("new", meta.epoch, meta.version)


def confirm(state: State, me: str, version: str, grant: Grant, clock: int, *, lease: int) -> tuple[State, bool]:
    """Move the ages of the stored version forward to the grant's time."""
    if state.meta is None or state.meta.version != version:
        return state, False
    as_of = max(state.meta.as_of, grant.as_of)
    moved = as_of > state.meta.as_of
    meta = replace(state.meta, as_of=as_of, confirmed_at=grant.at) if moved else state.meta
    state = replace(state, meta=meta, highest=max(state.highest, as_of))
    return _extend(_answered(state, me, grant.as_of), me, lease, clock), True


def discard(state: State, version: str) -> tuple[State, bool]:
    """Forget the stored definitions if they are still this version. Grants and lease stay."""
    if state.meta is None or state.meta.version != version:
        return state, False
    return replace(state, meta=None, repair_asked=0), True


def fail(  # noqa: PLR0913 - the verb's arguments, and what every verb gets: state and clock
    state: State, me: str, as_of: int, scope: Scope, clock: int, *, status: int, retry_after: int
) -> tuple[State, bool]:
    """Close the latest grant as failed; `MINE` gives up the lease, `EVERYBODY` leaves a note for all."""
    if state.holder != me or state.grant != as_of:
        return state, False
    state = replace(state, outcome=Outcome.FAILED)
    if scope is Scope.EVERYBODY:
        return replace(state, note_status=status, note_until=clock + retry_after, note_length=retry_after), True
    return (replace(state, owner="", lease_until=0) if state.owner == me else state), True


def renew(state: State, me: str, lease: int, clock: int) -> tuple[State, bool]:
    """Keep the lease, if it is held."""
    if not _leads(state, me, clock):
        return state, False
    return _extend(state, me, lease, clock), True


def release(state: State, me: str, clock: int, *, idle: bool) -> tuple[State, bool, Notice | None]:
    """Give up the lease, and say so if it was held."""
    if idle:
        state = _end_idle_grant(state, me, state.grant)
    if not _leads(state, me, clock):
        return state, False, None
    version = state.meta.version if state.meta else ""
    return replace(state, owner="", lease_until=0), True, Notice("free", state.epoch, version)


def clear(state: State) -> tuple[State, Notice]:
    """Forget definitions, grants and notes, and raise the epoch; the lease stays."""
    epoch = state.epoch + 1
    kept = State(
        epoch=epoch,
        highest=state.highest,
        owner=state.owner,
        lease_until=state.lease_until,
        lease_length=state.lease_length,
        led_since=state.led_since,
    )
    return kept, Notice("clear", epoch, "")


def snapshot(state: State, payload_size: int, clock: int) -> Snapshot:
    """Everything stored, for people."""
    leased = _leased(state, clock)
    noted = running(state.note_until, state.note_length, clock)
    return Snapshot(
        clock=clock,
        epoch=state.epoch,
        meta=state.meta,
        payload_size=payload_size,
        leader=state.owner if leased else "",
        lease_left=state.lease_until - clock if leased else 0,
        granted_at=state.granted[0],
        grant_holder=state.holder,
        note_status=state.note_status if noted else 0,
        note_left=state.note_until - clock if noted else 0,
    )


def _held_here(state: State, ask: Ask, clock: int) -> Order | None:
    """What the asker holds, in this store's time.

    An `as_of` that another store granted, or that lies ahead of the clock (which was stepped back, or belongs to a
    server that took over), would order as newer than all that comes; the age on the asker's own clock does not lie.
    """
    if ask.held is None or (ask.held.as_of and _unchanged(state.meta, ask)):
        return ask.held
    if 0 < ask.held.as_of <= clock:
        return ask.held
    return Order(ask.held.epoch, max(1, clock - ask.held_age))


def _unchanged(meta: Meta | None, ask: Ask) -> bool:
    return meta is not None and meta.order == ask.held and meta.version == ask.held_version


def _leased(state: State, clock: int) -> bool:
    return bool(state.owner) and running(state.lease_until, state.lease_length, clock)


def _leads(state: State, me: str, clock: int) -> bool:
    return state.owner == me and _leased(state, clock)


def _extend(state: State, me: str, lease: int, clock: int) -> State:
    if not _leads(state, me, clock):
        return state
    return replace(state, lease_until=clock + lease, lease_length=lease)


def _end_idle_grant(state: State, me: str, last_grant: int) -> State:
    """A fetch that brought nothing has come back: the grant is over, and nobody need follow its holder."""
    if state.outcome is Outcome.OPEN and state.holder == me and state.grant == last_grant:
        return replace(state, outcome=Outcome.DONE)
    return state


def _answered(state: State, me: str, as_of: int) -> State:
    """The fetch of this grant succeeded; a note that kept all from fetching is out of date too."""
    if state.holder == me and state.grant == as_of:
        state = replace(state, outcome=Outcome.DONE)
    return replace(state, note_status=0, note_until=0, note_length=0) if as_of >= state.grant else state


def _due(state: State, ask: Ask, clock: int) -> bool:
    """Whether the refresh interval, less a tenth for workers that poll a little early, is over."""
    interval = ask.interval * 9 // 10
    return passed(state.granted[0], interval, clock) and not 0 <= ask.grant_age < interval


def _silent(state: State, ask: Ask, clock: int) -> bool:
    """The leader has brought nothing to light for so long that another worker is to have a turn."""
    if state.meta is None:
        return False
    since = max(state.meta.confirmed_at if state.meta.confirmed_at <= clock else 0, state.led_since)
    return passed(since, ask.challenge, clock)


def _elect(state: State, ask: Ask, clock: int) -> State:
    if not ask.may_lead:
        return state
    lease = ask.lease if state.meta else ask.cold_lease
    if _leads(state, ask.me, clock):
        return _extend(state, ask.me, lease, clock)
    turn = state.holder != ask.me and _due(state, ask, clock) and _silent(state, ask, clock)
    if _leased(state, clock) and not turn:
        return state
    return replace(state, owner=ask.me, lease_until=clock + lease, lease_length=lease, led_since=clock)


def _grant(state: State, ask: Ask, held: Order | None, clock: int) -> tuple[State, Grant | None]:
    """A grant for the leader: a lost one again, the regular one, or one that follows a holder who died or failed."""
    if running(state.note_until, state.note_length, clock):
        return state, None
    if state.holder == ask.me and state.outcome is Outcome.OPEN and state.grant > ask.last_grant:
        return state, Grant(state.epoch, state.grant, state.granted[0])
    silent = state.holder == ask.me and _silent(state, ask, clock)
    if silent and not passed(state.granted[0], ask.interval * 19 // 10, clock):
        return state, None  # challenged: the others have one interval to take this turn
    if not _due(state, ask, clock) and not _follows(state, ask, held, clock):
        return state, None
    as_of = max(clock, state.highest + 1, ask.last_grant + 1, held.as_of + 1 if held else 0)
    state = replace(
        state,
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
    if not passed(state.granted[GRANTS_PER_INTERVAL - 1], ask.interval, clock):
        return False
    if state.holder != ask.me and state.outcome is not Outcome.DONE:
        return True  # died (it has lost the lease, for I lead) or failed
    return state.meta is None and held is None and state.outcome is Outcome.DONE  # what it brought is lost
