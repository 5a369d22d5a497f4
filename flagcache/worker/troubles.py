"""What is wrong in one process, since when, and what was said of it.

Invariant: each trouble that was said is followed by its end, once, with its length and at its level; nothing else ends.
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
"""The vendor refused the keys of this process. Ends with a fetch of its own, because others may have other keys; if
those of all were refused, with anyone's."""
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
"""Changes are not pushed: the store refuses the subscription, no thread can be had to listen, or the store refuses
notices."""
STALE: Final = "stale"

_ONCE = (FOREIGN_PROJECT, FOREIGN_KEY)
"""Reported for one store only, because several would have the same cause."""

_GRAVEST_FIRST = (
    *(QUOTA, FIRST_LOAD, FOREIGN_PROJECT, FOREIGN_KEY, KEYS_REFUSED, FETCH, FLEET, UNSHAREABLE, UNREADABLE),
    *(STORE, KEYS_MISSING, FALLBACK, PUSH, LISTENER, PUBLISH, STALE),
)


class Troubles:
    """The troubles of one process, by their kinds.

    Events are returned and not emitted: a caller may hold a lock under which it found out.

    Args:
        clock: this process's own clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.known: dict[tuple[str, str], Trouble] = {}
        """By kind and store. Read it to see whether there are any; it is changed here alone."""
        self._lock = threading.RLock()  # reentrant: a signal handler may interrupt what holds it

    def lost(self, kind: str, reason: str, event: Callable[[float], Event], store: str = "") -> Event | None:
        """Note a trouble that is there; the event that says it, or None if it was said.

        Args:
            kind: which trouble it is; it ends as a whole.
            reason: what it is now, in one word.
            event: made of the seconds since it began.
            store: of which it is the trouble, if there may be one of each.
        """
        now = self._clock()
        with self._lock:
            before = self.known.get((kind, store))
            if kind in _ONCE and any(
                other.said for (known, at), other in self.known.items() if known == kind and at != store
            ):
                self.known[kind, store] = before or Trouble(reason, now)
                return None
            said = event(now - before.since if before else 0.0)
            self.known[kind, store], speak = continued(before, reason, said.level, now)
        return said if speak else None

    def found(
        self, kind: str, event: Callable[..., Recovery], *more: object, store: str = "", at: float | None = None
    ) -> Recovery | None:
        """Note that a trouble is over; the event that says it, or None if there was none.

        Args:
            kind: which.
            event: made of what every `Recovery` has, but the namespace, and of `more`.
            more: what else the event tells; the store after that.
            store: of which it was the trouble.
            at: when it was over; None: now.
        """
        with self._lock:
            trouble = self.known.pop((kind, store), None)
        if trouble is None or not trouble.said:
            return None
        more = (*more, store) if store else more
        return event((self._clock() if at is None else at) - trouble.since, trouble.reason, trouble.level, *more)

    def note(self, kind: str, reason: str) -> None:
        """Note a trouble that no event tells: it shows in the status alone."""
        with self._lock:
            before = self.known.get((kind, ""))
            self.known[kind, ""] = Trouble(reason, before.since if before else self._clock())

    def drop(self, kind: str) -> None:
        """Note that such a trouble is over."""
        with self._lock:
            self.known.pop((kind, ""), None)

    def has(self, kind: str) -> bool:
        """Whether there is one of this kind."""
        return any(known == kind for known, _ in list(self.known))

    def shuns(self, store_name: str) -> bool:
        """Whether what is in this store must not be used here."""
        return (FOREIGN_PROJECT, store_name) in self.known or (FOREIGN_KEY, store_name) in self.known

    @property
    def gravest(self) -> Trouble | None:
        """The one that concerns most: what leaves clients without flags first, what will pass by itself last.

        What was left unsaid because of another store is not one of its own.
        """
        with self._lock:
            shown = (key for key, trouble in self.known.items() if trouble.said or key[0] not in _ONCE)
            known = min(shown, key=lambda key: _GRAVEST_FIRST.index(key[0]), default=None)
            return None if known is None else self.known[known]
