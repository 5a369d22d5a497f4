"""The arguments of `poll.lua`, made from a poll."""

from __future__ import annotations

from flagcache.stores.base import Ask

__all__ = ["poll_arguments"]


def poll_arguments(ask: Ask) -> tuple[str | int, ...]:
    """Return ARGV[2] to ARGV[16] of `poll.lua`."""
    held = ask.held
    return (
        *(ask.interval, ask.lease, ask.cold_lease, ask.challenge, int(ask.may_lead), int(ask.idle)),
        *(ask.last_grant, ask.grant_age),
        *((_epoch_of(ask, held.epoch), held.as_of) if held else (-1, 0)),
        *(ask.held_age, ask.held_version, ask.backoff),
        ask.reports + 2 * ask.watches + 4 * ask.listens + 8 * ask.starts + 16 * ask.doubts_lease + _beliefs(ask),
        ask.leader,
    )


def _beliefs(ask: Ask) -> int:
    return 32 * ask.ignores_backoff + 64 * ask.has_key


def _epoch_of(ask: Ask, epoch: int) -> int | str:
    """The epoch of what is held. A process with a key adds its stamp, and epoch and stamp that it doesn't believe."""
    if ask.unsigned_epoch:
        return f"{epoch}:{ask.epoch_stamp}:{ask.unsigned_epoch}:{ask.doubted_stamp}"
    return f"{epoch}:{ask.epoch_stamp}:" if ask.epoch_stamp else epoch
