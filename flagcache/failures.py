"""The events for failures and their ends.

Users import them from `flagcache.events`, and `DefinitionsMalformed` from `flagcache.worker.malformed`.

A failure is reported when it begins, when its reason changes, and once an hour while it lasts; `lasted` is the number
of seconds since it began. The same process reports its end with a `Recovery`.
"""

from __future__ import annotations

import logging

from flagcache.event import Event, Recovery, shown
from flagcache.stores.base import Scope

__all__ = [
    "ColdStartExpired",
    "ColdStartRecovered",
    "DefinitionsFresh",
    "DefinitionsMalformed",
    "DefinitionsStale",
    "FetchFailed",
    "FetchRecovered",
    "QuotaLimited",
    "QuotaRestored",
]

QUOTA = 402
"""The HTTP status for a used-up quota."""

_UNKNOWN = 1e9
"""Seconds. An age this large is unknown: the store's time of the last confirmation was ahead of its clock, or lost."""

_NAMED = 10
"""How many malformed parts a log line names."""


class FetchFailed(Event):
    """A fetch by this process failed: the first time, for a new reason, or still after an hour.

    The failure ends when any process of the fleet fetches successfully.
    """

    reason: str
    status: int
    """The HTTP status; 0 if there was no answer, or it is unknown."""
    scope: Scope
    """`MINE`: this process stays out and others take over. `EVERYBODY`: the whole fleet waits."""
    retry_in: float
    trouble: str = "fetch_failed"
    """The reason in one word: `posthog_401`, `posthog_timeout`."""
    lasted: float = 0.0
    empty: bool = False
    """True: clients have no flags, because none arrived yet or the quota is used up."""

    @property
    def level(self) -> int:
        """ERROR if the keys are refused. DEBUG if the quota is used up, which `QuotaLimited` reports."""
        if self.status == QUOTA:
            return logging.DEBUG
        return logging.ERROR if self.status in (401, 403) else logging.WARNING

    def __str__(self) -> str:
        lasted = f" (failing for {shown(self.lasted)})" if self.lasted else ""
        if self.scope is Scope.MINE:
            then = f"another process may fetch, this one tries again in {shown(self.retry_in)} at the earliest"
        else:
            then = f"the fleet tries again in {shown(self.retry_in)}"
        remedy = (
            "; check the project key and the secret key: PostHog refuses one of them"
            if self.status in (401, 403)
            else ""
        )
        kept = "clients have no flags" if self.empty else "clients keep what they have"
        return f"fetch failed: {self.reason}{lasted}; {kept}, {then}{remedy}"


class FetchRecovered(Recovery):
    """Fetches succeed again."""

    own: bool = True
    """False: another process fetched; this process has not succeeded since."""

    def __str__(self) -> str:
        if self.own:
            return f"fetches succeed again after {shown(self.lasted)}"
        return (
            f"another process fetches for the fleet again after {shown(self.lasted)}; this one has not succeeded since"
        )


class QuotaLimited(Event):
    """The vendor's quota is used up: clients get no flags, or keep the last ones (`on_quota_limited`)."""

    cleared: bool
    lasted: float = 0.0
    empty: bool = False
    """True: no flags arrived yet."""

    @property
    def level(self) -> int:
        """ERROR if all flags are off."""
        return logging.ERROR if self.cleared else logging.WARNING

    def __str__(self) -> str:
        lasted = f", for {shown(self.lasted)}" if self.lasted else ""
        if self.cleared:
            return (
                f"PostHog's quota is used up (402{lasted}): all flags are off until it is restored; raise the limit in"
                ' PostHog\'s billing, or deploy on_quota_limited="keep"'
            )
        kept = "clients have no flags" if self.empty else "clients keep the last known flags"
        return f"PostHog's quota is used up (402{lasted}): {kept}; raise the limit"


class QuotaRestored(Recovery):
    """The vendor no longer answers that the quota is used up; flags are back."""

    status: int = 0
    """The HTTP status of the vendor's new answer; 0: a fetch succeeded."""
    empty: bool = False
    """True: clients have no flags, because none arrived yet."""

    def __str__(self) -> str:
        if self.status:
            used = "clients have no flags" if self.empty else "clients use the last known flags again"
            return f"PostHog answers {self.status}; before, its quota was used up for {shown(self.lasted)}; {used}"
        return f"PostHog's quota is restored after {shown(self.lasted)}; clients use all flags again"


class DefinitionsStale(Event):
    """The vendor has not confirmed this process's definitions for longer than `stale_after`."""

    age: float
    quota: bool = False
    """True: because the vendor's quota is used up."""
    lasted: float = 0.0

    @property
    def level(self) -> int:
        """DEBUG if the quota is used up, because `QuotaLimited` reports that and what clients have."""
        return logging.DEBUG if self.quota else logging.WARNING

    def __str__(self) -> str:
        when = f"{shown(self.age)} ago" if self.age < _UNKNOWN else "at an unknown time"
        if self.quota:
            return f"PostHog last confirmed the definitions {when}: its quota is used up"
        return f"PostHog last confirmed the definitions {when}; clients keep them, and changes do not arrive"


class DefinitionsFresh(Recovery):
    """The vendor has confirmed this process's definitions again."""

    def __str__(self) -> str:
        return f"PostHog confirms the definitions again; they were stale for {shown(self.lasted)}"


class ColdStartExpired(Event):
    """No definitions arrived within `cold_start_wait`; this process has no flags until some arrive."""

    waited: float
    lasted: float = 0.0
    declined: bool = False
    """True: with `cold_start_wait=0` there was no wait, so an empty store at the start is no failure yet.
    False once the default wait would be over too."""

    @property
    def level(self) -> int:
        """ERROR; INFO if the wait was declined."""
        return logging.INFO if self.declined else logging.ERROR

    def __str__(self) -> str:
        then = "all flags are off until some arrive; each poll asks for them"
        if self.declined:
            return f"no definitions yet, and cold_start_wait=0 means no wait: {then}"
        return f"no definitions after {shown(max(self.waited, self.lasted))}: {then}"


class ColdStartRecovered(Recovery):
    """The first definitions arrived after `cold_start_wait` was over."""

    def __str__(self) -> str:
        return f"the first definitions have arrived; clients had no flags for {shown(self.lasted)}"


class DefinitionsMalformed(Event):
    """Parts of the vendor's definitions are malformed; the SDK ignores these and uses the others."""

    malformed: tuple[str, ...]
    """Each malformed part, and what is wrong with it."""
    _level = logging.WARNING

    def __str__(self) -> str:
        named, more = self.malformed[:_NAMED], len(self.malformed) - _NAMED
        listed = f"{'; '.join(named)}{f'; and {more} more' if more > 0 else ''}"
        return (
            f"malformed definitions: {listed}. Clients evaluate around them as the SDK alone does, and use all others;"
            " correct or delete them at the vendor"
        )
