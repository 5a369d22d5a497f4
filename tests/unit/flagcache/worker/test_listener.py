from __future__ import annotations

import gc
import logging
import queue
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from flagcache.errors import StoreError
from flagcache.stores.abilities import Subscription
from flagcache.stores.base import GRANTED, Notice
from flagcache.worker import listener
from flagcache.worker.listener import Listener, listen_soon
from tests.support.own_threads import threads_of
from tests.support.servers import until

NEW = Notice("new", 0, "v2")
FREE = Notice("free", 0, "v1")


class ScriptedSubscription:
    """A subscription that yields given notices, and then waits until it is closed."""

    def __init__(self, *notices: Notice | Exception) -> None:
        self._notices: queue.SimpleQueue[Notice | Exception] = queue.SimpleQueue()
        for each in notices:
            self.send(each)
        self.waits: list[float] = []
        self.closed = False

    def send(self, what: Notice | Exception) -> None:
        """Tell this next."""
        self._notices.put(what)

    def get(self, timeout: float) -> Notice | None:
        """As `Subscription.get`."""
        self.waits.append(timeout)
        try:
            said = self._notices.get(timeout=timeout) if timeout else self._notices.get_nowait()
        except queue.Empty:
            return None
        if isinstance(said, Exception):
            raise said
        return said

    def close(self) -> None:
        """As `Subscription.close`."""
        self.closed = True
        self.send(StoreError("closed"))


@dataclass(eq=False)
class RecordingWorker:
    """Records the listener's calls (`Listening`)."""

    subscriptions: list[ScriptedSubscription | None]
    """To be had one after the other; then there are none."""
    pause: float = 0.05
    notes: list[str] = field(default_factory=list[str])
    attended: int = 0
    fails: int = 0
    """How often `attend` fails."""

    def subscribe(self) -> Subscription | None:
        """As `Listening.subscribe`."""
        self.notes.append("subscribe")
        return self.subscriptions.pop(0) if self.subscriptions else None

    def on_reconnect(self) -> None:
        """As `Listening.on_reconnect`."""
        self.notes.append("ask again")

    def on_notice(self, notice: Notice) -> None:
        """As `Listening.on_notice`."""
        self.notes.append(notice.kind)

    def run_due(self) -> float:
        """As `Listening.attend`."""
        self.attended += 1
        if self.fails:
            self.fails -= 1
            raise RuntimeError("a fault of ours")
        return self.pause


Start = Callable[[RecordingWorker], Listener]


@pytest.fixture
def start(no_threads_left: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Makes and starts listeners, which are stopped at the end."""
    monkeypatch.setattr(listener, "SPREAD", 0.001)
    started: list[Listener] = []

    def make(worker: RecordingWorker) -> Listener:
        made = Listener(worker, "team")
        made.start()
        started.append(made)
        return made

    yield make
    for each in started:
        each.stop(2.0)


def test_it_asks_before_it_trusts_a_subscription(start: Start) -> None:
    """First subscribe, then ask once what was missed, then heed notices."""
    worker = RecordingWorker([ScriptedSubscription(NEW)])
    start(worker)
    until(lambda: "new" in worker.notes, what="the notice")
    assert worker.notes == ["subscribe", "ask again", "new"]


def test_a_lost_subscription_is_renewed_and_asked_after(start: Start) -> None:
    """When the connection is lost, another one is opened, and what was missed meanwhile asked for."""
    lost, second = ScriptedSubscription(StoreError("lost")), ScriptedSubscription(NEW)
    worker = RecordingWorker([lost, second])
    start(worker)
    until(lambda: "new" in worker.notes, 3.0, what="the notice")
    assert worker.notes == ["subscribe", "ask again", "subscribe", "ask again", "new"]
    assert lost.closed
    assert not second.closed


def test_duties_are_done_where_no_notices_can_be_had(start: Start) -> None:
    """Without a subscription the listener attends to its duties and tries again to subscribe, but trusts nothing."""
    worker = RecordingWorker([None, None, None, ScriptedSubscription()])
    start(worker)
    until(lambda: "ask again" in worker.notes, 3.0, what="a subscription")
    assert worker.notes == ["subscribe"] * 4 + ["ask again"]
    assert worker.attended >= 4


def test_notices_in_a_row_are_heeded_once(start: Start) -> None:
    """Of several notices that come together the last counts; that a lease fell free is never forgotten."""
    script = ScriptedSubscription(NEW, FREE, NEW, Notice("note", 0, "v2"))
    worker = RecordingWorker([script])
    start(worker)
    until(lambda: len(worker.notes) > 2, what="a notice")
    assert worker.notes == ["subscribe", "ask again", "free"]
    script.send(NEW)
    script.send(Notice("note", 0, "v2"))
    until(lambda: len(worker.notes) > 3, what="a notice")
    assert worker.notes[3:] in (["note"], ["new", "note"])


GRANT = Notice(GRANTED, 0, "7")


def test_a_grant_beside_another_notice_is_told_too(start: Start) -> None:
    """A grant beside another notice is passed on, whichever came first; of several grants the last."""
    script = ScriptedSubscription(GRANT, NEW, GRANT, GRANT)
    worker = RecordingWorker([script])
    start(worker)
    until(lambda: len(worker.notes) > 3, what="both notices")
    assert worker.notes == ["subscribe", "ask again", "new", GRANTED]


@pytest.mark.parametrize("notice", [NEW, GRANT], ids=["changes", "grants"])
def test_what_waits_in_a_flood_is_dropped(start: Start, notice: Notice) -> None:
    """Above a thousand notices at once the subscription is opened again, and the store asked what was missed."""
    flooded, second = ScriptedSubscription(*[notice] * 2000), ScriptedSubscription(FREE)
    worker = RecordingWorker([flooded, second])
    start(worker)
    until(lambda: "free" in worker.notes, 5.0, what="a notice of the new subscription")
    assert flooded.closed
    assert 900 < len(flooded.waits) < 1100
    assert worker.notes[-3:] == ["subscribe", "ask again", "free"]
    assert not second.closed


def test_many_notices_one_after_the_other_are_no_flood(start: Start) -> None:
    """As long as the listener takes all that came, its subscription lives on."""
    script = ScriptedSubscription()
    worker = RecordingWorker([script, None])
    start(worker)
    for number in range(1, 40):
        for _ in range(50):
            script.send(GRANT)
        until(lambda: len(worker.notes) > number + 1, what="a notice")  # noqa: B023
    assert not script.closed


@pytest.mark.parametrize(("pause", "waits"), [(0.05, 0.05), (0.0, 0.0), (3600.0, 5.0)])
def test_it_waits_as_long_as_its_duties_allow(start: Start, pause: float, waits: float) -> None:
    """A wait for notices ends with the next duty, and after some seconds in any case."""
    script = ScriptedSubscription()
    start(RecordingWorker([script], pause=pause))
    until(lambda: script.waits, what="a wait")
    assert script.waits[0] == waits


def test_stop_ends_a_wait_and_the_thread(start: Start) -> None:
    """`stop` closes the subscription, and the thread has ended when it returns; it can be started again."""
    script = ScriptedSubscription()
    worker = RecordingWorker([script, ScriptedSubscription(NEW)], pause=3600)
    running = start(worker)
    until(lambda: script.waits, what="it to wait")
    running.stop(2.0)
    assert script.closed
    assert threads_of() == []
    running.start()
    until(lambda: "new" in worker.notes, what="the notice")
    assert threads_of() == ["flagcache-listener"]


def test_a_second_start_starts_nothing(start: Start) -> None:
    """There is one thread, however often it is started."""
    worker = RecordingWorker([ScriptedSubscription(), ScriptedSubscription()])
    running = start(worker)
    running.start()
    running.start()
    until(lambda: worker.attended > 3, what="some rounds")
    assert threads_of() == ["flagcache-listener"]
    assert worker.notes.count("subscribe") == 1


def test_threads_that_start_it_at_once_start_one_thread(no_threads_left: None) -> None:
    """Only one thread is started, which `stop` ends; a second one would run unnoticed."""
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(10):
            worker, barrier = RecordingWorker([]), threading.Barrier(8)
            it = Listener(worker, "team")

            def start(it: Listener = it, barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                it.start()

            starters = [threading.Thread(target=start) for _ in range(8)]
            for starter in starters:
                starter.start()
            for starter in starters:
                starter.join()
            assert threads_of() == ["flagcache-listener"]
            it.stop(5.0)
    finally:
        sys.setswitchinterval(switch)


def test_it_ends_with_its_worker(start: Start) -> None:
    """The thread keeps its worker from being collected no longer than a round of its work takes."""
    script = ScriptedSubscription()
    worker = RecordingWorker([script])
    start(worker)
    until(lambda: script.waits, what="it to wait")
    gone = weakref.ref(worker)
    del worker
    until(lambda: (gc.collect(), gone())[1] is None, what="the worker to be collected")
    until(lambda: threads_of() == [], what="the thread to end")


def test_a_fault_is_logged_and_the_listener_goes_on(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """An exception in its work is logged with its traceback; the listener subscribes again and continues."""
    first = ScriptedSubscription()
    worker = RecordingWorker([first, ScriptedSubscription(NEW)], fails=1)
    with caplog.at_level(logging.ERROR, logger="flagcache"):
        start(worker)
        until(lambda: "new" in worker.notes, 3.0, what="the notice")
    [record] = [each for each in caplog.records if each.name.startswith("flagcache")]
    assert record.exc_info is not None
    assert first.closed


def test_a_forked_child_begins_a_little_later(no_threads_left: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """`listen_soon` returns at once, and starts the listener on a thread for which no process waits at its end."""
    monkeypatch.setattr(listener, "_AFTER_FORK", 0.05)
    started, threads = threading.Event(), threading.enumerate()
    listen_soon(started.set, "team")
    assert not started.is_set()
    assert threading.enumerate() == threads
    assert started.wait(2.0)
