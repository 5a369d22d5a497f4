"""The verbs of a store, as pure functions of its state: the one definition of what they do.

The memory and the SQLite store run these functions under their lock or in their transaction; `stores/redis/*.lua` do
the same in Lua, and the contract suite compares them. There is no clock and no I/O: the store's time is an argument,
the state is one immutable value, and a verb that changes nothing returns the same state object.
"""

from __future__ import annotations

from flagcache.stores.base import (
    Ask,
    Envelope,
    Grant,
    Meta,
    Notice,
    Order,
    Published,
    Replacing,
    Reply,
    Scope,
    Snapshot,
)
from flagcache.stores.rules.epochs import clear, with_epoch_of
from flagcache.stores.rules.leases import (
    announced,
    appoint,
    elect,
    extend,
    fenced,
    grant,
    hurry,
    is_exhausted,
    is_fetching,
    leads,
    leased,
    noted,
)
from flagcache.stores.rules.replacing import may_replace, renew_protection, replaces_payload, report
from flagcache.stores.rules.state import Outcome, State, passed, running

__all__ = [
    "REPUBLISH_EVERY",
    "Outcome",
    "State",
    "announced",
    "clear",
    "confirm",
    "discard",
    "fail",
    "poll",
    "publish",
    "release",
    "renew",
    "replaces_payload",
    "report",
    "snapshot",
]

REPUBLISH_EVERY = 1000
"""Milliseconds between two askers that are asked to repair the store, so that not all do it at once."""


def poll(state: State, ask: Ask, clock: int, *, size: int = 0) -> tuple[State, Reply]:
    """Decide lease and grant, and what the asker lacks. The store fills in `payload`.

    The reply's `payload` is `b""` if the payload, of `size` bytes, is to be sent.
    """
    held = _held_here(state, ask, clock)
    state = with_epoch_of(state, held, ask) if held is not None else state
    state = _end_idle_grant(state, ask.me, ask.last_grant) if ask.idle else state
    state = elect(state, ask, clock)
    leading = leads(state, ask.me, clock)
    state, granted = grant(state, ask, held, clock) if leading and ask.may_lead else (state, None)
    state = appoint(state, ask, clock)
    unchanged = _unchanged(state.meta, ask)
    newer = state.meta is not None and not unchanged and (held is None or state.meta.order >= held)
    older = held is not None and not unchanged and not newer and held.epoch == state.epoch
    republish = older and passed(state.repair_asked, REPUBLISH_EVERY, clock)
    if republish:
        state = state._replace(repair_asked=clock)
    lease_left = state.lease_until - clock if leased(state, clock) else 0
    backoff_left = state.backoff_until - clock if noted(state, ask, clock) else 0
    leader = state.owner if leased(state, clock) else ""
    told = ask.has_key and state.epoch != (ask.held.epoch if ask.held else 0)
    wanted = newer and state.meta is not None and state.meta.version != ask.held_version
    return state, Reply(
        clock=clock,
        leads=leading,
        lease_left=lease_left,
        granted_at=state.granted[0],
        grant=granted,
        unchanged=unchanged,
        meta=None if unchanged else state.meta,
        payload=b"" if wanted and size <= ask.max_payload else None,
        republish=republish,
        backoff_status=state.backoff_status,
        backoff_left=backoff_left,
        backoff_stamp=state.backoff_stamp if state.backoff_status or backoff_left or is_exhausted(state) else "",
        deputy=state.deputy == ask.me,
        fetching=is_fetching(state, ask, clock),
        exhausted=is_exhausted(state),
        leader=None if leader == ask.leader else leader,
        too_large=wanted and size > ask.max_payload,
        epoch=state.epoch if told else -1,
        epoch_stamp=state.epoch_stamp if told else "",
    )


def publish(  # noqa: PLR0913 - the verb's arguments, and what every verb gets: state and clock
    state: State,
    me: str,
    envelope: Envelope,
    clock: int,
    *,
    fresh: bool,
    lease: int,
    replacing: Replacing | None = None,
) -> tuple[State, Published, Notice | None]:
    """Accept definitions newer than the stored ones; refuse a late writer."""
    if replacing is not None:
        if not may_replace(state, envelope.meta, replacing, clock):
            return state, Published.STALE, None
        state = state._replace(meta=None, replaced_at=clock)
    return _accept(state, me, envelope.meta, clock, fresh=fresh, lease=lease)


def _accept(
    state: State, me: str, meta: Meta, clock: int, *, fresh: bool, lease: int
) -> tuple[State, Published, Notice | None]:
    stored = state.meta
    answers_grant = fresh and meta.as_of == state.grant and me == state.holder
    if answers_grant:  # the store gave the grant, so the definitions have its epoch
        meta = meta._replace(epoch=state.epoch)
    same = stored is not None and stored.version == meta.version
    if meta.epoch < state.epoch:
        return state, Published.STALE, None
    if stored is not None and meta.order <= stored.order:
        kept = extend(renew_protection(state, meta, stored), me, lease, clock)
        return (kept, Published.CONFIRMED, None) if same else (state, Published.STALE, None)
    if fresh and stored is not None and fenced(state, meta.as_of):
        return state, Published.UNSETTLED, None
    if same and stored is not None:
        meta = meta._replace(changed_at=stored.changed_at, etag=meta.etag or stored.etag)
    noted = state.backoff_status
    state = state._replace(meta=meta, epoch=meta.epoch, highest=max(state.highest, meta.as_of))
    if fresh:
        state = _answered(state, me, meta.as_of)
    state = extend(state, me, lease, clock)
    if same:
        return state, Published.CONFIRMED, _note_ended(state, noted) or _signed(state, stored)
    return state, Published.STORED, Notice("new", meta.epoch, meta.version)


def confirm(  # noqa: PLR0913 - the verb's arguments, and what every verb gets: state and clock
    state: State, me: str, version: str, grant: Grant, clock: int, *, lease: int, stamp: str = ""
) -> tuple[State, bool, Notice | None]:
    """Move the ages of the stored version forward to the grant's time."""
    if state.meta is None or state.meta.version != version:
        return state, False, None
    noted, first, before = state.backoff_status, state.meta.confirmed_at < state.led_since, state.meta
    as_of = max(state.meta.as_of, grant.as_of)
    moved = as_of > state.meta.as_of
    meta = state.meta._replace(as_of=as_of, confirmed_at=grant.at, stamp=stamp) if moved else state.meta
    state = state._replace(meta=meta, highest=max(state.highest, as_of))
    state = extend(_answered(state, me, grant.as_of), me, lease, clock)
    return state, True, _note_ended(state, noted) or _signed(state, before) or _deputy_wanted(state, first=first)


def discard(state: State, version: str, clock: int) -> tuple[State, bool, Notice | None]:
    """Forget the stored definitions if they are still this version, and notify their holders. Grants stay."""
    if state.meta is None or state.meta.version != version:
        return state, False, None
    return hurry(state._replace(meta=None, repair_asked=0), clock), True, Notice("note", state.epoch, "")


def fail(  # noqa: PLR0913 - the verb's arguments, and what every verb gets: state and clock
    state: State,
    me: str,
    as_of: int,
    scope: Scope,
    clock: int,
    *,
    status: int,
    retry_after: int,
    stamp: str = "",
) -> tuple[State, bool, Notice | None]:
    """Close the latest grant as failed; `MINE` gives up the lease, `EVERYBODY` leaves a note for all."""
    if state.holder != me or state.grant != as_of:
        return state, False, None
    state = state._replace(outcome=Outcome.FAILED, failures=state.failures + 1)
    version = state.meta.version if state.meta else ""
    if scope is Scope.EVERYBODY:
        notice = Notice("note", state.epoch, version) if status != state.backoff_status else None
        until = clock + retry_after
        state = state._replace(
            backoff_status=status, backoff_until=until, backoff_length=retry_after, backoff_stamp=stamp
        )
        return state, True, notice
    if not state.backoff_status:
        state = state._replace(backoff_stamp=stamp)
    if not leads(state, me, clock):
        return state, True, None
    return state._replace(owner="", lease_until=0), True, Notice("free", state.epoch, version)


def renew(state: State, me: str, lease: int, clock: int) -> tuple[State, bool]:
    """Keep the lease, if it is held."""
    if not leads(state, me, clock):
        return state, False
    return extend(state, me, lease, clock), True


def release(state: State, me: str, clock: int, *, idle: bool) -> tuple[State, bool, Notice | None]:
    """Give up the lease, and notify if it was held."""
    if idle:
        state = _end_idle_grant(state, me, state.grant)
    if state.deputy == me:
        state = state._replace(deputy="", deputy_seen=0)
    if not leads(state, me, clock):
        return state, False, None
    version = state.meta.version if state.meta else ""
    return state._replace(owner="", lease_until=0), True, Notice("free", state.epoch, version)


def snapshot(state: State, payload_size: int, clock: int) -> Snapshot:
    """Return everything stored, for people."""
    held = leased(state, clock)
    noted = running(state.backoff_until, state.backoff_length, clock)
    return Snapshot(
        clock=clock,
        epoch=state.epoch,
        meta=state.meta,
        payload_size=payload_size,
        leader=state.owner if held else "",
        lease_left=state.lease_until - clock if held else 0,
        granted_at=state.granted[0],
        grant_holder=state.holder,
        backoff_status=state.backoff_status,
        backoff_left=state.backoff_until - clock if noted else 0,
    )


def _held_here(state: State, ask: Ask, clock: int) -> Order | None:
    """Return the order of what the asker holds, in this store's time.

    An `as_of` that another store granted, or that lies ahead of the clock (which was stepped back, or belongs to a
    server that took over), would count as newer than all later ones. The age on the asker's own clock is right.
    """
    if ask.held is None or (ask.held.as_of and _unchanged(state.meta, ask)):
        return ask.held
    if 0 < ask.held.as_of <= clock:
        return ask.held
    return Order(ask.held.epoch, max(1, clock - ask.held_age))


def _unchanged(meta: Meta | None, ask: Ask) -> bool:
    return meta is not None and meta.order == ask.held and meta.version == ask.held_version


def _end_idle_grant(state: State, me: str, last_grant: int) -> State:
    """End the grant of a fetch that brought nothing: no worker needs to repeat it."""
    if state.outcome is Outcome.OPEN and state.holder == me and state.grant == last_grant:
        return state._replace(outcome=Outcome.DONE)
    return state


def _answered(state: State, me: str, as_of: int) -> State:
    """Record that the fetch of this grant succeeded; this also ends a note that kept all workers from fetching."""
    if state.holder == me and state.grant == as_of:
        state = state._replace(outcome=Outcome.DONE)
    if as_of < state.grant:
        return state
    return state._replace(failures=0, backoff_status=0, backoff_until=0, backoff_length=0, backoff_stamp="")


def _note_ended(state: State, noted: int) -> Notice | None:
    if not noted or state.backoff_status or state.meta is None:
        return None
    return Notice("note", state.epoch, state.meta.version)


def _signed(state: State, before: Meta | None) -> Notice | None:
    """Return a notice if unsigned times are signed now: processes with a key doubted them, and ask at once."""
    if before is None or before.stamp or state.meta is None or not state.meta.stamp:
        return None
    return Notice("note", state.epoch, state.meta.version)


def _deputy_wanted(state: State, *, first: bool) -> Notice | None:
    """Return a notice of a new leader's first confirmation without a deputy: the first follower to ask becomes it."""
    if not first or state.deputy or state.meta is None:
        return None
    return Notice("note", state.epoch, state.meta.version)
