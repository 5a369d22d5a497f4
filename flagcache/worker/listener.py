"""The background thread of a process with attached clients: receives notices, renews the lease, takes over, pushes.

Polling is authoritative; notices are hints. The worker polls after every (re)connect, so a lost notice costs at most
one poll interval. The thread holds its worker weakly, ends with it, and never outlives `stop`.
`flagcache.core.schedule` decides when it acts.
"""

from __future__ import annotations

import _thread
import os
import random
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from flagcache.core.notices import SPREAD, merged
from flagcache.errors import StoreError
from flagcache.runtime.guard import log_exceptions
from flagcache.runtime.threads import patched_late, try_start
from flagcache.stores.abilities import Subscription
from flagcache.stores.base import GRANTED, Notice

__all__ = ["Listener", "Listening", "listen_soon"]

_AFTER_FORK = 1.0
"""Seconds after which a forked child begins to listen: a shorter-lived child doesn't need it."""

_LONGEST_SLEEP = 5.0
"""Seconds after which the thread checks that its worker still exists."""

_AT_ONCE = 64
"""How many notices are merged into one, so that a flood doesn't keep the thread from what is due."""

_FLOOD = 16
"""How often in a row that many may be merged while more are waiting. Then we open the subscription again, which drops
the rest: they are old, and a server keeps up to 32 MB of them for each subscriber (Redis's
`client-output-buffer-limit`)."""


def listen_soon(start: Callable[[], None], namespace: str) -> None:
    """In a forked child whose parent listened: start to listen a little later.

    A `threading.Thread` would wait for its own start. gevent's subprocesses are forks that run hooks: during that wait
    another greenlet of the parent would run in the child, which is about to execute another program. Without a thread,
    the child begins to listen with its first poll. It also does if gevent has patched meanwhile, because greenlets that
    this thread starts would end with it.
    """
    with suppress(RuntimeError):
        _thread.start_new_thread(_begin_later, (start, namespace))


def _begin_later(start: Callable[[], None], namespace: str) -> None:
    time.sleep(_AFTER_FORK)
    if not patched_late():
        log_exceptions(start, None, namespace, "starting the listener after a fork failed: the next poll starts it")


class Listening(Protocol):
    """The background of a worker, as the listener calls it."""

    def subscribe(self) -> Subscription | None:
        """Open a subscription; None if the store has no notices now."""
        ...

    def on_reconnect(self) -> None:
        """Push: something may have changed while this process did not listen."""
        ...

    def on_notice(self, notice: Notice) -> None:
        """Do what a notice asks for."""
        ...

    def run_due(self) -> float:
        """Do what is due; return the seconds until something else may be due.

        Raises:
            StoreError: the subscription is broken and must be opened again.
        """
        ...


class Listener:
    """The thread of one process.

    Args:
        worker: does the work; held weakly.
        namespace: its cache, as named in log lines.
    """

    def __init__(self, worker: Listening, namespace: str) -> None:
        self._worker = weakref.ref(worker)
        self._namespace = namespace
        self._stop = threading.Event()
        self._stream = _Stream()
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()  # reentrant: a signal handler may stop what it interrupted

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    @property
    def running(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._thread is not None

    @property
    def subscribed(self) -> bool:
        """Whether it is subscribed to the store's notices."""
        return self._thread is not None and self._stream.is_open

    def start(self) -> str:
        """Start the thread unless it runs; only one, even if several threads call this at once.

        Returns:
            Why the system refused the thread; empty if it runs. A later call tries again.
        """
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return ""
            stop, stream = threading.Event(), _Stream()
            args = (self._worker, stream, stop, self._namespace)
            thread = threading.Thread(target=_run, args=args, name="flagcache-listener", daemon=True)
            self._stop, self._stream = stop, stream
            refused = try_start(thread)
            self._thread = None if refused else thread
            return refused

    def stop(self, longest: float) -> None:
        """End the thread, and wait at most `longest` seconds for its end."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
            stream = self._stream
        log_exceptions(stream.close, None, self._namespace, "closing a subscription failed")
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(longest)


class _Stream:
    """The notices of one connection after another; without a connection it only waits."""

    def __init__(self) -> None:
        self._subscription: Subscription | None = None
        self._grants: list[Notice] = []
        """Notices of grants that arrived together with another notice and are returned next."""
        self._full = 0
        """How often in a row more notices were waiting than are merged into one."""

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._subscription is not None

    def open(self, worker: Listening) -> bool:
        """Connect if there is no connection; return whether there is a new one."""
        if self._subscription is not None:
            return False
        self._subscription, self._grants, self._full = worker.subscribe(), [], 0
        return self._subscription is not None

    def get(self, pause: float, stop: threading.Event) -> Notice | None:
        """Wait at most `pause` seconds for a notice; of several that arrive together, return the one that counts.

        Raises:
            StoreError: the subscription is broken.
        """
        subscription = self._subscription
        if subscription is None:
            stop.wait(max(pause, 0.05))
            return None
        notice = self._grants.pop() if self._grants else subscription.get(pause)
        if notice is None:
            return None
        if notice.kind != GRANTED:
            stop.wait(random.uniform(0, SPREAD))
        for _ in range(_AT_ONCE):
            if (later := subscription.get(0)) is None:
                self._full = 0
                return notice
            notice = self._merged(notice, later)
        self._full += 1
        if self._full == _FLOOD:
            raise StoreError("more notices came than a fleet sends")
        return notice

    def _merged(self, notice: Notice, later: Notice) -> Notice:
        """Return the one of two notices that counts. A notice of a grant is kept, and returned next."""
        if GRANTED in (notice.kind, later.kind):
            granted, other = (later, notice) if later.kind == GRANTED else (notice, later)
            if other.kind != GRANTED:
                self._grants = [granted]
            return other
        return merged(notice, later)

    def close(self) -> None:
        """Disconnect; wakes a `get` under way."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()


def _run(ref: weakref.ref[Listening], stream: _Stream, stop: threading.Event, namespace: str) -> None:
    pid = os.getpid()
    while not stop.is_set() and ref() is not None:
        log_exceptions(lambda: _listen(ref, stream, stop), None, namespace, "the listener failed; it continues")
        if os.getpid() != pid:  # a greenlet continues in a forked child
            return
        stream.close()
        stop.wait(random.uniform(0.25, 1.0))


def _listen(ref: weakref.ref[Listening], stream: _Stream, stop: threading.Event) -> None:
    """Subscribe, then poll, then listen, until the connection is lost."""
    while not stop.is_set() and (worker := ref()) is not None:
        if stream.open(worker):
            worker.on_reconnect()
        try:
            pause = min(_LONGEST_SLEEP, worker.run_due())
            del worker  # held only weakly while the thread sleeps
            notice = stream.get(pause, stop)
        except StoreError:
            return
        worker = ref()
        if notice is not None and worker is not None and not stop.is_set():
            worker.on_notice(notice)
