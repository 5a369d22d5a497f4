"""The messages: the demo's configuration for its workers, and the workers' reports to the demo."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TypeAlias

__all__ = ["FlagValue", "Report", "WorkerConfig"]

_VARIABLE = "FLAGCACHE_DEMO"

FlagValue: TypeAlias = "bool | str | None"
"""The value of a flag; None if it can't be evaluated."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The configuration of a worker, passed in the environment."""

    store: str
    """URL of the store."""
    namespace: str
    refresh: float
    """Seconds between two polls of a worker, and between two requests of the fleet."""
    lease: float
    """Seconds."""
    flag: str
    """The flag to evaluate; empty: the first active one of the project."""
    reports: int
    """File descriptor of the pipe for reports."""
    owner: int
    """The demo's own process."""
    folder: str
    """Temporary; removed by the demo's last process."""

    def environment(self) -> dict[str, str]:
        """Return it as an environment variable."""
        return {_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environ(cls) -> WorkerConfig:
        """Read it in a process of the fleet."""
        return cls(**json.loads(os.environ[_VARIABLE]))


@dataclass(frozen=True, slots=True)
class Report:
    """The state of one worker. Times are the system's `time.monotonic()`, which its processes share."""

    pid: int
    role: str
    role_at: float
    """When it first had this role."""
    version: str
    age: float | None
    """Seconds since PostHog last sent or confirmed its definitions."""
    flags: int
    """Number of its client's flags."""
    flag: str
    value: FlagValue
    value_at: float
    """When the flag was first evaluated to this."""
    store: str
    store_answers: bool
    polls: int
    """Number of its SDK's polls: without a cache, each one is a request."""
    requests: int
    """Number of its requests to PostHog."""
    full: int
    """Number of these requests that returned definitions."""
    changes: int
    """Number of successive definitions, including the first."""

    def to_line(self) -> bytes:
        """One line of JSON, short enough for a pipe to take it whole."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Report:
        """Parse a line."""
        return cls(**json.loads(line))
