"""A process that only fetches for a fleet, whose workers then only read.

It takes part like a worker with an attached client, with the same engine and rules, but its client has no SDK: it
evaluates no flags and sends no events. Its mark gives it precedence over workers (`flagcache.stores.base.REFRESHER`).
It uses only the fleet's store, because without that its definitions would be lost.
"""

from __future__ import annotations

import math
import queue
from collections.abc import Callable
from dataclasses import replace

from posthog.request import determine_server_host
from typing_extensions import Unpack

from flagcache.coordinator import Coordinator
from flagcache.encoding.protection import Protection
from flagcache.errors import ConfigurationError
from flagcache.event_log import log_events
from flagcache.events import (
    Event,
    Events,
    FetchFailed,
    ForeignKey,
    ForeignProject,
    PublicationRefused,
    StoreLost,
)
from flagcache.runtime.callbacks import TimedCallback
from flagcache.runtime.clock import monotonic
from flagcache.settings import Options, Settings
from flagcache.status import State, Status
from flagcache.stores.base import REFRESHER
from flagcache.stores.spec import REDIS_SCHEMES, StoreSpec
from flagcache.worker.config import CacheConfig
from flagcache_posthog._headless_client import HeadlessClient
from flagcache_posthog._options import all_options, parse_options, path_of, scheme_of
from flagcache_posthog._refresher_types import Outcome, Project, Run
from flagcache_posthog._store_specs import redis_spec, sqlite_spec
from flagcache_posthog.attach import project_of
from flagcache_posthog.definitions import PostHogVendor
from flagcache_posthog.fetcher import PostHogFetcher

__all__ = ["FleetRefresher", "Outcome", "Project", "Refresher", "Run"]

_GRACE = 30.0
"""Seconds of delay after which the loop counts as hung: far more than its longest step."""

_MAX_LEASE = 45.0
"""Seconds that others wait for a killed refresher, even if it fetches rarely. It equals the lease of workers that poll
every 30 s; a shorter lease would expire between two of their polls."""

_CHECK_EVERY = 0.1
"""Seconds between two checks whether a single run is done."""

_NO_GRANT = "no fetch was granted: another process leads, or its latest fetch failed"
_NO_END = "the fetch didn't end in time"

_TEMPORARY = frozenset({402, 408, 425, 429})
"""The statuses from 400 to 499 that are temporary: the quota, a time limit, a rate limit."""


class FleetRefresher:
    """Like `Refresher`, for a fleet whose store isn't given by a URL. Users create a `Refresher`.

    Args:
        store: the fleet's store.
        namespace: the namespace of the fleet's caches.
        project: the project to fetch.
        settings: those of the fleet's caches; not a reader's.
        protection: of the envelopes, as in the fleet's caches.
        on_event: as in `Refresher`.
    """

    def __init__(
        self,
        store: StoreSpec,
        namespace: str,
        project: Project,
        *,
        settings: Settings,
        protection: Protection,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        lease = settings.lease or min(settings.lease_for(settings.polls_every(), listening=True), _MAX_LEASE)
        settings = replace(settings, lease=lease)
        vendor, events = PostHogVendor(), Events()
        events.subscribe(log_events)
        events.subscribe(self._record_failure)
        if on_event is not None:
            events.subscribe(TimedCallback(on_event, "on_event"))
        config = CacheConfig(namespace, settings, vendor, (store,), events, protection=protection, mark=REFRESHER)
        fetcher = PostHogFetcher(
            api_key=project.api_key,
            secret_key=project.secret_key,
            host=determine_server_host(project.host),
            vendor=vendor,
            settings=settings,
            namespace=namespace,
        )
        self.protection = protection.name
        """How the envelopes are protected, as `flagcache inspect --protection` names it."""
        self.interval = settings.refresh_interval
        """Seconds between two requests to PostHog."""
        self._settings = settings
        self._coordinator = Coordinator(config)
        self._client = HeadlessClient(self._coordinator, settings.polls_every(), project_of(project.api_key), fetcher)
        self._coordinator.attach(self._client)
        self._end: queue.SimpleQueue[None] = queue.SimpleQueue()  # `put` may interrupt a `get` on the same thread
        self._failure: Event | None = None
        self._hung_at = math.inf

    def run(self) -> None:
        """Fetch and publish repeatedly until `stop` is called; then hand over the lease.

        No outage of PostHog or of the store ends it.
        """
        try:
            while True:
                self._hung_at = monotonic() + _GRACE
                self._coordinator.should_fetch()
                pause = self._pause()
                self._hung_at = monotonic() + pause + _GRACE
                if self._wait_for_stop(pause):
                    return
        finally:
            self._leave()

    def once(self) -> Run:
        """Fetch and publish once if a fetch is due, give up the lease, and return the result.

        Waits for a grant as long as for a silent PostHog (`fetch_timeout`), and for its fetch until that ends, at most
        `fetch_total_timeout`. A few calls to the store, and the time to hand over, are added to that.
        """
        began = monotonic()
        settings = self._settings
        self._client.polls_in_background = False  # it would fetch again if another fetch became due before the end
        try:
            while True:
                # Read first: the result of a fetch that ends now is checked before the next poll.
                fetching = self._coordinator.fetching
                run = None if fetching else self._result(began)
                if run is not None:
                    return run
                limit = settings.fetch_total_timeout if fetching else settings.fetch_timeout
                if monotonic() >= began + limit + 3 * settings.store_timeout:
                    return self._run(Outcome.FAILED, _NO_END if fetching else _NO_GRANT)
                if not fetching:
                    self._coordinator.should_fetch()
                if self._wait_for_stop(_CHECK_EVERY):
                    return self._run(Outcome.FAILED, "the refresher was stopped")
        finally:
            self._leave()

    def stop(self) -> None:
        """End the run soon, at most a few times `store_timeout` later.

        Call this on any thread, or in a signal handler.
        """
        self._end.put(None)

    @property
    def alive(self) -> bool:
        """Whether its loop runs, whatever the state of PostHog and the store."""
        return monotonic() < self._hung_at

    @property
    def ready(self) -> bool:
        """Whether the store answers and any process confirmed its definitions within `stale_after`."""
        return self._coordinator.shared and self.status().state is State.FRESH

    def status(self) -> Status:
        """Return what this process knows. Does no I/O; contains no key and no password."""
        return self._coordinator.status()

    def _pause(self) -> float:
        """Return the seconds until the next poll, which is a refresh interval after the fleet's latest fetch."""
        every, age = self._settings.polls_every(), self.status().age
        left = every if age is None else every - age
        return left if left > every / 10 else every

    def _wait_for_stop(self, limit: float) -> bool:
        """Wait up to `limit` seconds; return whether `stop` was called."""
        try:
            self._end.get(timeout=limit)
        except queue.Empty:
            return False
        return True

    def _result(self, began: float) -> Run | None:
        """Return the result of the single run that began at `began`; None if there is none yet."""
        if self._failure is not None:
            return self._run(*_outcome_of(self._failure))
        status = self.status()
        fresh = max(self._settings.refresh_interval, monotonic() - began)  # or confirmed since it began
        if not self._coordinator.shared or status.age is None or status.age >= fresh:
            return None
        if not status.fetches:
            return self._run(Outcome.FRESH)
        return self._run(Outcome.FETCHED if status.full_fetches else Outcome.UNCHANGED)

    def _run(self, outcome: Outcome, reason: str = "") -> Run:
        status = self.status()
        return Run(outcome, reason, status.version, status.age)

    def _record_failure(self, event: Event) -> None:
        if isinstance(event, (FetchFailed, ForeignKey, ForeignProject, PublicationRefused, StoreLost)):
            self._failure = event

    def _leave(self) -> None:
        self._client.ended = True
        self._coordinator.shutdown()

    def __repr__(self) -> str:
        status = self.status()
        return f"<Refresher namespace={status.namespace!r} store={status.store!r} role={status.role.value}>"


class Refresher(FleetRefresher):
    """Fetches definitions for a fleet and publishes them. It connects when it runs, and can run once.

    Several refreshers may run, in several processes: one leads, the others stand by.

    Args:
        store_url: URL of the fleet's store, as in `flagcache.from_url`; not `memory://`.
        namespace: the namespace of the caches.
        project: the project to fetch.
        refresh_interval: seconds between two requests to PostHog.
        on_event: called with each `flagcache.events.Event` on the thread of the event, which waits for it;
            `DefinitionsChanged` is emitted once the attached clients have the flags, or a second later.
        options: `flagcache.settings.Options`: times in seconds, and keys, the same as in the caches.

    Raises:
        ConfigurationError: an argument is invalid.
    """

    def __init__(
        self,
        store_url: str,
        namespace: str,
        project: Project,
        *,
        refresh_interval: float = 30.0,
        on_event: Callable[[Event], object] | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings, protection = parse_options(all_options(namespace, refresh_interval, on_event, options))
        if settings.reads_only:
            raise ConfigurationError('a refresher fetches, so it cannot have role="reader"')
        store = _shared_store(store_url, namespace, settings, protection)
        super().__init__(store, namespace, project, settings=settings, protection=protection, on_event=on_event)


def _shared_store(url: str, namespace: str, settings: Settings, protection: Protection) -> StoreSpec:
    """Return how the store that a URL names is opened."""
    scheme = scheme_of(url)
    if scheme in REDIS_SCHEMES:
        return redis_spec(url, namespace, settings, protection)[0]
    if scheme == "sqlite":
        return sqlite_spec(path_of(url), namespace, settings, protection)
    raise ConfigurationError(
        "a refresher's store is redis://, rediss://, unix:// or sqlite:///, which other processes can reach"
    )


def _outcome_of(failure: Event) -> tuple[Outcome, str]:
    """Return the outcome and reason of a single run that failed."""
    if isinstance(failure, FetchFailed):
        lasting = 400 <= failure.status < 500 and failure.status not in _TEMPORARY
        return Outcome.REFUSED if lasting else Outcome.FAILED, failure.reason
    return Outcome.FAILED if isinstance(failure, StoreLost) else Outcome.REFUSED, str(failure)
