"""PostHog, with a record of what it served and when. Workers are judged by this record."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from flagcache.encoding import payload as envelope
from flagcache.vendor import Definitions
from flagcache_posthog.definitions import PostHogVendor
from tests.simulation.scheduler import Scheduler
from tests.simulation.threads import Event

__all__ = ["PostHog", "Response", "definitions", "version_of"]

vendor = PostHogVendor()


def definitions(content: int) -> Definitions:
    """The definitions of one content, as new objects."""
    body: dict[str, object] = {
        "flags": [{"key": "flag", "content": content, "team_id": 1}],
        "group_type_mapping": {},
        "cohorts": {},
    }
    return vendor.of_response(body)


@cache
def version_of(content: int) -> str:
    """The version of one content."""
    return envelope.digest(definitions(content))


@dataclass(frozen=True, slots=True)
class Response:
    """One answer, and when PostHog made it."""

    status: int
    content: int
    served: float
    """When PostHog made it."""
    retry_after: float | None = None

    @property
    def etag(self) -> str:
        """Names the content to PostHog."""
        return f"E{self.content}"


@dataclass(slots=True)
class PostHog:
    """The vendor's server.

    Args:
        scheduler: has the clock.
        rng: draws how long answers take.
    """

    scheduler: Scheduler
    rng: random.Random
    past: list[tuple[float, int]] = field(default_factory=lambda: [(float("-inf"), 1)])
    """The contents served, and since when."""
    status: int = 200
    """The answer to all workers."""
    retry_after: float | None = None
    bad_keys: dict[str, int] = field(default_factory=dict[str, int])
    """The status with which each process is refused; 0: its connections fail."""
    slowness: float = 0.1
    """Mean seconds for an answer."""
    served_new: Callable[[str], None] | None = None
    """Called with the name of a process that gets definitions which it does not have."""

    @property
    def content(self) -> int:
        """The content served now."""
        return self.past[-1][1]

    def change(self, content: int) -> None:
        """Serve this from now on."""
        self.past.append((self.scheduler.now, content))

    @property
    def newest(self) -> int:
        """The highest content ever served."""
        return max(content for _, content in self.past)

    def served_between(self, version: str, start: float, end: float) -> bool:
        """Return whether PostHog served this version at any time between these two."""
        for i, (since, content) in enumerate(self.past):
            until = self.past[i + 1][0] if i + 1 < len(self.past) else float("inf")
            if version_of(content) == version and since <= end and until >= start:
                return True
        return False

    def request(self, who: str, etag: str, timeout: float) -> Response | None:
        """Make one conditional GET on the running task; None if it brought no answer in time."""
        box: list[Response] = []
        done = Event()
        there, back = (self.rng.expovariate(1 / self.slowness) / 2 for _ in range(2))

        def serve() -> None:
            response = self._answer(who, etag)
            if response is not None:
                box.append(response)
                self.scheduler.after(back, done.set)

        self.scheduler.after(there, serve)
        return box[0] if done.wait(timeout) else None

    def _answer(self, who: str, etag: str) -> Response | None:
        now, content = self.scheduler.now, self.content
        status = self.bad_keys.get(who, self.status)
        if not status:
            return None
        unchanged = status == 200 and etag == f"E{content}"
        if status == 200 and not unchanged and self.served_new is not None:
            self.served_new(who)
        return Response(304 if unchanged else status, content, now, self.retry_after if status > 304 else None)
