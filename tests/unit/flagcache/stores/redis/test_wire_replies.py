"""What scripts reply and the channel carries, as values; anything else is an error."""

from __future__ import annotations

import pytest

from flagcache.stores.base import Grant, Meta, Notice
from flagcache.stores.redis.wire import as_flag, as_list, as_text, as_whole, read_notice, read_reply, read_snapshot

META = [b"v1", b"tag", b"writer\n", b"team=1", 2, 30, 10, 20, b"stamp"]
READ = Meta("v1", 2, 30, 10, 20, "tag", "writer?", "team=1", "stamp")
UNKNOWN = [1000, 0, 0, 0, 0, 0, 0, 0, 0, b""]


@pytest.mark.parametrize(
    ("message", "notice"),
    [
        (b"new 3 v1", Notice("new", 3, "v1")),
        (b"free 0 ", Notice("free", 0, "")),
        (b"new", Notice("new", 0, "")),
        (b"", Notice("", 0, "")),
        (b"new -1 v1", Notice("new", 0, "v1")),
        (b"\xff\x1b[0m x y z", Notice("\ufffd?[0m", 0, "y z")),
    ],
)
def test_every_message_is_a_notice(message: bytes, notice: Notice) -> None:
    """Whatever is on the channel says: ask. What people see of it prints."""
    assert read_notice(message) == notice


def test_a_reply_is_read_field_by_field() -> None:
    """Each bit of a reply has its own meaning."""
    reply = read_reply([1000, 1, 500, 900, 0, [2, 30, 40], [503, 70, b"s"], META, b"payload", b"web\x00", [4, b"e"]])
    assert (reply.clock, reply.leads, reply.lease_left, reply.granted_at) == (1000, True, 500, 900)
    assert (reply.grant, reply.meta, reply.payload) == (Grant(2, 30, 40), READ, b"payload")
    assert (reply.leader, reply.epoch, reply.epoch_stamp) == ("web?", 4, "e")
    names = ("unchanged", "republish", "deputy", "fetching", "exhausted", "too_large")
    for place, name in enumerate(names):
        bits = read_reply([*UNKNOWN[:4], 1 << place, *UNKNOWN[5:]])
        assert [one for one in names if getattr(bits, one)] == [name]


def test_what_a_reply_leaves_out_is_unknown() -> None:
    """No grant, no note, no metadata, no payload; and 0 in the leader's place: the same as before."""
    reply = read_reply(UNKNOWN)
    assert (reply.grant, reply.meta, reply.payload, reply.epoch) == (None, None, None, -1)
    assert reply.leader == ""
    assert read_reply([*UNKNOWN[:9], 0]).leader is None


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"OK",
        {},
        [],
        UNKNOWN[:9],
        [b"1000", *UNKNOWN[1:]],
        [1000.5, *UNKNOWN[1:]],
        [*UNKNOWN[:5], b"grant", *UNKNOWN[6:]],
        [*UNKNOWN[:7], META[:8], *UNKNOWN[8:]],
        [*UNKNOWN[:7], [1, *META[1:]], *UNKNOWN[8:]],
        [*UNKNOWN[:9], 7],
    ],
)
def test_what_is_no_reply_is_an_error(raw: object) -> None:
    """An invalid reply raises one of two errors, which the store converts."""
    with pytest.raises((TypeError, ValueError)):
        read_reply(raw)


def test_a_snapshot_is_read_for_people() -> None:
    """The names in a snapshot have only printing characters."""
    shown = read_snapshot([1000, 2, META, 99, b"web\n", 5, 900, b"job\t", 503, 60])
    assert (shown.meta, shown.payload_size, shown.leader, shown.grant_holder) == (READ, 99, "web?", "job?")
    assert read_snapshot([1000, 2, 0, 0, b"", 0, 0, b"", 0, 0]).meta is None


def test_values_are_of_one_type_each() -> None:
    """Nothing is converted."""
    assert (as_list([1]), as_whole(3), as_flag(0), as_flag(2), as_text(b"\xff")) == ([1], 3, False, True, "\ufffd")
    for read, wrong in ((as_list, (1,)), (as_whole, b"3"), (as_flag, None), (as_text, "text")):
        with pytest.raises(TypeError):
            read(wrong)
