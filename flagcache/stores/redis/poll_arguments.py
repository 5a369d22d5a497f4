"""The arguments of `poll.lua`, made from a poll."""

from __future__ import annotations

from flagcache.stores.base import Ask

__all__ = ["poll_arguments"]


def poll_arguments(ask: Ask, database: int, forget_after: int) -> tuple[str | int, ...]:
    """Return ARGV[2] to ARGV[19] of `poll.lua`.

    Args:
        ask: the poll.
        database: the number of the database.
        forget_after: milliseconds after which all goes unless a leader writes; 0: never.
    """
    held = ask.held
    epoch: str | int = held.epoch if held else -1
    if held and ask.unsigned_epoch:  # from a process with a key, which doesn't believe the stored epoch and its stamp
        epoch = f"{epoch}:{ask.epoch_stamp}:{ask.unsigned_epoch}:{ask.doubted_stamp}"
    elif held and ask.epoch_stamp:
        epoch = f"{epoch}:{ask.epoch_stamp}:"
    bits = ask.reports + 2 * ask.watches + 4 * ask.listens + 8 * ask.starts + 16 * ask.doubts_lease
    return (
        *(ask.interval, ask.lease, ask.cold_lease, ask.challenge, int(ask.may_lead), int(ask.idle)),
        *(ask.last_grant, ask.grant_age),
        *(epoch, held.as_of if held else 0, ask.held_age, ask.held_version, ask.backoff),
        *(bits + 32 * ask.ignores_backoff + 64 * ask.has_key, ask.leader),
        *(database, forget_after, ask.max_payload),
    )
