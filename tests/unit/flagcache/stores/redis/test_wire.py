"""The usual reply to a poll is read at once, every other one part by part; both give the same."""

from __future__ import annotations

from itertools import product

import pytest

from flagcache.stores.redis import wire
from flagcache.stores.redis.wire import read_reply

USUAL: list[object] = [1_700_000_000_000, 0, 44_000, 1_699_999_990_000, 1, 0, 0, 0, 0, 0]
META = [b"v", b"etag", b"writer", b"project", 1, 2, 3, 4, b"stamp"]
NEWS = [[0, 7, 8], [503, 10, b"stamp"], META, b"payload", b"other:1:x"]
"""Grant, note, metadata, payload and leader."""


@pytest.mark.parametrize("leads", [0, 1])
def test_the_usual_reply_says_what_its_parts_say(leads: int) -> None:
    """The usual reply is read with each of its bits."""
    for bits in range(64):
        raw: list[object] = [*USUAL[:1], leads, *USUAL[2:4], bits, *USUAL[5:]]
        assert read_reply(raw) == wire._read_news(raw), bits  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def test_whatever_it_says_beside_is_heard() -> None:
    """Each part that is not 0 arrives, alone or with others, and the store's epoch beside."""
    for said in product((False, True), repeat=6):
        news = [part if present else 0 for part, present in zip(NEWS, said, strict=False)]
        reply = read_reply([*USUAL[:5], *news, *([[9, b"epoch"]] if said[5] else [])])
        heard = (reply.grant, reply.backoff_status, reply.meta, reply.payload, reply.leader, reply.epoch_stamp)
        assert tuple(map(bool, heard)) == said


@pytest.mark.parametrize("place", range(10))
@pytest.mark.parametrize("odd", [None, b"1", "1", 1.0, [], [1], OSError()])
def test_what_is_no_such_reply_is_refused(place: int, odd: object) -> None:
    """A value of a kind that the script never returns in its place is refused."""
    taken: dict[int, list[object]] = {
        1: [None, b"1", "1", 1.0, [], [1], odd],  # whatever it is, it is true or false
        5: [None, []],
        6: [None, []],
        7: [None, []],
        8: [None, b"1", "1", 1.0, [], [1], odd],  # what is no text is no payload
        9: [b"1"],
    }
    raw: list[object] = [*USUAL]
    raw[place] = odd
    if odd in taken.get(place, []):
        read_reply(raw)
        return
    with pytest.raises((TypeError, ValueError)):
        read_reply(raw)


@pytest.mark.parametrize("raw", [None, 0, b"", [], USUAL[:9], [*USUAL, 0], [*USUAL, [1]], tuple(USUAL)])
def test_a_reply_of_another_length_is_refused(raw: object) -> None:
    """A reply of another length or type is refused."""
    with pytest.raises((TypeError, ValueError)):
        read_reply(raw)
