"""What is told of one process, though several of its threads look at once."""

from __future__ import annotations

import threading

import pytest

from flagcache.core.knowledge import Held, Knowledge
from flagcache.encoding.codec import Codec
from flagcache.encoding.payload import digest
from flagcache.errors import EnvelopeError
from flagcache.events import DefinitionsFresh, DefinitionsStale, Event, PublicationRefused, QuotaLimited, QuotaRestored
from flagcache.stores.base import Envelope, Meta
from flagcache.vendor import Definitions
from flagcache.worker.state import Ledger
from tests.worker.house import House
from tests.worker.processes import FLEET, Fleet, content


def held_by(house: House) -> Held:
    """What somebody fetched just now."""
    definitions = content(1)
    at = 1_000
    meta = Meta(digest(definitions), epoch=0, as_of=at, changed_at=at, confirmed_at=at)
    return Held(meta, definitions, FLEET, house.plan.clock())


def test_each_transition_is_told_once(fleet: Fleet) -> None:
    """A thread that looks while another one is telling finds it told: a slow subscriber makes no second event."""
    house = House(fleet)
    ledger = Ledger(house.plan, Knowledge())

    def look_meanwhile(_event: Event) -> None:
        other = threading.Thread(target=ledger.look)
        other.start()
        other.join(10)
        assert not other.is_alive()

    ledger.take(held_by(house), fetched=False)
    house.seen.clear()
    house.events.subscribe(look_meanwhile)
    fleet.clock.advance(fleet.settings.stale_after + 1)
    ledger.learn(lambda know: know._replace(note_status=402))
    ledger.look()
    assert sorted(type(event).__name__ for event in house.seen) == [DefinitionsStale.__name__, QuotaLimited.__name__]
    house.seen.clear()
    ledger.learn(lambda know: know._replace(note_status=0))
    ledger.learn(lambda know: know._replace(held=held_by(house)))
    ledger.look()
    assert sorted(type(event).__name__ for event in house.seen) == [DefinitionsFresh.__name__, QuotaRestored.__name__]


def test_a_refusal_to_publish_is_told_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fetch that brings what no reader would take, and the poll that is to repair the store, find out together."""
    house = House(fleet)
    ledger, held, both = Ledger(house.plan, Knowledge()), held_by(house), threading.Barrier(2)

    def refuse(_self: Codec, _definitions: Definitions, _meta: Meta) -> Envelope:
        both.wait(10)
        raise EnvelopeError("too large")

    monkeypatch.setattr(Codec, "write", refuse)
    threads = [threading.Thread(target=ledger.envelope, args=(held, held.meta)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [type(event) for event in house.seen] == [PublicationRefused]
