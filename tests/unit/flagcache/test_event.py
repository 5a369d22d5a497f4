"""What all events have in common: texts and plain values."""

from __future__ import annotations

import json
import logging

import pytest

from flagcache.event import Event, Recovery, listed, shown
from flagcache.status import Role


class Happened(Event):
    """One with fields of each kind."""

    names: tuple[str, ...] = ()
    role: Role = Role.LEADER


def test_plain_values_are_json() -> None:
    """The values are the event's name and fields; an enum is its value, and a long list is cut after 50."""
    values = Happened("shop", tuple(map(str, range(60)))).as_dict()
    assert values["event"] == "Happened"
    assert values["namespace"] == "shop"
    assert values["role"] == "leader"
    names = json.loads(json.dumps(values))["names"]
    assert names == [*map(str, range(50)), "... and 10 more"]
    assert Happened("shop", tuple(map(str, range(50)))).as_dict()["names"] == [*map(str, range(50))]


def test_an_end_has_the_level_of_its_failure() -> None:
    """So that it reaches the same readers; any other event is INFO unless it says otherwise."""
    assert Recovery("shop", 3.0, "posthog_401", logging.ERROR).level == logging.ERROR
    assert Happened("shop").level == logging.INFO


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (9.94, "9.9 s"), (10, "10 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h")],
)
def test_a_duration_is_shown_in_one_unit(seconds: float, text: str) -> None:
    """As exactly as people need."""
    assert shown(seconds) == text


def test_a_log_line_names_ten() -> None:
    """Then it says how many more there are; and nothing in a name reaches the terminal as a command."""
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(n) for n in range(10)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert listed([str(n) for n in range(12)]).endswith("8, 9 and 2 more")
    assert listed(["a\x1b[31m\n"]) == "a?[31m?"
