"""A snapshot of the cache's state in this process, for health checks and metrics. Making it does no I/O."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["Role", "Serving", "State", "Status"]


class Role(str, Enum):
    """The role of this process in its fleet."""

    LEADER = "leader"
    FOLLOWER = "follower"
    READER = "reader"
    """Configured with `role="reader"`: it never leads and never fetches."""
    ALONE = "alone"
    """The namespace holds definitions that this process must not use, of another project or protected with a key that
    it lacks. It shares nothing and fetches for itself."""
    NEW = "new"
    """It has not polled the store yet."""


class State(str, Enum):
    """The state of the definitions that this process holds; `Serving` says whether its clients use them."""

    FRESH = "fresh"
    STALE = "stale"
    """The vendor has not confirmed them for longer than `stale_after`."""
    EMPTY = "empty"


class Serving(str, Enum):
    """What this process's clients evaluate with."""

    ALL = "all"
    """All flags that the vendor has, recently confirmed."""
    LAST_KNOWN = "last_known"
    """The last known flags: the vendor has not confirmed them for `stale_after`, or its quota is used up."""
    NONE = "none"
    """No flags, so each one is off: no definitions arrived yet, or the quota is used up and they were cleared."""


class Status(NamedTuple):
    """The state of one cache in this process. Ages are in seconds; None if the process holds no definitions."""

    role: Role
    state: State
    namespace: str
    store: str
    """Address of the store; no user name, no password."""
    store_answers: bool
    """False while the store is down and this process works without it."""
    store_in_charge: str
    """The store that coordinates this process now: the fleet's; while that is down this machine's fallback, or none."""
    worker: str
    """This process's name in its fleet."""
    pid: int
    version: str
    """Digest of the held definitions; empty without any."""
    age: float | None
    """Since the vendor last confirmed them."""
    changed_age: float | None
    """Since their content last changed."""
    confirmed_at: float | None
    """When the vendor last confirmed them, in Unix seconds of this machine's clock."""
    changed_at: float | None
    """When their content last changed, likewise."""
    writer: str
    """Which library wrote them."""
    fetches: int
    """Number of requests to the vendor by this process for its fleet; the SDK's own requests are not counted."""
    full_fetches: int
    """Number of these requests that were answered with definitions."""
    flags: int
    """Number of flags that the clients evaluate with."""
    serving: Serving
    trouble: str
    """The most serious problem in this process, in one word: `quota`, `posthog_401`, `store_timeout`; empty if there is
    none. docs/status.md lists them."""
    trouble_since: float | None
    """When it began, in Unix seconds of this machine's clock."""
    leader: str
    """The `worker` of the process that fetches for the fleet, as of this process's last poll; empty if none."""
    listening: bool
    """Whether changes are pushed to this process, because it is subscribed to the store's notices. If not, they arrive
    with its polls."""

    def as_dict(self) -> dict[str, object]:
        """Return it as plain values, for JSON."""
        return {name: value.value if isinstance(value, Enum) else value for name, value in self._asdict().items()}
