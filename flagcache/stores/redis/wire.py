"""Converts the arguments of `poll.lua`, the scripts' replies and the channel's messages from and to values.

An invalid reply or message raises `TypeError` or `ValueError`.
"""

from __future__ import annotations

from typing import cast

from flagcache.runtime.text import printable
from flagcache.stores.base import Ask, Grant, Meta, Notice, Reply, Snapshot

__all__ = [
    "LONGEST_NOTICE",
    "as_flag",
    "as_list",
    "as_text",
    "as_whole",
    "poll_arguments",
    "read_notice",
    "read_reply",
    "read_snapshot",
]


LONGEST_NOTICE = 200
"""The most bytes of a notice; a longer message is none."""


def poll_arguments(ask: Ask, database: int, forget_after: int) -> tuple[str | int, ...]:
    """Return ARGV[2] to ARGV[19] of `poll.lua`.

    Args:
        ask: the poll.
        database: the number of the database.
        forget_after: milliseconds after which everything expires unless a leader writes; 0: never.
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


def read_notice(message: bytes) -> Notice:
    """Read a notice; any other message on the channel still means: ask."""
    kind, _, rest = message.decode("utf-8", "replace").partition(" ")
    epoch, _, version = rest.partition(" ")
    return Notice(printable(kind), int(epoch) if epoch.isdecimal() else 0, printable(version))


_NO_NEWS = [0, 0, 0, 0, 0]
"""Grant, note, metadata, payload and leader in the usual reply of `poll`."""

_NUMBERS = (int,) * 10


def read_reply(raw: object) -> Reply:
    """Read the reply of `poll`."""
    parts = cast("list[object]", raw) if isinstance(raw, list) else []
    if parts[5:] == _NO_NEWS and tuple(map(type, parts)) == _NUMBERS:
        clock, leads, lease_left, granted_at, bits = cast("list[int]", parts[:5])
        return Reply(
            clock,
            bool(leads),
            lease_left,
            granted_at,
            unchanged=bits & 1 != 0,
            republish=bits & 2 != 0,
            deputy=bits & 4 != 0,
            fetching=bits & 8 != 0,
            exhausted=bits & 16 != 0,
            too_large=bits & 32 != 0,
        )
    return _read_news(parts)


def _read_news(raw: list[object]) -> Reply:
    clock, leads, lease_left, granted_at, bits, grant, note, meta, payload, leader, *epoch = raw
    number, epoch_stamp = as_list(epoch[0]) if epoch else (-1, b"")
    status, backoff_left, backoff_stamp = as_list(note) if note else (0, 0, b"")
    return Reply(
        clock=as_whole(clock),
        leads=bool(leads),
        lease_left=as_whole(lease_left),
        granted_at=as_whole(granted_at),
        grant=Grant(*(as_whole(n) for n in as_list(grant))) if grant else None,
        unchanged=bool(as_whole(bits) & 1),
        meta=_read_meta(meta) if meta else None,
        payload=payload if isinstance(payload, bytes) else None,
        republish=bool(as_whole(bits) & 2),
        backoff_status=as_whole(status),
        backoff_left=as_whole(backoff_left),
        backoff_stamp=as_text(backoff_stamp),
        deputy=bool(as_whole(bits) & 4),
        fetching=bool(as_whole(bits) & 8),
        exhausted=bool(as_whole(bits) & 16),
        leader=None if leader == 0 else _as_name(leader),
        too_large=bool(as_whole(bits) & 32),
        epoch=as_whole(number),
        epoch_stamp=as_text(epoch_stamp),
    )


def _read_meta(raw: object) -> Meta:
    version, etag, writer, project, epoch, as_of, changed_at, confirmed_at, stamp = as_list(raw)
    return Meta(
        version=as_text(version),
        etag=as_text(etag),
        writer=_as_name(writer),
        project=_as_name(project),
        epoch=as_whole(epoch),
        as_of=as_whole(as_of),
        changed_at=as_whole(changed_at),
        confirmed_at=as_whole(confirmed_at),
        stamp=as_text(stamp),
    )


def read_snapshot(raw: object) -> Snapshot:
    """Read the reply of `inspect`."""
    clock, epoch, meta, size, leader, lease_left, granted_at, holder, status, backoff_left = as_list(raw)
    return Snapshot(
        clock=as_whole(clock),
        epoch=as_whole(epoch),
        meta=_read_meta(meta) if meta else None,
        payload_size=as_whole(size),
        leader=_as_name(leader),
        lease_left=as_whole(lease_left),
        granted_at=as_whole(granted_at),
        grant_holder=_as_name(holder),
        backoff_status=as_whole(status),
        backoff_left=as_whole(backoff_left),
    )


def as_list(raw: object) -> list[object]:
    """Return it if it is a list."""
    if not isinstance(raw, list):
        raise TypeError
    return cast("list[object]", raw)


def as_whole(raw: object) -> int:
    """Return it if it is a whole number."""
    if not isinstance(raw, int):
        raise TypeError
    return raw


def as_flag(raw: object) -> bool:
    """Whether this whole number is not 0."""
    return bool(as_whole(raw))


def as_text(raw: object) -> str:
    """Decode it if it is bytes."""
    if not isinstance(raw, bytes):
        raise TypeError
    return raw.decode("utf-8", "replace")


def _as_name(raw: object) -> str:
    """Decode a text for people."""
    return printable(as_text(raw))
