"""The background thread of a process with attached clients: hears notices, keeps the lease, takes over, pushes.

Polling is the truth and a notice only a hint: after each (re)connection the worker asks before it trusts, and what a
lost notice would have told, the next poll tells. The thread holds its worker weakly, ends with it, and never outlives
`stop`. When it acts is decided by `flagcache.core.schedule`.
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

from flagcache.errors import StoreError
from flagcache.runtime.guard import log_exceptions
from flagcache.runtime.threads import patched_late, try_start
from flagcache.stores.abilities import Subscription
from flagcache.stores.base import GRANTED, Notice

__all__ = ["Listener", "Listening", "listen_soon"]

_AFTER_FORK = 1.0
"""Seconds after which a forked child begins to listen: one that lives shorter has no use for it."""

_LONGEST_SLEEP = 5.0
"""Seconds after which the thread looks whether its worker still exists."""

_SPREAD = 0.05
"""Seconds over which workers spread what they do upon the same notice, so that a store does not meet all at once."""

_AT_ONCE = 64
"""How many notices are taken for one; those of a flood must not keep the thread from what is due."""

_FLOOD = 16
"""How often in a row so many may be taken while more are waiting. Then the subscription is opened anew, and drops them:
they are old, and a server keeps up to 32 MB of them for each subscriber (Redis's `client-output-buffer-limit`)."""


def listen_soon(start: Callable[[], None], namespace: str) -> None:
    """In a forked child whose parent listened: begin to listen a little later.

    A `threading.Thread` would wait for its own start. With gevent, whose subprocesses are forks that run hooks, another
    greenlet of the parent's would go on meanwhile, in the child; and the child is about to execute another program.
    Without a thread, the child begins with its first poll. So it does if gevent has patched meanwhile: this thread is
    none of gevent's, and greenlets that it starts would end with it.
    """
    with suppress(RuntimeError):
        _thread.start_new_thread(_begin_later, (start, namespace))


def _begin_later(start: Callable[[], None], namespace: str) -> None:
    time.sleep(_AFTER_FORK)
    if not patched_late():
        log_exceptions(start, None, namespace, "a forked process could not begin to listen")


class Listening(Protocol):
    """What the listener does its work on: the worker."""

    def subscribe(self) -> Subscription | None:
        """Open a stream of notices; None if the store gives none now."""
        ...

    def on_reconnect(self) -> None:
        """Push: something may have changed while this process did not listen."""
        ...

    def on_notice(self, notice: Notice) -> None:
        """Do what a notice asks for."""
        ...

    def run_due(self) -> float:
        """Do what is due, and tell the seconds until the next duty.

        Raises:
            StoreError: the subscription carries nothing, and is to be opened anew.
        """
        ...


class Listener:
    """The thread of one process.

    Args:
        worker: does the work; held weakly.
        namespace: of its cache, for the log.
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
        """Whether it hears the store's notices."""
        return self._thread is not None and self._stream.is_open

    def start(self) -> str:
        """Start the thread, unless it runs; one, however many threads ask for it at once.

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
        """End the thread, and wait at most so many seconds for its end."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
            stream = self._stream
        log_exceptions(stream.close, None, self._namespace, "a subscription could not be closed")
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(longest)


class _Stream:
    """The notices of one connection after the other; only waits where there is none."""

    def __init__(self) -> None:
        self._subscription: Subscription | None = None
        self._grants: list[Notice] = []
        """Came close to another notice, and are still to be told."""
        self._full = 0
        """How often in a row more notices were waiting than are taken for one."""

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._subscription is not None

    def open(self, worker: Listening) -> bool:
        """Connect if there is no connection; whether there is a new one."""
        if self._subscription is not None:
            return False
        self._subscription, self._grants, self._full = worker.subscribe(), [], 0
        return self._subscription is not None

    def get(self, pause: float, stop: threading.Event) -> Notice | None:
        """Wait so long for a notice, or for the last of several that came close together.

        Raises:
            StoreError: the subscription is of no use any more.
        """
        subscription = self._subscription
        if subscription is None:
            stop.wait(max(pause, 0.05))
            return None
        notice = self._grants.pop() if self._grants else subscription.get(pause)
        if notice is None:
            return None
        if notice.kind != GRANTED:
            stop.wait(random.uniform(0, _SPREAD))
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
        """Return the one of two notices that counts. One of a grant is kept beside another one: it comes next."""
        if GRANTED in (notice.kind, later.kind):
            granted, other = (later, notice) if later.kind == GRANTED else (notice, later)
            if other.kind != GRANTED:
                self._grants = [granted]
            return other
        # Of a lease that fell free nothing else tells.
        return notice if notice.kind == "free" and later.kind != "free" else later

    def close(self) -> None:
        """Disconnect; wakes a `get` under way."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()


def _run(ref: weakref.ref[Listening], stream: _Stream, stop: threading.Event, namespace: str) -> None:
    pid = os.getpid()
    while not stop.is_set() and ref() is not None:
        log_exceptions(lambda: _listen(ref, stream, stop), None, namespace, "the listener failed, and goes on")
        if os.getpid() != pid:  # a greenlet goes on in a child
            return
        stream.close()
        stop.wait(random.uniform(0.25, 1.0))


def _listen(ref: weakref.ref[Listening], stream: _Stream, stop: threading.Event) -> None:
    """Subscribe, then ask, then listen, until the connection is lost."""
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
