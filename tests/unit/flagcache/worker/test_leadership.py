"""What the log has of who leads: at most one line a minute, and the last state always."""

from __future__ import annotations

from flagcache.events import LeadershipLost, LeadershipTaken
from flagcache.worker.leadership import Leadership
from tests.support.in_process_fleet import Clock

STORE = "redis://a/0"


def test_the_first_change_is_logged_and_those_within_a_minute_are_not() -> None:
    """They are still events, at a level that the log leaves out."""
    clock = Clock()
    leadership = Leadership("shop", clock)
    assert leadership.changed(STORE, leads=True) == LeadershipTaken("shop", STORE, quiet=False)
    clock.advance(59)
    assert leadership.changed(STORE, leads=False) == LeadershipLost("shop", STORE, quiet=True)
    clock.advance(61)
    assert leadership.changed(STORE, leads=True) == LeadershipTaken("shop", STORE, quiet=False)


def test_what_the_log_lacks_is_said_when_the_minute_is_over() -> None:
    """Once, and only if it differs from what was logged last."""
    clock = Clock()
    leadership = Leadership("shop", clock)
    leadership.changed(STORE, leads=True)
    leadership.changed(STORE, leads=False)
    assert leadership.left_out("", clock()) is None
    clock.advance(60)
    assert leadership.left_out(STORE, clock()) is None
    assert leadership.left_out("", clock()) == LeadershipLost("shop", STORE, quiet=False)
    assert leadership.left_out("", clock()) is None
    clock.advance(60)
    assert leadership.left_out(STORE, clock()) == LeadershipTaken("shop", STORE, quiet=False)
