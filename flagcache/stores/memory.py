"""A store in this process's memory, for single processes, for tests, and for when no other store can be reached.

The smallest store: the rules under a lock. Invariant: it never outlives its process. A forked child starts with an
empty one (`MemoryHub` makes it), because the lease that it would inherit belongs to the parent.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from flagcache.runtime.clock import wall_milliseconds
from flagcache.runtime.process_lock import ProcessLock
from flagcache.stores.abilities import Subscription
from flagcache.stores.base import (
    LARGEST_PAYLOAD,
    Ask,
    Envelope,
    Notice,
    Published,
    Replacing,
    Reply,
    Snapshot,
)
from flagcache.stores.rules import verbs as rules
from flagcache.stores.unexpected import only_store_errors
from flagcache.stores.verbs_by_rules import VerbsByRules

__all__ = ["MemoryHub", "MemoryStore"]

_T = TypeVar("_T")

_KEPT = 256
"""Maximum number of unused stores to keep. A long test run creates a new name for each test."""

_BACKLOG = 64
"""Notices kept for a subscriber that does not read. They only say "ask", so the oldest may be dropped."""


@only_store_errors
class MemoryStore(VerbsByRules):
    """One namespace in memory.

    Args:
        clock: returns the store's time in milliseconds.
    """

    def __init__(self, clock: Callable[[], int] = wall_milliseconds) -> None:
        super().__init__(clock)
        self._lock = threading.RLock()  # reentrant: a signal handler may interrupt a verb
        self._state = rules.State()
        self._payload = b""
        self._subscriptions: list[_Subscription] = []

    def poll(self, ask: Ask) -> Reply:
        """As `Store.poll`."""

        def verb(state: rules.State) -> tuple[rules.State, Reply, Notice | None]:
            size = len(self._payload)
            if size > LARGEST_PAYLOAD:
                self._payload, state = b"", state._replace(meta=None)
            after, reply = rules.poll(state, ask, self._clock(), size=size)
            told = reply if reply.payload is None else reply._replace(payload=self._payload)
            return after, told, rules.announced(state, ask, reply)

        return self._run_verb(verb)

    def publish(
        self, me: str, envelope: Envelope, *, fresh: bool, lease: int, replacing: Replacing | None = None
    ) -> Published:
        """As `Store.publish`."""

        def verb(state: rules.State) -> tuple[rules.State, Published, Notice | None]:
            told = rules.publish(state, me, envelope, self._clock(), fresh=fresh, lease=lease, replacing=replacing)
            if rules.replaces_payload(told[0], envelope, told[1]):
                self._payload = envelope.payload
            return told

        return self._run_verb(verb)

    def inspect(self) -> Snapshot:
        """As `Store.inspect`."""
        with self._lock:
            size = len(self._payload) if self._state.meta else 0
            return rules.snapshot(self._state, size, self._clock())

    def clear(self, stamp: str = "") -> int:
        """As `Store.clear`."""

        def verb(state: rules.State) -> tuple[rules.State, int, Notice]:
            self._payload = b""
            state, notice = rules.clear(state, self._clock(), stamp)
            return state, notice.epoch, notice

        return self._run_verb(verb)

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def subscribe(self) -> Subscription:
        """As `Subscribable.subscribe`."""
        subscription = _Subscription()
        with self._lock:
            self._subscriptions = [s for s in self._subscriptions if not s.closed] + [subscription]
        return subscription

    def _run_verb(self, verb: Callable[[rules.State], tuple[rules.State, _T, Notice | None]]) -> _T:
        with self._lock:
            self._state, result, notice = verb(self._state)
        if notice is not None:
            for subscription in self._subscriptions:
                subscription.put(notice)
        return result


@only_store_errors
class _Subscription:
    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._notices: deque[Notice] = deque(maxlen=_BACKLOG)
        self.closed = False

    def put(self, notice: Notice) -> None:
        with self._condition:
            self._notices.append(notice)
            self._condition.notify()

    def get(self, timeout: float) -> Notice | None:
        with self._condition:
            self._condition.wait_for(lambda: self._notices or self.closed, timeout)
            return self._notices.popleft() if self._notices else None

    def close(self) -> None:
        with self._condition:
            self.closed = True
            self._condition.notify_all()


class MemoryHub:
    """Memory stores by name, so that all clients of one process share one.

    The latest 256 are kept; an older one lasts as long as a cache uses it.
    """

    def __init__(self) -> None:
        self._lock = ProcessLock()
        self._pid = 0
        self._latest: dict[str, MemoryStore] = {}
        """By name, the latest last."""
        self._used: WeakValueDictionary[str, MemoryStore] = WeakValueDictionary()

    def store(self, name: str) -> MemoryStore:
        """Return this process's store of this name; the same at each call."""
        with self._lock:
            if self._pid != os.getpid():  # in a forked child: the parent's stores stay the parent's
                self._pid, self._latest, self._used = os.getpid(), {}, WeakValueDictionary()
            store = self._latest.pop(name, None) or self._used.get(name) or MemoryStore()
            self._latest[name] = self._used[name] = store
            if len(self._latest) > _KEPT:
                del self._latest[next(iter(self._latest))]
            return store

    def forget(self, wanted: Callable[[str], bool]) -> None:
        """Forget these stores: the next request for such a name gets an empty one. Existing users keep the old one."""
        with self._lock:
            for name in [name for name in {**self._latest, **self._used} if wanted(name)]:
                self._latest.pop(name, None)
                self._used.pop(name, None)
