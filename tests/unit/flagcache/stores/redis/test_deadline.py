"""A command's deadline, and what it says of its progress."""

from __future__ import annotations

import math

import pytest

from flagcache.stores.redis.deadline import Deadline, bounded, remaining


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_replys_length_is_heard_in_whatever_pieces_it_comes(cut: int) -> None:
    """A command that took too long says how much of how much came."""
    head, deadline = b"*1\r\n$250000\r\n" + b"x" * 2000, Deadline(0.5)
    for part in (head[:cut], memoryview(head)[cut:]):
        deadline.record_received(part)
    assert deadline.explanation().startswith("only 2.01 kB of 250 kB came within 0.5 s")


def test_an_inner_deadline_ends_and_the_outer_one_goes_on() -> None:
    """And without one a step may take as long as it likes."""
    with bounded(60.0):
        with bounded(5.0):
            assert 4.0 < (remaining(None) or math.inf) <= 5.0
            assert remaining(1.0) == 1.0
        assert 50.0 < (remaining(None) or math.inf) <= 60.0
    assert remaining(None) is None
