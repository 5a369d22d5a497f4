"""The log of a command: one line for each record, as text or as JSON."""

from __future__ import annotations

import json
import logging
import re
from datetime import datetime, timedelta, timezone

import pytest

from flagcache.cli.log_format import logging_to_stderr
from flagcache.event_log import log_events
from flagcache.events import DefinitionsChanged, Event
from flagcache.runtime.guard import log_exceptions
from flagcache.runtime.log_prefix import process_name
from flagcache.vendor import Difference


def test_a_line_of_json_has_an_events_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """A line has the time in UTC, level, name and fields, with long lists cut; other records have their traceback."""
    many = Difference(added=tuple(f"flag-{number}" for number in range(60)))
    with logging_to_stderr(as_json=True):
        log_events(DefinitionsChanged("ns", "v2", "v1", fetched=True, difference=many))
        log_exceptions(lambda: int("x"), 0, "", "it broke")
    event, other = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (event["event"], event["level"], event["namespace"]) == ("DefinitionsChanged", "info", "ns")
    assert (event["version"], event["previous"], event["fetched"]) == ("v2", "v1", True)
    assert (len(event["difference"]["added"]), event["difference"]["added"][-1]) == (51, "... and 10 more")
    happened = DefinitionsChanged("ns", "v2", "v1", fetched=True, difference=many)
    assert event["message"] == f"flagcache[ns] {process_name()}: {happened}"
    assert datetime.now(timezone.utc) - datetime.fromisoformat(event["time"].replace("Z", "+00:00")) < timedelta(60)
    assert (other["event"], other["level"], other["message"]) == (
        "Log",
        "error",
        f"flagcache {process_name()}: it broke",
    )
    assert "ValueError: invalid literal" in other["traceback"]


def test_a_line_for_people_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    """A line has time, level and text; afterwards the process's logging is as before."""
    logger = logging.getLogger("flagcache")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with logging_to_stderr(as_json=False):
        logger.info("%s", Event("ns"))
    line = capsys.readouterr().err
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z INFO .*\n", line)
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
