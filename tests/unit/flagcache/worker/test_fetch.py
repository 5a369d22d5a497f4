"""The thread of the fleet's own fetch: it ends when it is cancelled, however early that is."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import cast

import pytest

from flagcache.runtime.callers import Inside
from flagcache.stores.base import Grant
from flagcache.vendor import Fetcher, FetchResult, Unchanged
from flagcache.worker.config import CacheConfig
from flagcache.worker.fetch import FetchThread
from flagcache.worker.grants import PollOutcome
from flagcache.worker.publish import Publisher


class FakePublisher:
    """Stands for the reports of a worker that holds nothing."""

    held = None

    def __init__(self) -> None:
        self.called_off_fetches = 0

    def abandon(self, *_args: object) -> None:
        """As `Publisher.abandon`."""
        self.called_off_fetches += 1


class Counting:
    """A fetcher that counts its calls, and sends no request."""

    def __init__(self) -> None:
        self.asked = 0

    def fetch(self, etag: str) -> FetchResult:
        """As `Fetcher.fetch`."""
        self.asked += 1
        return Unchanged()

    def cancel(self) -> None:
        """As `Fetcher.cancel`."""


def test_a_fetch_that_is_cancelled_before_its_thread_runs_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancel waits for a thread that another thread has created but not started yet, and doesn't raise."""
    made, go_on, publisher, fetcher = threading.Event(), threading.Event(), FakePublisher(), Counting()
    config = cast("CacheConfig", SimpleNamespace(inside=Inside(), namespace="team"))
    fetching = FetchThread(config, cast("Publisher", publisher), lambda: None, lambda: None)
    start = threading.Thread.start

    def start_late(thread: threading.Thread) -> None:
        if thread.name == "flagcache-fetch":
            made.set()
            assert go_on.wait(10)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_late)
    outcome, grant = PollOutcome("store", Grant(0, 1, 1), 1, 0.0), Grant(0, 1, 1)
    beginning = threading.Thread(target=fetching.start, args=(outcome, grant, cast("Fetcher", fetcher)))
    beginning.start()
    assert made.wait(10)
    fetching.cancel(0.01)  # it has not begun, and is not waited for longer than that
    was_busy = fetching.busy
    go_on.set()
    fetching.cancel(10)
    beginning.join(10)
    assert (was_busy, fetching.busy) == (True, False)
    assert (fetcher.asked, publisher.called_off_fetches, fetching.requests) == (0, 1, 0)
