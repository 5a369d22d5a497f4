"""The interface of a contestant, its configuration, and a client that records what it held when."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.recording_client import RecordingClient

__all__ = [
    "Contestant",
    "RecordingPosthog",
    "Sighting",
    "WorkerConfig",
    "WorkerContext",
    "evaluated_revision",
    "key_of",
    "make_client",
]


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The environment of a worker, which is the same for all contestants.

    Attributes:
        posthog: the stand-in's address.
        redis: the server's address.
        directory: on disk, for contestants with files; the workers of one play share it, as those of one machine would.
        namespace: of the fleet.
        interval: seconds between two polls of a client, and between two fetches of a fleet.
    """

    posthog: str
    redis: str
    directory: str
    namespace: str
    interval: float


@dataclass(frozen=True, slots=True)
class Sighting:
    """The revision that a client held from one moment on."""

    at: float
    """`time.monotonic()`, the same for all processes of a machine."""
    revision: int | None


class RecordingPosthog(RecordingClient):
    """A client that records which revision it got when, through the SDK's public property only."""

    def __init__(self, project_api_key: str, **options: Any) -> None:  # noqa: ANN401 - whatever the SDK takes
        self.history: list[Sighting] = []
        super().__init__(project_api_key, **options)

    def record(self, flags: list[dict[str, object]] | None) -> None:
        """Add it to the history."""
        self.history.append(Sighting(time.monotonic(), _revision(flags)))


def _revision(flags: list[dict[str, object]] | None) -> int | None:
    """Read the revision from the last flag; cheap, because some contestants do it at each poll."""
    value: Any = flags[-1] if flags else None
    return int(value["filters"]["multivariate"]["variants"][0]["key"].removeprefix("r")) if value else None


@dataclass(slots=True)
class WorkerContext:
    """The objects of one worker."""

    client: RecordingPosthog
    index: int
    polls: int = 0
    """Number of polls by the client's poller, or by a thread that polls for it."""
    poll_seconds: float = 0.0
    """The total time of these polls, in seconds."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to provide a fleet with flags.

    Attributes:
        name: on the command line and in the JSON.
        title: in tables.
        store: the kind of store that its workers share.
        make: makes the client of one worker, in the worker, given its index.
        ours: whether it is flagcache, which is compared to the best of the others.
    """

    name: str
    title: str
    store: str
    make: Callable[[WorkerConfig, int], RecordingPosthog]
    ours: bool = False


def key_of(index: int) -> str:
    """Return the secret key of one worker: each has its own, so the stand-in's log shows which one asked."""
    return f"phs_{index}"


def evaluated_revision(client: RecordingPosthog) -> str | None:
    """Evaluate the flag with the revision, as an application does: `r7`, or nothing.

    No event is sent, because for its first one the SDK starts a process that prints the Linux distribution.
    """
    evaluated = client.evaluate_flags("user", only_evaluate_locally=True, flag_keys=["revision"])
    value = evaluated.get_flag("revision", send_feature_flag_events=False)
    return None if value is None else str(value)


def make_client(config: WorkerConfig, index: int, provider: object = None) -> RecordingPosthog:
    """Make a client that polls every `config.interval` seconds."""
    return RecordingPosthog(
        "phc_benchmark",
        secret_key=key_of(index),
        host=config.posthog,
        poll_interval=config.interval,
        flag_definition_cache_provider=provider,
        flush_at=1,  # older SDKs wait for the flush interval of 5 seconds in `shutdown`
    )
