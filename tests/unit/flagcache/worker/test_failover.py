"""The stores of one process: called in order, skipped while they fail, opened when needed."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import pytest

from flagcache.errors import StoreError
from flagcache.events import Event, Events, PushLost, PushRecovered, StoreLost, StoreRecovered
from flagcache.stores.base import Store
from flagcache.stores.memory import MemoryStore
from flagcache.stores.spec import StoreSpec
from flagcache.worker.failover import FailoverStores, Pauses
from flagcache.worker.troubles import Troubles
from tests.support.in_process_fleet import Clock


class CloseCountingStore(MemoryStore):
    """Counts how often it is closed, and may fail at it."""

    closed = 0
    fails = False

    def close(self) -> None:
        """Count."""
        type(self).closed += 1
        if self.fails:
            raise StoreError("cannot close")


@pytest.fixture
def seen() -> list[Event]:
    """The events of the stores."""
    return []


@pytest.fixture
def clock() -> Clock:
    """Their time."""
    return Clock()


@pytest.fixture
def stores(seen: list[Event], clock: Clock) -> FailoverStores:
    """A fleet's store and an own one."""
    return make(seen, clock, MemoryStore)


def make(seen: list[Event], clock: Clock, opens: Callable[[], Store], settles_after: float = 0.0) -> FailoverStores:
    """Two tiers, of which the first is opened like this."""
    events = Events()
    events.subscribe(seen.append)
    specs = (StoreSpec("first", opens), StoreSpec("second", MemoryStore))
    return FailoverStores(
        specs,
        pauses=Pauses(24, settles_after),
        clock=clock,
        events=events,
        namespace="ns",
        troubles=Troubles(clock),
    )


def store_names(stores: FailoverStores) -> list[str]:
    """Return the stores that may be called."""
    return [managed.store_name for managed, _ in stores.usable()]


def test_they_are_asked_in_order(stores: FailoverStores) -> None:
    """Stores are called in order, the fleet's first."""
    assert store_names(stores) == ["first", "second"]
    assert stores.first_answers


def test_each_is_opened_once_and_only_when_asked(seen: list[Event], clock: Clock) -> None:
    """Making the tiers connects to nothing."""
    opened: list[Store] = []

    def open_() -> Store:
        opened.append(MemoryStore())
        return opened[-1]

    stores = make(seen, clock, open_)
    assert opened == []
    store_names(stores)
    store_names(stores)
    assert len(opened) == 1


def test_a_lost_one_is_passed_over_and_probed_later(stores: FailoverStores, clock: Clock) -> None:
    """A lost store is skipped, and probed when its breaker lets it."""
    stores.failed(next(stores.usable())[0], StoreError("no"))
    assert store_names(stores) == ["second"]
    assert stores.named("first") is None
    assert not stores.first_answers
    clock.advance(0.5)
    assert store_names(stores) == ["first", "second"]


def test_one_thread_probes_at_a_time(stores: FailoverStores, clock: Clock) -> None:
    """While a probe is under way the store is lost to all others; a prober that vanished is replaced in time."""
    stores.failed(stores.first, StoreError("no"))
    clock.advance(0.5)
    assert stores.probe_at <= clock()
    assert stores.named("first") is not None
    assert stores.probe_at == clock() + 24
    assert stores.named("first") is None
    assert store_names(stores) == ["second"]
    clock.advance(24)
    assert store_names(stores) == ["first", "second"]
    stores.answered(stores.first)
    assert store_names(stores) == store_names(stores) == ["first", "second"]
    assert stores.probe_at == math.inf


def test_asking_for_another_store_is_no_probe(stores: FailoverStores, clock: Clock) -> None:
    """Only a caller that uses the failing store probes it; a call for another store does not."""
    stores.failed(stores.first, StoreError("no"))
    clock.advance(0.5)
    assert stores.named("second") is not None
    assert stores.probe_at <= clock()


def test_loss_and_return_are_told_once(stores: FailoverStores, seen: list[Event]) -> None:
    """The loss and the return are one event each, however often they are noticed."""
    managed = next(stores.usable())[0]
    for _ in range(3):
        stores.failed(managed, StoreError("refused"))
    for _ in range(3):
        stores.answered(managed)
    assert seen == [
        StoreLost("ns", "first", "refused", meanwhile="meanwhile each process goes on alone"),
        StoreRecovered("ns", 0.0, "store_failed", logging.WARNING, "first"),
    ]
    assert stores.first_answers


def test_one_that_cannot_be_opened_is_lost(seen: list[Event], clock: Clock) -> None:
    """And the next one is asked at once."""

    def fail() -> Store:
        raise StoreError("no such file")

    stores = make(seen, clock, fail)
    assert store_names(stores) == ["second"]
    assert seen == [StoreLost("ns", "first", "no such file", meanwhile="meanwhile each process goes on alone")]


def test_whatever_opening_one_raises_it_is_lost(seen: list[Event], clock: Clock) -> None:
    """An exception that no caller expects would end the poll before the next store is asked."""

    def fail() -> Store:
        raise ZeroDivisionError("secret")

    assert store_names(make(seen, clock, fail)) == ["second"]
    [lost] = seen
    assert isinstance(lost, StoreLost)
    assert lost.reason.startswith("unexpected ZeroDivisionError at worker/test_failover.py:")


def test_closing_closes_what_is_open_and_the_next_use_opens_again(seen: list[Event], clock: Clock) -> None:
    """Twice is as good as once."""
    CloseCountingStore.closed = 0
    stores = make(seen, clock, CloseCountingStore)
    stores.close()
    assert CloseCountingStore.closed == 0
    first = stores.named("first")
    stores.close()
    stores.close()
    assert CloseCountingStore.closed == 1
    again = stores.named("first")
    assert first is not None
    assert again is not None
    assert first[1] is not again[1]


def test_one_that_cannot_be_closed_hinders_nothing(
    seen: list[Event], clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and forgotten."""
    monkeypatch.setattr(CloseCountingStore, "fails", True)
    stores = make(seen, clock, CloseCountingStore)
    store_names(stores)
    stores.close()
    assert "could not close first" in caplog.text
    assert store_names(stores) == ["first", "second"]


@pytest.mark.parametrize("kind", ["read_only", "rights", "full"])
def test_a_store_that_refuses_to_write_is_not_mended_by_an_answer(seen: list[Event], clock: Clock, kind: str) -> None:
    """Polls may read there all the while: it is over when a write succeeds, or none was refused for long."""
    stores = make(seen, clock, MemoryStore, settles_after=30)
    refusal = StoreError("no", kind)
    stores.failed(stores.first, refusal)
    for _ in range(5):
        clock.advance(10)
        stores.answered(stores.first)
        assert stores.first_answers
        clock.advance(10)
        stores.failed(stores.first, refusal)
    assert [type(event) for event in seen] == [StoreLost]
    clock.advance(10)
    stores.answered(stores.first, wrote=True)
    assert len(seen) == (1 if kind == "full" else 2)  # one that is full still lets a lease be renewed
    stores.answered(stores.first, stored=True)
    assert seen[1:] == [StoreRecovered("ns", 110, f"store_{kind}", logging.ERROR, "first")]
    stores.failed(stores.first, refusal)
    for _ in range(4):
        clock.advance(10)
        stores.answered(stores.first)
    assert seen[3:] == [StoreRecovered("ns", 10, f"store_{kind}", logging.ERROR, "first")]


class ProbingStore(MemoryStore):
    """A store that begins with a write, once it refused one."""

    proves = ("full",)
    refuses = False


def test_an_answer_from_before_a_refusal_ends_no_trouble(seen: list[Event], clock: Clock) -> None:
    """A poll that only read may be under way while another thread's write is refused."""
    stores = make(seen, clock, ProbingStore, settles_after=30)
    store_names(stores)
    store = stores.first.store
    assert isinstance(store, ProbingStore)
    store.refuses = True
    stores.failed(stores.first, StoreError("no", "full"))
    stores.answered(stores.first)
    assert not stores.first_answers
    store.refuses = False
    stores.answered(stores.first)
    assert [type(event) for event in seen] == [StoreLost, StoreRecovered]


def test_a_store_opened_anew_has_not_sent_a_notice_yet(seen: list[Event], clock: Clock) -> None:
    """A refusal of notices ends with one that is sent, not with a store object that was never asked to send any."""
    opened: list[NotifyingStore] = []

    def open_() -> Store:
        opened.append(NotifyingStore())
        return opened[-1]

    stores = make(seen, clock, open_)
    store_names(stores)
    opened[-1].push_refused = "NOPERM"
    stores.answered(stores.first)
    stores.close()
    store_names(stores)
    stores.answered(stores.first)
    opened[-1].push_refused = "NOPERM"
    stores.answered(stores.first)
    assert [type(event) for event in seen] == [PushLost]
    opened[-1].push_refused = ""
    stores.answered(stores.first)
    assert [type(event) for event in seen] == [PushLost, PushRecovered]


class NotifyingStore(MemoryStore):
    """Says what became of its latest notice, as a store in Redis does."""

    push_refused: str | None = None
