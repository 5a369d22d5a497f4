"""Each reported failure is followed by its end, once, with its duration and level; a new reason is reported too."""

from __future__ import annotations

import logging
from functools import partial
from typing import Literal

import pytest

from flagcache.core.notes import Note
from flagcache.core.troubles import REPORTED_AGAIN_AFTER
from flagcache.encoding.payload import digest, encode
from flagcache.errors import EnvelopeError, StoreError
from flagcache.events import (
    ColdStartExpired,
    ColdStartRecovered,
    DefinitionsFresh,
    DefinitionsStale,
    Event,
    FetchFailed,
    FetchRecovered,
    ForeignProject,
    ForeignProjectGone,
    PayloadAccepted,
    PayloadRefused,
    PublicationAccepted,
    PublicationRefused,
    QuotaLimited,
    QuotaRestored,
    Recovery,
    StoreLost,
    StoreRecovered,
)
from flagcache.settings import Settings
from flagcache.stores.base import Envelope, Meta, Scope
from flagcache.vendor import Definitions, Refused
from flagcache.worker.state import ProcessState
from flagcache.worker.troubles import FOREIGN_PROJECT, STORE, Troubles
from tests.support.in_process_fleet import FLEET, Clock, Fleet, Process, content

HOUR = REPORTED_AGAIN_AFTER
MINE, ALL = Scope.MINE, Scope.EVERYBODY


def failures_of(process: Process) -> list[Event]:
    """The failures that a process reported, and their ends."""
    return [event for event in process.seen if isinstance(event, Recovery) or "lasted" in vars(event)]


def state_of(process: Process) -> ProcessState:
    """What it knows: it has no client whose fetches could fail."""
    return process.worker._state  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def names(process: Process) -> list[str]:
    """What they are called."""
    return [type(event).__name__ for event in failures_of(process)]


# --- when it is told --------------------------------------------------------------------------------------------------


def lose(troubles: Troubles, reason: str, level: int = logging.WARNING) -> Event | None:
    """Notice a trouble."""
    trouble = f"store_{reason}"
    made = partial(StoreLost, "team", FLEET, reason, trouble, "")
    if level == logging.ERROR:
        return troubles.begin(STORE, trouble, lambda lasted: PayloadRefused("team", "v", FLEET, reason, lasted), FLEET)
    return troubles.begin(STORE, trouble, made, FLEET)


def find(troubles: Troubles) -> Recovery | None:
    """Notice its end."""
    return troubles.end(STORE, partial(StoreRecovered, "team"), store=FLEET)


def test_a_trouble_is_told_once_an_hour_and_each_new_reason_at_once() -> None:
    """Reasons that alternate are reported once an hour each; the end has the last one, and the duration of all."""
    clock = Clock()
    troubles = Troubles(clock)
    assert find(troubles) is None
    assert lose(troubles, "timeout") == StoreLost("team", FLEET, "timeout", "store_timeout", "", 0.0)
    for _ in range(5):
        clock.advance(60)
        assert lose(troubles, "timeout") is None
    assert lose(troubles, "unreachable") == StoreLost("team", FLEET, "unreachable", "store_unreachable", "", 300.0)
    for reason in ("timeout", "unreachable", "timeout"):
        assert lose(troubles, reason) is None
    clock.advance(HOUR - 300)
    assert lose(troubles, "timeout") == StoreLost("team", FLEET, "timeout", "store_timeout", "", HOUR)
    assert find(troubles) == StoreRecovered("team", HOUR, "store_timeout", logging.WARNING, FLEET)
    assert find(troubles) is None
    assert lose(troubles, "timeout") is not None


def test_an_end_is_told_at_the_highest_level_of_its_trouble() -> None:
    """The end has the level of its failure, so a reader of ERROR lines sees both."""
    troubles = Troubles(Clock())
    lose(troubles, "unreadable", logging.ERROR)
    lose(troubles, "timeout")
    end = find(troubles)
    assert end is not None
    assert end.level == logging.ERROR


def test_a_trouble_that_was_left_unsaid_does_not_outlast_the_one_that_was_said() -> None:
    """A fallback store that another project uses too, and is asked no more once the fleet's store is ours again."""
    troubles = Troubles(Clock())
    for store_name in (FLEET, "sqlite:///fallback"):
        made = partial(ForeignProject, "team", store_name, "team=1", "team=2")
        troubles.begin(FOREIGN_PROJECT, "foreign_project", made, store_name)
    assert troubles.end(FOREIGN_PROJECT, partial(ForeignProjectGone, "team"), store=FLEET) is not None
    assert troubles.gravest is None
    assert troubles.avoids("sqlite:///fallback")


# --- rows of failed fetches -------------------------------------------------------------------------------------------


def fails(process: Process, status: int, scope: Scope = MINE) -> None:
    """A fetch of this process was granted, and failed."""
    refused = Refused(f"HTTP {status}", scope, status)
    store_name = process.config.stores[0].address
    state_of(process).fetch_failed(store_name, refused, process.config.clock(), 5.0)


def test_a_row_of_failures_ends_with_anybodys_success_and_the_next_one_is_told(fleet: Fleet) -> None:
    """One passing failure, then others lead: the process says so, and says a later failure again."""
    process, other = fleet.process(), fleet.process()
    process.poll()
    fleet.clock.advance(1)
    fails(process, 401)
    process.poll()
    assert names(process) == ["FetchFailed"]
    process.worker.shutdown()
    fleet.next_interval()
    fleet.upstream.serves = content(2)
    other.poll()
    assert other.poll()
    process.poll()
    [failed, recovered] = failures_of(process)
    assert isinstance(failed, FetchFailed)
    assert recovered == FetchRecovered("fleet", 30.0, "test_401", logging.ERROR, own=False)
    fleet.clock.advance(1)
    fails(process, 401)
    assert names(process) == ["FetchFailed", "FetchRecovered", "FetchFailed"]


def test_a_failed_fetch_is_told_again_for_another_reason_and_after_an_hour(fleet: Fleet) -> None:
    """A failed fetch is reported again for another reason and after an hour, not for each try."""
    process = fleet.process()
    process.poll()
    for status in (500, 500, 503, 503):
        fleet.clock.advance(60)
        fails(process, status, ALL)
    assert [(event.status, event.lasted) for event in process.events(FetchFailed)] == [(500, 0.0), (503, 120.0)]
    fleet.clock.advance(HOUR)
    fails(process, 503, ALL)
    assert process.events(FetchFailed)[-1].lasted == HOUR + 180


# --- each kind has its end --------------------------------------------------------------------------------------------


def test_a_lost_store_is_told_with_its_reason_and_found_with_its_length(fleet: Fleet) -> None:
    """A lost store is reported with its reason, and its return with the duration, also if the reason changes."""
    process = fleet.process()
    process.poll()
    reasons = iter(["timeout", "timeout", "password"])

    def fail(_verb: str) -> None:
        kind = next(reasons, "")
        if kind:
            raise StoreError(kind, kind)

    process.link.before = fail
    for _ in range(6):
        process.poll()
        fleet.next_interval()
    losses = process.events(StoreLost)
    assert [loss.trouble for loss in losses] == ["store_timeout", "store_password"]
    [back] = process.events(StoreRecovered)
    assert back.trouble == "store_password"
    assert back.lasted == 90


def test_the_quota_and_stale_definitions_are_told_with_their_lengths(fleet: Fleet) -> None:
    """A 402 for all, and definitions that PostHog no longer confirms, are reported with their durations."""
    process = fleet.process()
    process.poll()
    store_name = process.config.stores[0].address
    state_of(process).update(lambda know: know._replace(backoff=Note(402, store_name=store_name)))
    state_of(process).report_changes()
    fleet.clock.advance(process.config.stale_after + 10)
    state_of(process).report_changes()
    fleet.clock.advance(10)
    process.poll()
    process.fetch()
    process.poll()
    assert [kind for kind in names(process) if kind.startswith("Quota")] == ["QuotaLimited", "QuotaRestored"]
    [restored], [limited] = process.events(QuotaRestored), process.events(QuotaLimited)
    assert (limited.level, restored.level) == (logging.ERROR, logging.ERROR)
    assert restored.lasted == process.config.stale_after + 20
    assert process.events(DefinitionsStale)
    if process.events(DefinitionsFresh):
        assert process.events(DefinitionsFresh)[0].lasted == 10


def test_stale_definitions_are_no_news_while_the_quota_is_used_up(fleet: Fleet) -> None:
    """Clients may have been handed no flags at all, so no line says that they keep them."""
    process = fleet.process()
    process.poll()
    state, store_name = state_of(process), process.config.stores[0].address
    state.update(lambda know: know._replace(backoff=Note(402, store_name=store_name)))
    fleet.clock.advance(process.config.stale_after + 1)
    state.report_changes()
    [quiet] = process.events(DefinitionsStale)
    assert quiet.level == logging.DEBUG
    assert "keep" not in str(quiet)
    state.update(lambda know: know._replace(backoff=Note(500, store_name=store_name)))
    state.report_changes()
    state.report_changes()
    [restored] = process.events(QuotaRestored)
    assert str(restored).startswith("PostHog answers 500; before, its quota was used up for ")
    [_, stale] = process.events(DefinitionsStale)
    assert stale.level == logging.WARNING
    assert "clients keep them" in str(stale)


@pytest.mark.parametrize("mode", ["clear", "keep"])
def test_clients_that_have_nothing_keep_nothing(fleet: Fleet, mode: Literal["clear", "keep"]) -> None:
    """At a cold start no line says that they keep or use flags, nor one about the quota while it has cleared them."""
    fleet.settings = Settings(refresh_interval=30, cold_start_wait=0.05, on_quota_limited=mode)
    fleet.occupy()
    fleet.plant(b"garbage")
    process, started = fleet.process(), fleet.process()
    process.poll()
    state, store_name = state_of(process), process.config.stores[0].address
    fails(process, 503, ALL)
    state.update(lambda know: know._replace(backoff=Note(402, store_name=store_name)))
    fails(process, 402, ALL)
    state.report_changes()
    state.update(lambda know: know._replace(backoff=Note(500, store_name=store_name)))
    state.report_changes()
    wanted = {"PayloadRefused", "FetchFailed", "QuotaLimited", "QuotaRestored"}
    assert wanted <= set(names(process))
    assert not [str(event) for event in failures_of(process) if "keep " in str(event) or "use the last" in str(event)]
    fleet.plant(encode(content(1), digest(content(1))), version=digest(content(1)))
    started.poll()
    fails(started, 503, ALL)
    [failed] = started.events(FetchFailed)
    assert "clients keep what they have" in str(failed)


def test_first_definitions_that_come_late_end_the_cold_start(fleet: Fleet) -> None:
    """And a process that is still without them after an hour says so again."""
    fleet.occupy()
    process = fleet.process()
    process.poll()
    [expired] = process.events(ColdStartExpired)
    assert expired.lasted == 0
    fleet.clock.advance(HOUR)
    process.poll()
    assert [event.lasted for event in process.events(ColdStartExpired)] == [0, HOUR]
    process.poll()
    assert process.flags == content(1)
    [recovered] = process.events(ColdStartRecovered)
    assert recovered.lasted == HOUR


def test_a_foreign_project_is_told_again_after_an_hour_and_when_it_is_gone(fleet: Fleet) -> None:
    """The end is reported when people cleared the store, or gave the other project its own namespace."""
    fleet.upstream.serves = content(1, project="team=1")
    process = fleet.process()
    process.poll()
    fleet.clock.advance(1)
    theirs = content(9, project="team=2")
    fleet.plant(encode(theirs, digest(theirs)), version=digest(theirs), project="team=2")
    for _ in range(4):
        process.poll()
        fleet.next_interval()
    assert names(process) == ["ForeignProject"]
    fleet.clock.advance(HOUR)
    process.poll()
    assert [event.lasted for event in process.events(ForeignProject)] == [0, HOUR + 120]
    assert "flagcache clear" in str(process.events(ForeignProject)[0])
    fleet.store.clear()
    process.poll()
    [gone] = process.events(ForeignProjectGone)
    assert gone.lasted == HOUR + 120


def test_what_could_not_be_read_is_told_as_readable_again(fleet: Fleet) -> None:
    """The process that discarded it repairs the store; then what is there is unchanged."""
    process = fleet.process()
    process.poll()
    fleet.clock.advance(1)
    fleet.plant(b"garbage")
    for _ in range(4):
        fleet.clock.advance(2)
        process.poll()
    assert [kind for kind in names(process) if kind.startswith("Payload")] == ["PayloadRefused", "PayloadAccepted"]
    assert process.events(PayloadRefused)[0].level == process.events(PayloadAccepted)[0].level


def test_what_could_not_be_shared_is_told_until_something_can(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Definitions that are too large, and smaller ones an interval later."""
    process = fleet.process()
    codec = type(process.config.codec)
    write = codec.write

    def refuse(self: object, definitions: Definitions, meta: Meta) -> Envelope:
        if definitions == content(1):
            raise EnvelopeError("too large")
        return write(process.config.codec, definitions, meta)

    monkeypatch.setattr(codec, "write", refuse)
    process.poll()
    assert names(process) == ["PublicationRefused"]
    fleet.upstream.serves = content(2)
    fleet.next_interval()
    process.poll()
    process.poll()
    assert [kind for kind in names(process) if kind.startswith("Publ")] == ["PublicationRefused", "PublicationAccepted"]
    [refused], [accepted] = process.events(PublicationRefused), process.events(PublicationAccepted)
    assert accepted.version != refused.version
    assert accepted.lasted == 30
