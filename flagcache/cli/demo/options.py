"""The demo's options, checked before anything is started."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from flagcache.errors import ConfigurationError, MissingExtraError

__all__ = ["DemoOptions", "Project", "check_extra"]

_VARIABLES = ("POSTHOG_PROJECT_API_KEY", "POSTHOG_SECRET_KEY", "POSTHOG_HOST")


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The command's options. All times are in seconds.

    Raises:
        ConfigurationError: an option is outside its range.
    """

    workers: int = 4
    preload: bool = False
    store: str | None = None
    """URL of the store; None: an SQLite file, which is deleted when the demo ends."""
    refresh: float = 1.0
    """How often the fleet asks PostHog, and each worker polls the store."""
    seconds: float = 20.0
    """Approximate duration."""
    plain: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.workers <= 64:
            raise ConfigurationError(f"--workers must be from 2 to 64, not {self.workers}: sharing needs two")
        _check_seconds("--refresh", self.refresh, 0.1, 60)
        _check_seconds("--seconds", self.seconds, 1, 3600)
        if self.store is not None and urlsplit(self.store).scheme == "memory":
            raise ConfigurationError("--store memory:// belongs to one process: processes share redis:// or sqlite:///")

    @property
    def lease(self) -> float:
        """Lease duration: short, so that the change of leaders can be watched."""
        return 3 * self.refresh

    @property
    def pause(self) -> float:
        """Pause between two events."""
        return self.seconds / 4


@dataclass(frozen=True, slots=True)
class Project:
    """The project from which the workers' clients fetch."""

    token: str
    secret_key: str = field(repr=False)
    host: str

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Project | None:
        """Read the variables of a real project; None if none of them is set.

        Raises:
            ConfigurationError: only some of them are set.
        """
        values = [environ.get(name, "").strip() for name in _VARIABLES]
        if not any(values):
            return None
        missing = [name for name, value in zip(_VARIABLES, values, strict=True) if not value]
        if missing:
            raise ConfigurationError(
                f"{' and '.join(missing)} not set: your own project needs {', '.join(_VARIABLES[:2])} and"
                f" {_VARIABLES[2]}; unset them all to use the stand-in"
            )
        return cls(*values)

    def environment(self) -> dict[str, str]:
        """The same variables, for the workers."""
        return dict(zip(_VARIABLES, (self.token, self.secret_key, self.host), strict=True))


def check_extra() -> None:
    """Check that the demo's extra dependencies are installed.

    Raises:
        MissingExtraError: they are not.
        ConfigurationError: this system can't run the demo.
    """
    if not hasattr(os, "fork"):
        raise ConfigurationError("the demo runs gunicorn, which needs Linux, macOS or another Unix")
    missing = [name for name in ("gunicorn", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f'the demo needs {" and ".join(missing)}: pip install "flagcache[demo]"')


def _check_seconds(name: str, value: float, least: float, most: float) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise ConfigurationError(f"{name} must be from {least:g} to {most:g} seconds, not {value:g}")
