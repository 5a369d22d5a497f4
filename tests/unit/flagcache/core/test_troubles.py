"""When a lasting failure is reported: at its beginning, for a new reason, at a higher level, and once an hour."""

from __future__ import annotations

from flagcache.core.troubles import REPORTED_AGAIN_AFTER, Trouble, continued

WARNING, ERROR = 30, 40


def noted(*steps: tuple[str, int, float]) -> tuple[Trouble | None, list[bool]]:
    """The failure after these steps of reason, level and time, and which of them are reported."""
    trouble: Trouble | None = None
    reported: list[bool] = []
    for reason, level, now in steps:
        trouble, report = continued(trouble, reason, level, now)
        reported.append(report)
    return trouble, reported


def test_a_failure_is_reported_when_it_begins_and_once_an_hour() -> None:
    """A new reason is a report; the beginning stays that of the first reason."""
    hour = REPORTED_AGAIN_AFTER
    trouble, reported = noted(
        ("a", WARNING, 10), ("a", WARNING, 11), ("a", WARNING, 9 + hour), ("a", WARNING, 10 + hour)
    )
    assert reported == [True, False, False, True]
    assert trouble is not None
    assert trouble.since == 10


def test_a_new_reason_is_reported_once() -> None:
    """Two reasons that alternate give two lines an hour, not one at each change; the latest reason is known."""
    trouble, reported = noted(("a", WARNING, 1), ("b", WARNING, 2), ("a", WARNING, 3), ("b", WARNING, 4))
    assert reported == [True, True, False, False]
    assert trouble is not None
    assert (trouble.reason, trouble.since) == ("b", 1)


def test_a_higher_level_is_reported_at_once() -> None:
    """It stays the failure's level, at which its end is reported, also after it fell."""
    trouble, reported = noted(("a", WARNING, 1), ("a", ERROR, 2), ("a", WARNING, 3), ("b", WARNING, 4))
    assert reported == [True, True, False, True]
    assert trouble is not None
    assert trouble.level == ERROR
