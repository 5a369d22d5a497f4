"""What happened is told once, to everybody, in words that a person understands."""

from __future__ import annotations

import logging

import pytest

from flagcache import events
from flagcache.events import (
    ColdStartExpired,
    DefinitionsChanged,
    DefinitionsFresh,
    DefinitionsRepaired,
    DefinitionsStale,
    Event,
    Events,
    FetchFailed,
    FetchRecovered,
    ForeignKey,
    ForeignProject,
    LateFetchRefused,
    LeadershipLost,
    LeadershipTaken,
    PayloadRefused,
    PublicationRefused,
    QuotaLimited,
    QuotaRestored,
    StoreLost,
    StoreRecovered,
    log_events,
)
from flagcache.stores.base import Scope

VERSION, STORE = "0123456789abcdef0123", "redis://db:6379/0"

EXAMPLES = {
    LeadershipTaken("team", STORE): (logging.INFO, "this process leads the fleet 'team' on redis://db:6379/0"),
    LeadershipLost("team", STORE): (logging.INFO, "this process no longer leads the fleet 'team' on redis://db:6379/0"),
    DefinitionsChanged("team", VERSION, "", fetched=True): (
        logging.INFO,
        "definitions 0123456789ab of 'team' fetched, in place of none",
    ),
    DefinitionsChanged("team", VERSION, VERSION[::-1], fetched=False): (
        logging.INFO,
        (
            "definitions 0123456789ab of 'team' taken from the store, in place of 3210fedcba98"
            " (0 added, 0 removed, 0 changed)"
        ),
    ),
    DefinitionsRepaired("team", VERSION, STORE): (
        logging.WARNING,
        "redis://db:6379/0 had lost the definitions of 'team': republished 0123456789ab",
    ),
    PayloadRefused("team", VERSION, STORE, "truncated"): (
        logging.ERROR,
        "unreadable definitions 0123456789ab of 'team' discarded from redis://db:6379/0: truncated",
    ),
    PublicationRefused("team", VERSION, "too large"): (
        logging.ERROR,
        "definitions 0123456789ab of 'team' cannot be shared: too large",
    ),
    LateFetchRefused("team", VERSION, STORE): (
        logging.WARNING,
        "a late fetch of 'team' brought 0123456789ab; redis://db:6379/0 holds or awaits newer, so it was dropped",
    ),
    FetchFailed("team", "HTTP 401", 401, Scope.MINE, 29.6): (
        logging.WARNING,
        "a fetch of 'team' failed: HTTP 401; this process lets others try for 29.6 s",
    ),
    FetchFailed("team", "HTTP 503", 503, Scope.EVERYBODY, 29.6): (
        logging.WARNING,
        "a fetch of 'team' failed: HTTP 503; the whole fleet waits for 29.6 s",
    ),
    FetchRecovered("team"): (logging.INFO, "fetches of 'team' succeed again"),
    QuotaLimited("team", cleared=True): (
        logging.WARNING,
        "the quota of 'team' is used up: clients go on with no flags until it is not",
    ),
    QuotaLimited("team", cleared=False): (
        logging.WARNING,
        "the quota of 'team' is used up: clients go on with the last known flags until it is not",
    ),
    QuotaRestored("team"): (logging.INFO, "the quota of 'team' is no longer used up"),
    DefinitionsStale("team", 61.2): (logging.WARNING, "definitions of 'team' were last confirmed 61 s ago"),
    DefinitionsFresh("team"): (logging.INFO, "definitions of 'team' are confirmed again"),
    ColdStartExpired("team", 10.04): (
        logging.ERROR,
        "no definitions of 'team' after 10.0 s: going on without flags until some come",
    ),
    ForeignKey("team", STORE): (
        logging.ERROR,
        (
            "others protect the definitions of 'team' on redis://db:6379/0 with a key that this process does not have:"
            " they are not used, and it fetches its own; give all workers one key in common"
        ),
    ),
    ForeignProject("team", STORE, "1", "2"): (
        logging.ERROR,
        (
            "namespace 'team' on redis://db:6379/0 belongs to project 2, this process to 1: its definitions are not"
            " used, and this process fetches its own; give each project a namespace of its own"
        ),
    ),
    StoreLost("team", STORE, "timed out"): (
        logging.WARNING,
        "redis://db:6379/0 does not answer for 'team': timed out",
    ),
    StoreRecovered("team", STORE): (logging.INFO, "redis://db:6379/0 answers again for 'team'"),
}


def test_every_event_has_an_example_here() -> None:
    """So that none goes without a text and a level."""
    kinds = {getattr(events, name) for name in events.__all__} - {Event, Events, log_events}
    assert kinds == {type(event) for event in EXAMPLES}


@pytest.mark.parametrize(("event", "line"), EXAMPLES.items(), ids=[type(event).__name__ for event in EXAMPLES])
def test_the_log_line_tells_it(event: Event, line: tuple[int, str], caplog: pytest.LogCaptureFixture) -> None:
    """One line of the logger `flagcache`, at its level, with what, where and what to do."""
    caplog.set_level(logging.DEBUG)
    log_events(event)
    assert caplog.record_tuples == [("flagcache", *line)]


@pytest.mark.parametrize("event", EXAMPLES, ids=[type(event).__name__ for event in EXAMPLES])
def test_an_event_is_a_value(event: Event) -> None:
    """It tells its namespace first, and cannot be changed by one subscriber for the next."""
    assert next(iter(vars(event))) == "namespace"
    with pytest.raises(AttributeError, match="cannot be changed"):
        event.namespace = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  # on purpose


def test_all_subscribers_hear_all_events_in_order() -> None:
    """From the moment on which they subscribe."""
    first: list[Event] = []
    second: list[Event] = []
    stream = Events()
    stream.subscribe(first.append)
    stream.emit(StoreRecovered("team", STORE))
    stream.subscribe(second.append)
    stream.emit(LeadershipTaken("team", STORE))
    assert first == [StoreRecovered("team", STORE), LeadershipTaken("team", STORE)]
    assert second == first[1:]


def test_a_subscriber_that_raises_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback; the others hear, and whoever told goes on."""
    heard: list[Event] = []
    stream = Events()

    def fail(event: Event) -> None:
        raise ValueError("in the subscriber")

    stream.subscribe(fail)
    stream.subscribe(heard.append)
    stream.emit(StoreRecovered("team", STORE))
    assert heard == [StoreRecovered("team", STORE)]
    (record,) = caplog.records
    assert "a subscriber failed on StoreRecovered" in record.getMessage()
    assert record.exc_info is not None


def test_a_subscriber_may_subscribe_another_meanwhile() -> None:
    """The new one hears from the next event on."""
    late: list[Event] = []
    stream = Events()
    stream.subscribe(lambda _event: stream.subscribe(late.append))
    stream.emit(StoreRecovered("team", STORE))
    assert late == []
    stream.emit(StoreRecovered("team", STORE))
    assert late == [StoreRecovered("team", STORE)]
