"""The environment of the demo: PostHog, a store, a fleet, a screen. Everything ends with the `with` block."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from flagcache.cli.demo.counts import Counts, Requests
from flagcache.cli.demo.fleet import Fleet
from flagcache.cli.demo.messages import WorkerConfig
from flagcache.cli.demo.messages_text import DemoSetup
from flagcache.cli.demo.options import DemoOptions, Project
from flagcache.cli.demo.screen import Screen, View, make_screen
from flagcache.errors import FlagcacheError, StoreError

if TYPE_CHECKING:
    from flagcache_posthog.testing import RemoteStandIn

__all__ = ["FLAG", "DemoEnvironment", "DemoFailedError", "Interruption", "start_demo"]

_T = TypeVar("_T")

FLAG = "new-checkout"
"""The flag of the stand-in that changes."""

_ANSWER_TAKES = 0.2  # seconds that the stand-in takes for definitions, like a PostHog that is far away
_READ_EVERY = 0.1  # seconds
_COUNT_EVERY = 0.5  # seconds


class DemoFailedError(FlagcacheError):
    """Something that the demo shows did not happen."""


class Interruption(Exception):  # noqa: N818 - not an error: the user ends the demo
    """A signal asks the demo to end."""


@dataclass(slots=True)
class DemoEnvironment:
    """Everything that the demo runs, and its loop."""

    options: DemoOptions
    setup: DemoSetup
    fleet: Fleet
    standin: RemoteStandIn | None
    """None if the user's own project is used."""
    screen: Screen
    stops: list[int]
    """Received signals; the first one ends the demo."""
    counts: Counts = field(default_factory=Counts)
    _shared: Requests = field(default_factory=lambda: Requests(0, 0))
    _count_at: float = 0.0

    def watch(self, seconds: float) -> None:
        """Show the fleet for `seconds` seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._step()

    def until(self, find: Callable[[], _T | None], timeout: float, awaited: str) -> _T:
        """Show the fleet until `find()` returns something other than None, and return that.

        Raises:
            DemoFailedError: it has found nothing after `timeout` seconds.
        """
        end = time.monotonic() + timeout
        while (found := find()) is None:
            if time.monotonic() > end:
                raise DemoFailedError(f"waited {timeout:.0f} s for {awaited}, which did not happen{self._log()}")
            self._step()
        return found

    def count(self) -> Requests:
        """Count the requests to PostHog up to now, and show them.

        The stand-in counts the requests that it received; for another PostHog the workers count theirs.
        """
        if self.standin is None:
            self._shared = self.counts.sent()
        else:
            served = self.standin.counts()
            self._shared = Requests(served.requests, served.full_fetches)
        self._count_at = time.monotonic() + _COUNT_EVERY
        self.screen.show(View(self.counts, self._shared))
        return self._shared

    def _step(self) -> None:
        self.counts.add(self.fleet.reports(_READ_EVERY))
        if self.stops:
            raise Interruption
        if self.fleet.ended:
            raise DemoFailedError(f"gunicorn ended by itself{self._log()}")
        if time.monotonic() >= self._count_at:
            self.count()
        else:
            self.screen.show(View(self.counts, self._shared))

    def _log(self) -> str:
        tail = self.fleet.log_tail()
        return f"; the end of the workers' log:\n{tail}" if tail else ""


@contextlib.contextmanager
def start_demo(
    options: DemoOptions, project: Project | None, stops: list[int]
) -> Generator[DemoEnvironment, None, None]:
    """Start everything, and end everything after the `with` block.

    Args:
        options: how many workers, on which store.
        project: the user's own; None starts the stand-in.
        stops: the received signals.

    Raises:
        ConfigurationError: the store's URL is invalid. Nothing has been started.
    """
    with contextlib.ExitStack() as stack:
        # If this process is killed, the fleet removes the folder.
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="flagcache-demo-", ignore_cleanup_errors=True))
        )
        config = _worker_config(options, folder, "" if project else FLAG)
        address = _check_store(config)
        standin = None if project else stack.enter_context(_make_standin())
        if standin is not None:
            project = Project("phc_demo", "phs_demo", standin.url)
        assert project is not None
        stack.callback(_delete_keys, config)
        fleet = stack.enter_context(Fleet(options, project, config, folder))
        setup = DemoSetup(
            host=project.host,
            is_standin=standin is not None,
            url=fleet.url,
            store=address,
            sdk=importlib.metadata.version("posthog"),
        )
        yield DemoEnvironment(options, setup, fleet, standin, make_screen(plain=options.plain), stops)


def _worker_config(options: DemoOptions, folder: Path, flag: str) -> WorkerConfig:
    return WorkerConfig(
        store=options.store or f"sqlite:///{folder / 'flags.db'}",
        namespace=f"flagcache-demo-{secrets.token_hex(4)}",  # unique, because the user's store may hold others
        refresh=options.refresh,
        lease=options.lease,
        flag=flag,
        reports=-1,
        owner=os.getpid(),
        folder=str(folder),
    )


def _check_store(config: WorkerConfig) -> str:
    """Return the store's address without a password."""
    from flagcache import from_url  # noqa: PLC0415 - loads the SDK, which takes a moment

    return from_url(config.store, config.namespace, refresh_interval=config.refresh).status().store


def _delete_keys(config: WorkerConfig) -> None:
    """Delete this run's keys from the user's Redis."""
    if config.store.startswith("sqlite:"):
        return
    from flagcache.stores.redis.store import RedisStore  # noqa: PLC0415 - a client library, only if it is needed

    with contextlib.suppress(StoreError), contextlib.closing(RedisStore(config.store, config.namespace)) as store:
        store.forget()


def _make_standin() -> RemoteStandIn:
    from flagcache_posthog.testing import PostHogStandIn, make_definitions, make_flag  # noqa: PLC0415 - as above

    definitions = make_definitions(20)
    definitions["flags"].append(make_flag(FLAG, active=False))
    return PostHogStandIn.spawn(definitions, delay=_ANSWER_TAKES)
