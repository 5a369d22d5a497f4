"""Each transition of a process is reported once, even if several of its threads notice it."""

from __future__ import annotations

import logging
import threading

import pytest

from flagcache.core.knowledge import Held, Knowledge, StoreView
from flagcache.core.notes import Note
from flagcache.encoding.codec import Codec
from flagcache.encoding.payload import digest
from flagcache.errors import EnvelopeError, StoreError
from flagcache.event_log import log_events
from flagcache.events import DefinitionsFresh, DefinitionsStale, Event, PublicationRefused, QuotaLimited, QuotaRestored
from flagcache.stores.base import Envelope, Meta
from flagcache.vendor import Definitions
from flagcache.worker.state import ProcessState
from tests.support.in_process_cache import InProcessCache
from tests.support.in_process_fleet import FLEET, Fleet, content


def held_by(cache: InProcessCache) -> Held:
    """Definitions that another worker has just fetched."""
    definitions = content(1)
    at = 1_000
    meta = Meta(digest(definitions), epoch=0, as_of=at, changed_at=at, confirmed_at=at)
    return Held(meta, definitions, FLEET, cache.config.clock())


def test_each_transition_is_told_once(fleet: Fleet) -> None:
    """If a thread notices what another one is reporting, a slow subscriber causes no second event."""
    cache = InProcessCache(fleet)
    state = ProcessState(cache.config, Knowledge())

    def look_meanwhile(_event: Event) -> None:
        other = threading.Thread(target=state.report_changes)
        other.start()
        other.join(10)
        assert not other.is_alive()

    state.adopt(held_by(cache), fetched=False)
    cache.seen.clear()
    cache.events.subscribe(look_meanwhile)
    fleet.clock.advance(cache.config.stale_after + 1)
    state.update(lambda know: know._replace(backoff=Note(402)))
    state.report_changes()
    assert sorted(type(event).__name__ for event in cache.seen) == [DefinitionsStale.__name__, QuotaLimited.__name__]
    cache.seen.clear()
    state.update(lambda know: know._replace(backoff=Note()))
    state.update(lambda know: know._replace(held=held_by(cache)))
    state.report_changes()
    assert sorted(type(event).__name__ for event in cache.seen) == [DefinitionsFresh.__name__, QuotaRestored.__name__]


def test_a_refusal_to_publish_is_told_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fetch that brings what no reader would take, and the poll that is to repair the store, find out together."""
    cache = InProcessCache(fleet)
    state, held, both = ProcessState(cache.config, Knowledge()), held_by(cache), threading.Barrier(2)

    def refuse(_self: Codec, _definitions: Definitions, _meta: Meta) -> Envelope:
        both.wait(10)
        raise EnvelopeError("too large")

    monkeypatch.setattr(Codec, "write", refuse)
    threads = [threading.Thread(target=state.encoded.envelope, args=(held, held.meta)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [type(event) for event in cache.seen] == [PublicationRefused]


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines about who leads, from INFO on."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]


def test_who_leads_is_logged_at_most_once_a_minute_and_rightly(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    """Of a lead that changes often, the first and the last state are logged; each transition is still an event."""
    caplog.set_level(logging.DEBUG, logger="flagcache")
    cache = InProcessCache(fleet)
    cache.events.subscribe(log_events)
    state = ProcessState(cache.config, Knowledge())
    store_name = state.stores.first.store_name
    for leads in (True, False, True, False):
        state.update(lambda know, leads=leads: know.with_view(store_name, StoreView(leads=leads, lease_ends=1e9)))  # type: ignore[misc]
        state.report_leadership(store_name, leads=leads)
        fleet.clock.advance(5)
        state.report_changes()
    assert [event.level for event in cache.seen] == [logging.INFO, *[logging.DEBUG] * 3]
    [line] = logged(caplog)
    assert "this process leads the fleet" in line
    fleet.clock.advance(60)
    state.report_changes()
    state.report_changes()
    [_, last] = logged(caplog)
    assert "this process no longer leads the fleet" in last
    assert len(cache.seen) == 4
    fleet.clock.advance(60)
    state.report_changes()
    assert len(logged(caplog)) == 2


def test_the_log_ends_the_lead_that_it_began_and_no_other(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    """If another store replaces the fleet's within a minute, the lines name the store on which it leads, or led."""
    caplog.set_level(logging.INFO, logger="flagcache")
    cache = InProcessCache(fleet)
    cache.events.subscribe(log_events)
    state = ProcessState(cache.config, Knowledge())
    first, own = state.stores.store_names

    def lead(store_name: str, *, leads: bool) -> None:
        state.update(lambda know: know.with_view(store_name, StoreView(leads=leads, lease_ends=1e9)))
        state.report_leadership(store_name, leads=leads)
        fleet.clock.advance(5)

    state.stores.failed(state.stores.first, StoreError("no"))
    lead(own, leads=True)
    state.stores.answered(state.stores.first)
    lead(first, leads=True)
    fleet.clock.advance(60)
    state.report_changes()
    lead(first, leads=False)
    fleet.clock.advance(60)
    state.report_changes()
    assert [line.rpartition(": ")[2] for line in logged(caplog) if " lead" in line] == [
        f"this process leads the fleet on {own}",
        f"this process leads the fleet on {first}",
        f"this process no longer leads the fleet on {first}",
    ]


def test_a_lead_that_ended_within_the_minute_ends_where_it_began(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """The line names the store of the line before."""
    caplog.set_level(logging.INFO, logger="flagcache")
    cache = InProcessCache(fleet)
    cache.events.subscribe(log_events)
    state = ProcessState(cache.config, Knowledge())
    state.stores.failed(state.stores.first, StoreError("no"))
    own = state.stores.store_names[-1]
    state.update(lambda know: know.with_view(own, StoreView(leads=True, lease_ends=1e9)))
    state.report_leadership(own, leads=True)
    state.stores.answered(state.stores.first)
    fleet.clock.advance(60)
    state.report_changes()
    [line] = [line for line in logged(caplog) if "no longer leads" in line]
    assert line.endswith(f" on {own}")
