"""Emits `DefinitionsChanged` once the clients have the new definitions.

A client adopts definitions shortly after we hand them over, and the SDK doesn't report it. So a thread polls the
clients while a change is pending.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import NamedTuple

from flagcache.event import Event
from flagcache.events import DefinitionsChanged, FlagsRestored
from flagcache.runtime.threads import try_start
from flagcache.vendor import Definitions
from flagcache.worker.config import CacheConfig

__all__ = ["Changes"]

_LONGEST = 1.0
"""Seconds for which an event waits for clients at most."""

_END = 0.2
"""Seconds for which a process that leaves waits for the thread, which looks far more often."""

_LOOKS = 0.01
"""Seconds between two looks at what clients hold."""


class _Gone(NamedTuple):
    """Flags that this process reported as gone."""

    keys: frozenset[str]
    since: float
    level: int
    back: frozenset[str] = frozenset()


class Changes:
    """The pending change events of one process, in order.

    Args:
        config: what all processes of the cache have in common.
    """

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        self._lock = threading.RLock()  # reentrant: a signal handler may shut down the client that it interrupted
        self._gone: _Gone | None = None
        self._waiting: list[tuple[Event, float]] = []
        """Each event with the time at which it is emitted in any case."""
        self._definitions: Definitions | None = None
        """The newest definitions, which clients should hold."""
        self._running = False
        self._thread: threading.Thread | None = None

    def emit(self, event: DefinitionsChanged, definitions: Definitions) -> None:
        """Emit the event: if a thread listens, once all clients hold the definitions, else now."""
        events = [event, *self._restored(event)]
        if self._config.settings.reads_only or not self._config.clients.listening:
            for each in events:
                self._config.events.emit(each)
            return
        with self._lock:
            self._definitions = definitions
            self._waiting += [(each, self._config.clock() + _LONGEST) for each in events]
            start, self._running = not self._running, True
        if not start:
            return
        self._thread = threading.Thread(target=self._run, name="flagcache-changes", daemon=True)
        if try_start(self._thread):
            self._thread = None
            self._running = False
            self._emit_all()

    def _restored(self, event: DefinitionsChanged) -> list[Event]:
        """Return the event for the return of flags that were reported as gone, if there is one."""
        added, removed, now = set(event.difference.added), event.difference.removed, self._config.clock()
        with self._lock:
            gone = self._gone
            if event.level >= logging.WARNING:
                gone = gone or _Gone(frozenset(), now, event.level)
                gone = gone._replace(keys=gone.keys.union(removed), level=max(gone.level, event.level))
            if gone is not None:
                gone = gone._replace(back=(gone.back | gone.keys & added).difference(removed))
            over = gone is not None and 2 * len(gone.back) >= len(gone.keys)
            self._gone = None if over else gone
        if gone is None or not over:
            return []
        lasted = now - gone.since
        return [FlagsRestored(event.namespace, lasted, "flags_gone", gone.level, len(gone.back), len(gone.keys))]

    def flush(self) -> None:
        """Emit all events at once and let the thread end, because the process leaves.

        Don't wait for a slow callback.
        """
        self._emit_all()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread() and thread.is_alive():
            thread.join(_END)

    def _emit_all(self) -> None:
        while (event := self._next(at_once=True)) is not None:
            self._config.events.emit(event)

    def _run(self) -> None:
        pid = os.getpid()
        with self._config.inside.entered():
            while os.getpid() == pid:  # a greenlet continues in a forked child
                event = self._next()
                if event is not None:
                    self._config.events.emit(event)
                elif self._is_over():
                    return
                else:
                    threading.Event().wait(_LOOKS)

    def _next(self, *, at_once: bool = False) -> Event | None:
        """Take the event that is due now, if there is one."""
        with self._lock:
            if not self._waiting:
                return None
            event, until = self._waiting[0]
            if not at_once and self._config.clock() < until and self._is_awaited():
                return None
            del self._waiting[0]
            return event

    def _is_awaited(self) -> bool:
        definitions = self._definitions
        return definitions is not None and any(c.differs_from(definitions) for c in self._config.clients.listening)

    def _is_over(self) -> bool:
        with self._lock:
            self._running = bool(self._waiting)
            return not self._running
