"""Which pushes are made at once, and which later, together."""

from __future__ import annotations

import math

import pytest

from flagcache.core.pushes import PendingPush

NOW = 100.0


def after_burst(interval: float = 30.0) -> PendingPush:
    """What is pending after as many pushes as may follow one another at once."""
    pending = PendingPush.none(interval)
    for _ in range(5):
        pending = pending.asked(contend=False)
        assert pending.due_at <= NOW
        pending = pending.made(NOW)
    return pending


def test_nothing_is_due_before_it_is_asked() -> None:
    """Nor after it was made."""
    assert PendingPush.none(30.0).due_at == math.inf
    assert after_burst().due_at == math.inf


@pytest.mark.parametrize(("interval", "pause"), [(30.0, 1.0), (2.0, 1.0), (0.5, 0.25)])
def test_after_a_burst_the_next_push_waits(interval: float, pause: float) -> None:
    """For a second, or half a refresh interval if that is shorter."""
    pending = after_burst(interval).asked(contend=False)
    assert pending.due_at == pytest.approx(NOW + pause)
    assert pending.made(NOW + pause).asked(contend=False).due_at == pytest.approx(NOW + 2 * pause)


@pytest.mark.parametrize(
    ("asked", "contends"), [([False], False), ([True], True), ([True, False], True), ([False, True], True)]
)
def test_one_push_stands_for_all_that_were_asked(asked: list[bool], contends: bool) -> None:
    """It contends if any of them does."""
    pending = after_burst()
    for contend in asked:
        pending = pending.asked(contend=contend)
    assert pending.contend is contends


def test_the_next_push_does_not_contend_because_an_earlier_one_did() -> None:
    """What was made is over."""
    made = PendingPush.none(30.0).asked(contend=True).made(NOW)
    assert made.contend is None
    assert made.asked(contend=False).contend is False
