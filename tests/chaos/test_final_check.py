"""The check itself: an ERROR in a member's log is a fault, unless the scenario causes it."""

from __future__ import annotations

import logging

import pytest

from flagcache_posthog.testing import Truth
from tests.support import final_check
from tests.support.real_fleet import LogLine, Sighting

FULL = LogLine("flagcache", logging.ERROR, "redis://db:6379/0 is full: OOM")


@pytest.mark.parametrize(
    ("line", "expected", "count"),
    [
        (FULL, (), 1),
        (FULL, ("refuses to write",), 1),
        (FULL, ("is full",), 0),
        (LogLine("flagcache_posthog._client_checks", logging.ERROR, "no secret key"), ("is full",), 1),
        (LogLine("flagcache", logging.WARNING, "redis://db:6379/0 does not answer"), (), 0),
        (LogLine("posthog", logging.WARNING, "Cache provider get error"), ("is full",), 1),
    ],
)
def test_an_error_is_a_fault_unless_it_was_made(line: LogLine, expected: tuple[str, ...], count: int) -> None:
    """An error whose words the scenario expects is no fault, and neither is a warning."""
    record = final_check.MemberRecord("a member", 0, [Sighting(2.0, 5, 1)], [line])
    scenario = final_check.ScenarioRecord([record], [], [Truth(0.0, 1.0, "v1", 1)], interval=1.0, expected=expected)
    assert len(final_check.faults(scenario)) == count
