"""Events for a store that does not answer, refuses, or pushes nothing, and for the end of these failures.

Users import them from `flagcache.events`; `flagcache.failures` says when such events are emitted.
"""

from __future__ import annotations

import logging

from flagcache.event import Event, Recovery, shown

__all__ = [
    "NOT_ALLOWED",
    "NO_THREAD",
    "PATCHED_LATE",
    "REFUSED",
    "PushLost",
    "PushRecovered",
    "StoreLost",
    "StoreRecovered",
]

_REFUSALS = {
    "password": "refuses the user or the password",
    "rights": "refuses a command to this user",
    "read_only": "refuses to write",
    "full": "is full",
    "loading": "is loading its data",
    "failed": "fails",
}
"""What a store does that answers but fails, by kind of `flagcache.errors.StoreError`."""

_REMEDIES = {
    "store_password": "check user and password in its URL",
    "store_rights": "give its user the rights that docs/security.md lists",
    "store_read_only": "use the address of the primary, or fix what makes it read-only",
    "store_full": "free memory there, or raise its limit",
}
"""What an operator has to do, by `trouble`."""

_FILE = "sqlite:"
"""Start of a file store's address: its rights are those of the operating system."""


class StoreLost(Event):
    """A store does not answer, or refuses; the next one takes over."""

    store: str
    reason: str
    trouble: str = "store_failed"
    """The reason in one word: `store_timeout`, `store_password`."""
    meanwhile: str = ""
    """What happens without it, for the log."""
    lasted: float = 0.0

    @property
    def level(self) -> int:
        """ERROR if an operator must act: password, rights, a full or read-only store. Not for a fallback store."""
        return logging.ERROR if self.trouble in _REMEDIES else logging.WARNING

    def __str__(self) -> str:
        kind = self.trouble.partition("_")[2]
        what, remedy = _REFUSALS.get(kind, "does not answer"), _REMEDIES.get(self.trouble)
        if kind == "rights" and self.store.startswith(_FILE):
            what = "may not be used by this process"
            remedy = remedy and "let its user read and write the file and its directory"
        lasted = f" (for {shown(self.lasted)})" if self.lasted else ""
        then = "".join(f"; {part}" for part in (self.meanwhile, remedy) if part)
        return f"{self.store} {what}{lasted}: {self.reason}{then}"


class StoreRecovered(Recovery):
    """A store answers again."""

    store: str

    def __str__(self) -> str:
        return f"{self.store} answers again after {shown(self.lasted)}"


REFUSED, NO_THREAD, PATCHED_LATE = "push_refused", "push_no_thread", "push_patched_late"
NOT_ALLOWED = "push_not_allowed"
"""Why changes are not pushed: the store refuses the subscription; the system refuses a thread; gevent patched late; the
store's user may not publish."""


class PushLost(Event):
    """Changes are not pushed to this process, or not by it to others: they arrive with polls."""

    reason: str
    trouble: str
    """The reason in one word: `push_refused`, `push_no_thread`, `push_patched_late`, `push_not_allowed`."""
    lasted: float = 0.0
    _level = logging.WARNING

    def __str__(self) -> str:
        reason = f"{self.reason}, for {shown(self.lasted)}" if self.lasted else self.reason
        if self.trouble == NO_THREAD:
            return (
                f"no thread to listen for changes ({reason}): this process takes them with its polls, and retries"
                " at each poll"
            )
        if self.trouble == NOT_ALLOWED:
            return f"changes are not pushed ({reason}): each process takes them with its polls"
        if self.trouble == PATCHED_LATE:
            return (
                f"{reason}: this process takes changes with its polls, without push. Patch first; with"
                " gunicorn's --preload, begin gunicorn.conf.py with `from gevent import monkey; monkey.patch_all()`"
            )
        return (
            f"no notices ({reason}): this process takes changes with its polls, and retries the subscription at"
            " least every 300 s"
        )


class PushRecovered(Recovery):
    """Changes are pushed again."""

    def __str__(self) -> str:
        what = "listening for changes" if self.trouble == NO_THREAD else "changes are pushed"
        return f"{what} again after {shown(self.lasted)}"
