"""Argument and result of a refresher: a project, and the result of a single run."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from flagcache.errors import ConfigurationError
from flagcache_posthog._client_checks import checked_host

__all__ = ["Outcome", "Project", "Run"]


@dataclass(frozen=True, slots=True)
class Project:
    """The project whose definitions are fetched, and its keys.

    Raises:
        ConfigurationError: one of them is invalid.
    """

    api_key: str
    """The project's public key, `phc_...`."""
    secret_key: str = field(repr=False)
    """A key that may read definitions: a project secret key, `phs_...`, or a personal API key, `phx_...`."""
    host: str
    """PostHog's address with its scheme, as the SDK takes it: `https://eu.i.posthog.com`."""

    def __post_init__(self) -> None:
        if not self.api_key or not self.secret_key:
            raise ConfigurationError("a project needs its public key, and a secret key that may read flag definitions")
        checked_host(self.host)


class Outcome(str, Enum):
    """How a single run ended."""

    FETCHED = "fetched"
    """PostHog sent definitions, and the store has them."""
    UNCHANGED = "unchanged"
    """PostHog said that the stored definitions are unchanged."""
    FRESH = "fresh"
    """No fetch was due: any process confirmed the stored definitions less than a refresh interval ago."""
    REFUSED = "refused"
    """It will fail again until you change something: a key, the host, the namespace, a limit."""
    FAILED = "failed"
    """A later run may succeed: PostHog or the store was unreachable or busy."""


@dataclass(frozen=True, slots=True)
class Run:
    """The result of a single run."""

    outcome: Outcome
    reason: str = ""
    """The reason of a failure; contains no key."""
    version: str = ""
    """The stored version, as far as it is known."""
    age: float | None = None
    """Seconds since PostHog confirmed it."""

    @property
    def went_well(self) -> bool:
        """Whether the store has PostHog's current definitions."""
        return self.outcome not in (Outcome.REFUSED, Outcome.FAILED)

    @property
    def may_go_well_later(self) -> bool:
        """Whether another run may succeed without a change."""
        return self.outcome is not Outcome.REFUSED
