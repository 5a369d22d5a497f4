"""All settings, validated once: in seconds for users, in whole milliseconds inside.

The settings are a frozen value. The constructor of the cache raises for an invalid one, with the value and the range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from typing_extensions import TypedDict

from flagcache.errors import ConfigurationError

__all__ = [
    "COLD_START_WAIT",
    "DAY",
    "KeyMaterial",
    "Options",
    "Settings",
    "SettingsOptions",
    "check_namespace",
    "milliseconds",
]

KeyMaterial: TypeAlias = str | bytes | Sequence[str | bytes]
"""One key, or several: the first signs or encrypts, all of them verify or decrypt. At least 16 random bytes each."""

DAY = 86_400.0
_LONGEST = 30 * DAY
_SHORTEST = 0.01

_FOLLOWS: Final = cast("float", None)
"""None: the value follows from other settings. The constructor replaces it, so a setting always reads as a number; 0
stands for an interval that depends on the clients."""

_NAMESPACE_LENGTH = 200
COLD_START_WAIT = 10.0
"""Seconds that a worker waits at its first load by default."""
_FETCH_TOTAL_TIMEOUT = 60.0

SLOW_FETCH = 30.0
"""Seconds that one fetch of the SDK may take in the worst case: up to three requests of 10 s (posthog 7.91,
`request.py` and `client.py`). A lease that isn't renewed meanwhile must outlive it."""


class SettingsOptions(TypedDict, total=False):
    """The settings besides `refresh_interval`; `Settings` documents them."""

    poll_interval: float | None
    cold_start_wait: float | None
    first_load_max_age: float | None
    lease: float | None
    challenge_after: float | None
    stale_after: float | None
    forget_after: float | None
    store_timeout: float
    fetch_timeout: float
    fetch_total_timeout: float | None
    backoff_ceiling: float | None
    on_quota_limited: Literal["clear", "keep"]
    max_decoded_bytes: int
    role: Literal["worker", "reader"]
    auto_attach: bool


class Options(SettingsOptions, total=False):
    """The keyword arguments of every cache besides `refresh_interval`."""

    signing_key: KeyMaterial | None
    """At least 16 random bytes, as bytes or a string; the first of several keys signs and all verify. Definitions in
    the store that were not signed with one of them are refused. Keys are not part of `Settings`, so its `repr` can't
    show them."""
    encryption_key: KeyMaterial | None
    """Like `signing_key`, for encryption: without a key, stored definitions can't be read or changed. Needs an extra:
    `pip install "flagcache[encryption]"`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a fleet shares definitions. All times are in seconds.

    Raises:
        ConfigurationError: a value is not a finite number or lies outside its range.
    """

    refresh_interval: float = 30.0
    """How often the fleet as a whole asks the vendor. A change at the vendor is noticed up to this much later."""
    poll_interval: float = _FOLLOWS
    """How often each client polls this cache: the client's own `poll_interval`. None: that of the known clients, or
    else `refresh_interval`. If it is too low, the lease may expire between two polls, so the leader keeps changing."""
    cold_start_wait: float = _FOLLOWS
    """How long a process without definitions waits for the first set, once; then it starts with empty ones. If the
    stored ones are older than `first_load_max_age`, it waits for a fetch under way instead; with a key and attached
    clients also for the next fetch, if they have no signed time within `stale_after`. 0: not at all, so a process
    that starts on an empty store has no flags until a push or a poll brings them. None: ten seconds; readers don't
    wait."""
    first_load_max_age: float = _FOLLOWS
    """Up to what age, counted from the vendor's last confirmation, a first load uses stored definitions without waiting
    for a fetch under way. None: one and a half refresh intervals."""
    lease: float = _FOLLOWS
    """Lease duration: how long a leader that stopped renewing keeps the lease. If no client is attached, a change may
    also go unnoticed for so long after a leader crashes. None: one and a half poll intervals if clients are attached,
    because a thread renews it; two if not; the poll interval plus 30 s if the client is unknown and its SDK fetches."""
    challenge_after: float = _FOLLOWS
    """After how long without a confirmation by the vendor another worker may take the leader's turn. If an SDK fetches,
    a failure looks like "unchanged". None: ten refresh intervals."""
    stale_after: float = _FOLLOWS
    """From what age definitions are stale. A follower learns the age from its polls, so it may notice up to a poll
    interval later. None: five refresh intervals; if no client is attached, `challenge_after` plus two poll intervals,
    because fetches then come with polls."""
    forget_after: float = _FOLLOWS
    """How long Redis keeps a namespace after a leader last published, confirmed or renewed. At least `challenge_after`.
    None: permanently."""
    store_timeout: float = 1.0
    """How long one call to the store may take in total, even if its reply arrives slowly or name servers hang."""
    fetch_timeout: float = 10.0
    """How long the fleet's own fetch waits for a connection, for the headers, and for the next part of the body."""
    fetch_total_timeout: float = _FOLLOWS
    """How long the fleet's own fetch may take in total, from connect to the last byte, even if data keeps arriving. At
    least `fetch_timeout`. None: sixty seconds, or `fetch_timeout` if that is longer."""
    backoff_ceiling: float = _FOLLOWS
    """The longest pause between two attempts while fetches fail. None: the refresh interval, so that a recovery is
    noticed as soon as a change would be."""
    on_quota_limited: Literal["clear", "keep"] = "clear"
    """What clients use while PostHog answers 402 (quota used up): no flags, as with the SDK, or the last known."""
    max_decoded_bytes: int = 16 * 1024 * 1024
    """Stored definitions are refused if they are larger than this when unpacked."""
    role: Literal["worker", "reader"] = "worker"
    """A reader never leads, never fetches from the vendor and starts no thread. It uses the stored definitions, with
    one round trip per poll, and has no flags if the store has none. It is meant for short-lived processes, such as
    serverless functions, whose store is filled by workers or a refresher."""
    auto_attach: bool = True
    """Whether a cache attaches each client that uses it, at its first load. This costs one thread and one more
    connection to the store in each process; a reader needs neither. False: only clients passed to `attach` are
    attached. The others get changes with their own polls, without push, and have a thread only while they fetch."""

    def __post_init__(self) -> None:
        for name in ("refresh_interval", "store_timeout", "fetch_timeout"):
            _check_seconds(name, getattr(self, name))
        if self.role not in ("worker", "reader"):
            raise ConfigurationError(f'role must be "worker" or "reader", not {self.role!r}')
        if not isinstance(self.auto_attach, bool):  # pyright: ignore[reportUnnecessaryIsInstance] - a user's mistake
            raise ConfigurationError(f"auto_attach must be True or False, not {self.auto_attach!r}")
        for name in ("poll_interval", "lease"):
            self._fill(name, 0)
        self._fill("cold_start_wait", 0 if self.reads_only else COLD_START_WAIT, zero=0)
        self._fill("first_load_max_age", 1.5 * self.refresh_interval)
        self._fill("challenge_after", 10 * self.refresh_interval)
        self._fill("stale_after", 0)
        self._fill("forget_after", 0)
        if 0 < self.forget_after < self.challenge_after:
            raise ConfigurationError(
                f"forget_after must be at least challenge_after ({self.challenge_after:g} seconds), and is"
                f" {self.forget_after!r}: a short outage of PostHog would delete the definitions"
            )
        self._fill("backoff_ceiling", self.refresh_interval)
        self._fill("fetch_total_timeout", max(_FETCH_TOTAL_TIMEOUT, self.fetch_timeout))
        if self.fetch_total_timeout < self.fetch_timeout:
            raise ConfigurationError(
                f"fetch_total_timeout must be at least fetch_timeout ({self.fetch_timeout:g} seconds), and is "
                f"{self.fetch_total_timeout!r}: it limits a whole fetch, fetch_timeout limits a silence in it"
            )
        if self.on_quota_limited not in ("clear", "keep"):
            raise ConfigurationError(f'on_quota_limited must be "clear" or "keep", not {self.on_quota_limited!r}')
        _check_bytes("max_decoded_bytes", self.max_decoded_bytes)

    def _fill(self, name: str, default: float, *, zero: float | None = None) -> None:
        """Replace None by the default. 0 means the default too, unless `zero` gives its meaning."""
        value = getattr(self, name)
        if value is None:
            object.__setattr__(self, name, default)
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and value == 0:
            object.__setattr__(self, name, default if zero is None else zero)
        else:
            _check_seconds(name, value)

    @property
    def reads_only(self) -> bool:
        """Whether this process is a reader."""
        return self.role == "reader"

    def polls_every(self, known: float | None = None) -> float:
        """Seconds between two polls of a client; `known` is the poll interval of the known clients."""
        return self.poll_interval or known or self.refresh_interval

    def lease_for(self, known: float | None = None, *, listening: bool = False) -> float:
        """Duration of a lease in seconds, for a process with these clients.

        Args:
            known: seconds between two polls of its clients; None: no client is known, so the SDK fetches.
            listening: whether a thread renews the lease between polls.
        """
        if self.lease:
            return self.lease
        if not known:
            return self.polls_every() + SLOW_FETCH
        return (1.5 if listening else 2.0) * self.polls_every(known)

    def stale_for(self, known: float | None = None, *, listening: bool = False) -> float:
        """Age in seconds from which definitions are stale; arguments as in `lease_for`."""
        if self.stale_after:
            return self.stale_after
        return 5 * self.refresh_interval if listening else self.challenge_after + 2 * self.polls_every(known)

    @property
    def cold_lease(self) -> float:
        """Lease duration on an empty store: if a leader crashes in its first fetch, another follows within the wait."""
        return 0.4 * (self.cold_start_wait or COLD_START_WAIT)


def milliseconds(seconds: float) -> int:
    """Convert a duration; the result is at least 1."""
    return max(1, round(seconds * 1000))


def check_namespace(namespace: object) -> str:
    """Return the namespace if it is valid.

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
