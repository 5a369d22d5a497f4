"""What the demo tells its workers, once, and what each of them tells the demo, many times a second."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TypeAlias

__all__ = ["FlagValue", "Report", "Wiring"]

_VARIABLE = "FLAGCACHE_DEMO"

FlagValue: TypeAlias = "bool | str | None"
"""What a flag evaluates to; None where it cannot be evaluated."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """How a worker of the demo is connected; handed over in the environment."""

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
    """Temporary, to be removed by whoever of the demo ends last."""

    def environment(self) -> dict[str, str]:
        """This, as a variable."""
        return {_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environ(cls) -> Wiring:
        """Read it back, in a process of the fleet."""
        return cls(**json.loads(os.environ[_VARIABLE]))


@dataclass(frozen=True, slots=True)
class Report:
    """One worker's account of itself. Times are the system's `time.monotonic()`, which its processes share."""

    pid: int
    role: str
    role_at: float
    """When it was first seen in this role."""
    version: str
    age: float | None
    """Seconds since PostHog last sent or confirmed what it holds."""
    flags: int
    """How many flags its client has."""
    flag: str
    value: FlagValue
    value_at: float
    """When the flag was first evaluated to this."""
    store: str
    store_answers: bool
    polls: int
    """How often its SDK's turn to ask PostHog came: without a cache, each is a request."""
    requests: int
    """How often its SDK was sent to ask PostHog."""
    full: int
    """How many of these brought definitions."""
    changes: int
    """How many different definitions it had one after the other, the first included."""

    def to_line(self) -> bytes:
        """One line of JSON, short enough for a pipe to take it whole."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Report:
        """Read it back."""
        return cls(**json.loads(line))
