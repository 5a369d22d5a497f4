"""`flagcache refresh`: a process that fetches for a fleet, until it is stopped or once.

Secrets come from the environment, because other users of a machine can see a command's arguments.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flagcache._version import __version__
from flagcache.cli.app import AppCache, app_cache
from flagcache.cli.health import HealthServer, Probe, address_of
from flagcache.cli.log_format import logging_to_stderr
from flagcache.cli.store import resolved
from flagcache.encoding.protection import KeyMaterial, protection_of
from flagcache.errors import ConfigurationError
from flagcache.event_log import log_events
from flagcache.events import Event
from flagcache.settings import Settings

if TYPE_CHECKING:
    from flagcache_posthog.refresher import FleetRefresher, Project

__all__ = ["RefreshOptions", "run_refresh"]

_DONE, _REFUSED, _TRY_LATER = 0, 1, 75
"""Exit statuses; 75 is `EX_TEMPFAIL` of <sysexits.h>."""

_INTERVAL = 30.0
"""Seconds between two requests to PostHog, unless the command or an application's cache sets another number."""

_SETTINGS_OF_APP = ("store_timeout", "fetch_timeout", "fetch_total_timeout", "max_decoded_bytes")
"""Settings that a refresher takes from the application's cache."""


@dataclass(frozen=True, slots=True)
class RefreshOptions:
    """The arguments of the command line."""

    store: str
    """URL, or `env:NAME`."""
    namespace: str
    interval: float | None = None
    """None: 30 seconds; with `app`, the cache's value."""
    forget_after: float | None = None
    """Seconds; None: never; with `app`, the cache's value."""
    once: bool = False
    health: str | None = None
    """Where to answer probes: `PORT` or `HOST:PORT`."""
    json: bool = False
    protection: str | None = None
    """The protection that the keys must result in; None: any."""
    app: str | None = None
    """`module:attribute` of the application's cache, in place of store, namespace and the keys in the environment."""


class RefresherStarted(Event):
    """The command has started."""

    store: str
    protection: str
    interval: float
    version: str
    pid: int

    def __str__(self) -> str:
        return (
            f"flagcache {self.version} refreshes {self.namespace!r} ({self.protection}) on {self.store}"
            f" every {self.interval:g} s, pid {self.pid}"
        )


class RefresherEnded(Event):
    """The command was stopped, and has released the lease."""

    signal: str

    def __str__(self) -> str:
        return f"{self.signal}: no longer refreshing {self.namespace!r}"


class RefreshDone(Event):
    """The result of a single run."""

    outcome: str
    """`fetched`, `unchanged` or `fresh`."""
    version: str
    age: float | None

    def __str__(self) -> str:
        return f"{self.namespace!r} is {self.outcome}: {self.version[:12]}, confirmed {self.age or 0:.1f} s ago"


class RefreshFailed(RefreshDone):
    """A single run failed."""

    reason: str
    _level = logging.ERROR

    def __str__(self) -> str:
        return f"{self.namespace!r} was not refreshed: {self.reason}"


def run_refresh(options: RefreshOptions, environ: Mapping[str, str] = os.environ) -> int:
    """Refresh until a signal comes, or once. Returns the exit status."""
    if options.once and options.health is not None:
        raise ConfigurationError("--health needs a process that keeps running: leave out --health or --once")
    if options.health is not None:
        address_of(options.health)  # an invalid value is reported before anything starts
    refresher = _refresher(options, environ)
    with logging_to_stderr(as_json=options.json), _stopped_by_signals(refresher.stop) as received:
        status = _refreshed_once(refresher) if options.once else _refreshed(refresher, options, received)
    return 128 + signal.SIGINT if signal.SIGINT in received[:1] else status


def _refreshed(refresher: FleetRefresher, options: RefreshOptions, received: Sequence[signal.Signals]) -> int:
    """Refresh until a signal comes."""
    with nullcontext() if options.health is None else HealthServer(address_of(options.health), _probes(refresher)):
        status = refresher.status()
        what = (status.namespace, status.store, refresher.protection, refresher.interval)
        log_events(RefresherStarted(*what, __version__, os.getpid()))
        refresher.run()
        log_events(RefresherEnded(status.namespace, received[0].name if received else "stopped"))
    return _DONE


def _refreshed_once(refresher: FleetRefresher) -> int:
    """Refresh once, and log the result."""
    run = refresher.once()
    fields = (refresher.status().namespace, run.outcome.value, run.version, run.age)
    if run.went_well:
        log_events(RefreshDone(*fields))
        return _DONE
    log_events(RefreshFailed(*fields, run.reason))
    return _TRY_LATER if run.may_go_well_later else _REFUSED


def _refresher(options: RefreshOptions, environ: Mapping[str, str]) -> FleetRefresher:
    if options.app is not None:
        return _refresher_of(app_cache(options.app), options, environ)
    from flagcache_posthog.refresher import Refresher  # noqa: PLC0415 - needs the SDK

    url, project = resolved(options.store), _project(environ)
    signing, encryption = _keys(environ, "FLAGCACHE_SIGNING_KEY"), _keys(environ, "FLAGCACHE_ENCRYPTION_KEY")
    _check_protection(options, protection_of(signing, encryption).name, "the keys in the environment result in")
    return Refresher(
        url,
        options.namespace,
        project,
        refresh_interval=_INTERVAL if options.interval is None else options.interval,
        forget_after=options.forget_after or 0,
        signing_key=signing,
        encryption_key=encryption,
    )


def _refresher_of(app: AppCache, options: RefreshOptions, environ: Mapping[str, str]) -> FleetRefresher:
    """Return the refresher for the fleet of an application's cache."""
    from flagcache_posthog.refresher import FleetRefresher  # noqa: PLC0415 - as above

    _check_protection(options, app.protection, "the keys of that cache result in")
    app_settings = {name: getattr(app.settings, name) for name in _SETTINGS_OF_APP}
    interval = app.settings.refresh_interval if options.interval is None else options.interval
    forget_after = app.settings.forget_after if options.forget_after is None else options.forget_after
    return FleetRefresher(
        app.spec._replace(open=app.spec.open_to_lead or app.spec.open),
        app.namespace,
        _project(environ),
        settings=Settings(refresh_interval=interval, forget_after=forget_after, **app_settings),
        protection=app.keys,
    )


def _check_protection(options: RefreshOptions, protection: str, because: str) -> None:
    if options.protection not in (None, protection):
        hint = "" if options.app else ": see FLAGCACHE_SIGNING_KEY and FLAGCACHE_ENCRYPTION_KEY"
        raise ConfigurationError(f"--protection {options.protection} was asked for, but {because} {protection}{hint}")


def _project(environ: Mapping[str, str]) -> Project:
    from flagcache_posthog.refresher import Project  # noqa: PLC0415 - as above

    def read(*names: str) -> str:
        value = next((value for name in names if (value := environ.get(name, "").strip())), "")
        if not value:
            missing.append(" or ".join(names))
        return value

    missing: list[str] = []
    api_key = read("POSTHOG_PROJECT_API_KEY")
    secret_key = read("POSTHOG_SECRET_KEY", "POSTHOG_PERSONAL_API_KEY")
    host = read("POSTHOG_HOST")
    if missing:
        raise ConfigurationError(f"not set in the environment: {', '.join(missing)}")
    return Project(api_key, secret_key, host)


def _keys(environ: Mapping[str, str], name: str) -> KeyMaterial | None:
    """Return the key with this name and, while keys are rotated, a second one that only reads.

    A variable that is set and empty is passed on and refused, because it must not disable the protection.
    """
    first, second = environ.get(name), environ.get(f"{name}_2")
    if first is None and second is not None:
        raise ConfigurationError(f"{name}_2 is set, but {name} is not")
    return first if first is None or second is None else [first, second]


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Generator[list[signal.Signals]]:
    """Call `stop` on SIGTERM and SIGINT inside the `with` block; yields the list of received signals."""
    received: list[signal.Signals] = []

    def receive(number: int, _frame: object) -> None:
        received.append(signal.Signals(number))
        stop()

    before = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _probes(refresher: FleetRefresher) -> dict[str, Probe]:
    def alive() -> tuple[bool, Mapping[str, object]]:
        return refresher.alive, {}

    def ready() -> tuple[bool, Mapping[str, object]]:
        status = refresher.status()
        facts = {"role": status.role.value, "state": status.state.value, "store_answers": status.store_answers}
        facts["trouble"] = status.trouble
        return refresher.ready, {**facts, "age": status.age, "version": status.version}

    return {"/healthz": alive, "/readyz": ready}
