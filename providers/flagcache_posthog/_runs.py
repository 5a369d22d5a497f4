"""What a refresher is given and gives: a project, and how a single run ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from flagcache.errors import ConfigurationError
from flagcache_posthog._misfits import checked_host

__all__ = ["Outcome", "Project", "Run"]


@dataclass(frozen=True, slots=True)
class Project:
    """Whose definitions are fetched, and with which keys.

    Raises:
        ConfigurationError: one of them cannot be right.
    """

    api_key: str
    """The project's public key, `phc_...`."""
    secret_key: str = field(repr=False)
    """What may read definitions: a project secret key, `phs_...`, or a personal API key, `phx_...`."""
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
    """PostHog said that what the store has is still right."""
    FRESH = "fresh"
    """Nothing was due: what the store has was confirmed less than a refresh interval ago, by whomever."""
    REFUSED = "refused"
    """It will go wrong again until somebody changes something: a key, the host, the namespace, a limit."""
    FAILED = "failed"
    """It may go well in a while: PostHog or the store could not be reached, or is busy."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a single run came to."""

    outcome: Outcome
    reason: str = ""
    """Of a failure, for people; shows no key."""
    version: str = ""
    """What the store has now, as far as is known."""
    age: float | None = None
    """Seconds since PostHog confirmed it."""

    @property
    def went_well(self) -> bool:
        """Whether the store has what PostHog has."""
        return self.outcome not in (Outcome.REFUSED, Outcome.FAILED)

    @property
    def may_go_well_later(self) -> bool:
        """Whether it is worth trying again with nothing changed."""
        return self.outcome is not Outcome.REFUSED
