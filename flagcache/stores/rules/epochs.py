"""The epoch: how `clear` raises it, and how a lost or unsigned one is replaced. Pure."""

from __future__ import annotations

from flagcache.stores.base import Ask, Notice, Order
from flagcache.stores.rules.leases import hurry
from flagcache.stores.rules.state import State

__all__ = ["clear", "with_epoch_of"]


def clear(state: State, clock: int, stamp: str = "") -> tuple[State, Notice]:
    """Forget definitions, grants and notes, and raise the epoch; the lease stays if its holder fetches at once.

    An epoch that was too high is replaced by the clock's time, which no counted epoch reaches.
    """
    epoch, state = clock if state.invalid_epoch else state.epoch + 1, hurry(state, clock)
    kept = State(
        epoch=epoch,
        epoch_stamp=stamp,
        highest=state.highest,
        owner=state.owner,
        lease_until=state.lease_until,
        lease_length=state.lease_length,
        led_since=state.led_since,
        deputy=state.deputy,
        deputy_seen=state.deputy_seen,
    )
    return kept, Notice("clear", epoch, "")


def with_epoch_of(state: State, held: Order, ask: Ask) -> State:
    """Return the state with the epoch of what the asker holds, if the store has lost it or has an unsigned one."""
    if held.epoch > state.epoch:
        return _restore_epoch(state, held)._replace(epoch_stamp=ask.epoch_stamp)
    if held.epoch < state.epoch == ask.unsigned_epoch and state.epoch_stamp == ask.doubted_stamp:
        meta = state.meta and state.meta._replace(epoch=held.epoch)
        return state._replace(epoch=held.epoch, epoch_stamp=ask.epoch_stamp, meta=meta)
    return state


def _restore_epoch(state: State, held: Order) -> State:
    """Restore the epoch that the store has lost, from a process that knows it.

    What was fetched since then gets that epoch. Definitions older than the asker's may be what people cleared, and in
    the new epoch they would count as newer than later ones of the old epoch. So they are dropped, and the asker brings
    back its own.
    """
    if state.meta is None:
        return state._replace(epoch=held.epoch)
    if state.meta.as_of < held.as_of:
        return state._replace(epoch=held.epoch, meta=None, repair_asked=0)
    return state._replace(epoch=held.epoch, meta=state.meta._replace(epoch=held.epoch))
