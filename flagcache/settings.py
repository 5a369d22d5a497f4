"""Every setting, validated once: seconds outside, whole milliseconds inside.

A frozen value; what is wrong in it is said in the constructor of the cache, with the value and the range, and never
later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from typing_extensions import TypedDict

from flagcache.errors import ConfigurationError

__all__ = ["DAY", "KeyMaterial", "Options", "Settings", "SettingsOptions", "check_namespace", "milliseconds"]

KeyMaterial: TypeAlias = str | bytes | Sequence[str | bytes]
"""One key, or several: the first signs or encrypts, all of them verify or decrypt. At least 16 random bytes each."""

DAY = 86_400.0
_LONGEST = 30 * DAY
_SHORTEST = 0.01
_NAMESPACE_LENGTH = 200
_COLD_START_WAIT = 10.0

SLOW_FETCH = 30.0
"""Seconds that one fetch of the SDK may take when all goes badly: up to three requests of 10 s (posthog 7.91,
`request.py` and `client.py`). A lease that nobody renews meanwhile must outlive it."""


class SettingsOptions(TypedDict, total=False):
    """What `Settings` has beside `refresh_interval`, and documents."""

    poll_interval: float
    cold_start_wait: float
    lease: float
    challenge_after: float
    stale_after: float
    store_timeout: float
    fetch_timeout: float
    backoff_ceiling: float
    on_quota_limited: Literal["clear", "keep"]
    max_decoded_bytes: int
    role: Literal["worker", "reader"]


class Options(SettingsOptions, total=False):
    """The keyword arguments that every cache takes beside `refresh_interval`."""

    signing_key: KeyMaterial | None
    """At least 16 random bytes, as bytes or a string; of several keys the first signs and all verify. What is in the
    store and was not signed with one of them is refused. A key is no part of the settings, so that none shows it."""
    encryption_key: KeyMaterial | None
    """As `signing_key`, for encryption: nobody without a key can read or alter what is in the store. Needs an extra:
    `pip install "flagcache[encryption]"`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a fleet shares definitions. All times are in seconds.

    Raises:
        ConfigurationError: a value is not a finite number or lies outside its range.
    """

    refresh_interval: float = 30.0
    """How often the fleet as a whole asks the vendor. A change at the vendor is noticed up to this much later."""
    poll_interval: float = 0.0
    """How often each client asks this cache: the client's own `poll_interval`. 0: that of the attached clients, or else
    `refresh_interval`. Given too low, the lease may end between two polls of a leader, and the leadership wanders."""
    cold_start_wait: float = 0.0
    """How long a process that has nothing waits, once, for the first definitions. Then it goes on with empty ones.
    0: ten seconds; a reader does not wait."""
    lease: float = 0.0
    """How long a leader that fell silent keeps its place; also how long a change may go unnoticed when a leader is
    killed. 0: one and a half poll intervals where clients are attached, for then it is renewed in the background; else
    the poll interval plus 30 s, which outlives a slow fetch."""
    challenge_after: float = 0.0
    """After how long without a confirmation by the vendor another worker is given a turn, because a leader whose
    fetches fail looks like one whose fetches find nothing new. 0: ten refresh intervals."""
    stale_after: float = 0.0
    """From which age definitions are called stale. 0: five refresh intervals."""
    store_timeout: float = 1.0
    """How long one call of the store may take in all, also where its answer trickles in. Looking up a host's name is
    not bounded by it: where name servers may hang, give the store's IP address, or bound them in `resolv.conf`."""
    fetch_timeout: float = 10.0
    """How long the fleet's own fetch may take in all, from connecting to the last byte."""
    backoff_ceiling: float = 0.0
    """How long the fleet waits at most between two tries while fetches fail. 0: the refresh interval, so that a
    recovery is noticed as soon as a change would be."""
    on_quota_limited: Literal["clear", "keep"] = "clear"
    """What clients use while PostHog answers 402, quota used up: no flags, as an SDK alone would, or the last known."""
    max_decoded_bytes: int = 64 * 1024 * 1024
    """Stored definitions that would be larger than this when unpacked are refused."""
    role: Literal["worker", "reader"] = "worker"
    """A reader never leads, never fetches from the vendor and starts no thread of ours: it uses what the store has, one
    round trip at a time, and no flags where the store has none. For processes that come and go, as serverless functions
    do, beside workers or a refresher that fill the store."""

    def __post_init__(self) -> None:
        for name in ("refresh_interval", "store_timeout", "fetch_timeout"):
            _check_seconds(name, getattr(self, name))
        if self.role not in ("worker", "reader"):
            raise ConfigurationError(f'role must be "worker" or "reader", not {self.role!r}')
        for name in ("poll_interval", "lease"):
            self._fill(name, 0)
        self._fill("cold_start_wait", 0 if self.reads_only else _COLD_START_WAIT)
        self._fill("challenge_after", 10 * self.refresh_interval)
        self._fill("stale_after", 5 * self.refresh_interval)
        self._fill("backoff_ceiling", self.refresh_interval)
        if self.on_quota_limited not in ("clear", "keep"):
            raise ConfigurationError(f'on_quota_limited must be "clear" or "keep", not {self.on_quota_limited!r}')
        _check_bytes("max_decoded_bytes", self.max_decoded_bytes)

    def _fill(self, name: str, default: float) -> None:
        value = getattr(self, name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value == 0:
            object.__setattr__(self, name, default)
        else:
            _check_seconds(name, value)

    @property
    def reads_only(self) -> bool:
        """Whether this process is a reader."""
        return self.role == "reader"

    def polls_every(self, attached: float | None = None) -> float:
        """Seconds between two polls of a client; `attached` is what the attached ones say of themselves."""
        return self.poll_interval or attached or self.refresh_interval

    def lease_for(self, attached: float | None = None) -> float:
        """Seconds that a lease lasts, for a process with or without attached clients."""
        if self.lease:
            return self.lease
        return 1.5 * self.polls_every(attached) if attached else self.polls_every() + SLOW_FETCH

    @property
    def cold_lease(self) -> float:
        """Length of a lease on an empty store: a leader that dies in its first fetch is followed within the wait."""
        return 0.4 * self.cold_start_wait


def milliseconds(seconds: float) -> int:
    """Convert a length, never to nothing."""
    return max(1, round(seconds * 1000))


def check_namespace(namespace: object) -> str:
    """Return the namespace if it can be one.

    Raises:
        ConfigurationError: it is empty, too long, not a string, or no valid Unicode.
    """
    if not isinstance(namespace, str):
        raise ConfigurationError(f"namespace must be a string, not {type(namespace).__name__}")
    if not namespace.strip() or len(namespace) > _NAMESPACE_LENGTH:
        raise ConfigurationError(
            f"namespace must have 1 to {_NAMESPACE_LENGTH} characters and not be blank: {namespace[:40]!r}"
        )
    try:
        namespace.encode()
    except UnicodeEncodeError as exc:
        raise ConfigurationError(f"namespace is not valid Unicode: {namespace[:40]!r}") from exc
    return namespace


def _check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{name} must be a number of seconds, not {value!r}")
    if not math.isfinite(value) or not _SHORTEST <= value <= _LONGEST:
        raise ConfigurationError(f"{name} must be from {_SHORTEST:g} to {_LONGEST:.0f} seconds, not {value!r}")


def _check_bytes(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{name} must be a whole number, not {value!r}")
    if not 1024 <= value < 2**32:
        raise ConfigurationError(f"{name} must be from 1024 to 2**32 - 1, not {value!r}")
