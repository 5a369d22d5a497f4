"""The failures that last in one process: which, since when, and whether they were reported.

Invariant: the end of each reported failure is reported once, with its duration and at its level. No other end is
reported.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from flagcache.core.troubles import Trouble, continued
from flagcache.events import Event, Recovery

__all__ = [
    "FALLBACK",
    "FETCH",
    "FIRST_LOAD",
    "FLEET",
    "FOREIGN_KEY",
    "FOREIGN_PROJECT",
    "KEYS_MISSING",
    "KEYS_REFUSED",
    "LISTENER",
    "PUBLISH",
    "PUSH",
    "QUOTA",
    "STALE",
    "STORE",
    "UNREADABLE",
    "UNSHAREABLE",
    "Troubles",
]

QUOTA: Final = "quota"
FIRST_LOAD: Final = "first_load"
FOREIGN_PROJECT: Final = "foreign_project"
FOREIGN_KEY: Final = "foreign_key"
KEYS_REFUSED: Final = "keys_refused"
"""The vendor refused this process's keys. Ends with a fetch of this process, because others may have other keys. If
the keys of all were refused, it ends with a fetch of any process."""
FLEET: Final = "fleet"
"""The fleet's latest fetch failed, in this process or another."""
FETCH: Final = "fetch"
UNSHAREABLE: Final = "unshareable"
UNREADABLE: Final = "unreadable"
KEYS_MISSING: Final = "keys_missing"
STORE: Final = "store"
FALLBACK: Final = "fallback"
PUSH: Final = "push"
LISTENER: Final = "listener"
PUBLISH: Final = "publish"
"""Changes are not pushed: the store refuses the subscription, the system refuses a thread to listen, or the store
refuses notices."""
STALE: Final = "stale"

_ONCE = (FOREIGN_PROJECT, FOREIGN_KEY)
"""Reported for one store only, because the cause is the same for all stores."""

_GRAVEST_FIRST = (
    *(QUOTA, FIRST_LOAD, FOREIGN_PROJECT, FOREIGN_KEY, KEYS_REFUSED, FETCH, FLEET, UNSHAREABLE, UNREADABLE),
    *(STORE, KEYS_MISSING, FALLBACK, PUSH, LISTENER, PUBLISH, STALE),
)


class Troubles:
    """The lasting failures of one process, by kind.

    Events are returned and not emitted, because the caller may hold a lock.

    Args:
        clock: this process's own clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.active: dict[tuple[str, str], Trouble] = {}
        """By kind and store. Others only read whether it is empty."""
        self._lock = threading.RLock()  # reentrant: a signal handler may interrupt what holds it

    def begin(self, kind: str, reason: str, event: Callable[[float], Event], store: str = "") -> Event | None:
        """Note a failure; return the event that reports it, or None if it was reported already.

        Args:
            kind: which failure it is; its reasons may change, and it ends as a whole.
            reason: its reason now, in one word.
            event: makes the event from the seconds since it began.
            store: the store that it concerns, if each may have one.
        """
        now = self._clock()
        with self._lock:
            before = self.active.get((kind, store))
            if kind in _ONCE and any(
                other.said for (known, at), other in self.active.items() if known == kind and at != store
            ):
                self.active[kind, store] = before or Trouble(reason, now)
                return None
            said = event(now - before.since if before else 0.0)
            self.active[kind, store], speak = continued(before, reason, said.level, now)
        return said if speak else None

    def end(
        self, kind: str, event: Callable[..., Recovery], *more: object, store: str = "", at: float | None = None
    ) -> Recovery | None:
        """Note the end of a failure; return the event that reports it, or None if there was no reported failure.

        Args:
            kind: which failure it was.
            event: makes the event from the fields of every `Recovery`, except the namespace, and from `more`.
            more: further fields of the event; the store comes after them.
            store: the store that it concerned.
            at: when it ended; None: now.
        """
        with self._lock:
            trouble = self.active.pop((kind, store), None)
        if trouble is None or not trouble.said:
            return None
        more = (*more, store) if store else more
        return event((self._clock() if at is None else at) - trouble.since, trouble.reason, trouble.level, *more)

    def record(self, kind: str, reason: str) -> None:
        """Record a failure without an event: only the status shows it."""
        with self._lock:
            before = self.active.get((kind, ""))
            self.active[kind, ""] = Trouble(reason, before.since if before else self._clock())

    def drop(self, kind: str) -> None:
        """Note the end of a failure without an event."""
        with self._lock:
            self.active.pop((kind, ""), None)

    def has(self, kind: str) -> bool:
        """Whether there is one of this kind."""
        return any(known == kind for known, _ in list(self.active))

    def avoids(self, store_name: str) -> bool:
        """Whether this process must not use what is in this store."""
        return (FOREIGN_PROJECT, store_name) in self.active or (FOREIGN_KEY, store_name) in self.active

    @property
    def gravest(self) -> Trouble | None:
        """The gravest failure: first those that leave clients without flags, last those that end by themselves.

        A failure that was not reported because another store has it too doesn't count.
        """
        with self._lock:
            shown = (key for key, trouble in self.active.items() if trouble.said or key[0] not in _ONCE)
            known = min(shown, key=lambda key: _GRAVEST_FIRST.index(key[0]), default=None)
            return None if known is None else self.active[known]
