"""A snapshot of the cache's state in this process, for health checks and metrics. Making it does no I/O."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["Role", "Serving", "State", "Status"]


class Role(str, Enum):
    """What this process is to its fleet."""

    LEADER = "leader"
    FOLLOWER = "follower"
    READER = "reader"
    """It was made one: it never leads and never fetches."""
    ALONE = "alone"
    """Its namespace holds definitions that it must not use, of another project or under a key that it lacks: it shares
    nothing and fetches for itself."""
    NEW = "new"
    """It has not asked the store yet."""


class State(str, Enum):
    """How good the definitions are that this process holds; `Serving` says whether its clients use them."""

    FRESH = "fresh"
    STALE = "stale"
    """Not confirmed by the vendor for longer than `stale_after`."""
    EMPTY = "empty"


class Serving(str, Enum):
    """What this process's clients evaluate with."""

    ALL = "all"
    """All flags that the vendor has, as it confirmed them lately."""
    LAST_KNOWN = "last_known"
    """The last known flags: the vendor has not confirmed them for `stale_after`, or its quota is used up."""
    NONE = "none"
    """No flags, so that each is off: no definitions have come yet, or the quota is used up and they were cleared."""


class Status(NamedTuple):
    """What one cache knows, in this process. Ages are in seconds; None if nothing is held."""

    role: Role
    state: State
    namespace: str
    store: str
    """Address of the store; no user name, no password."""
    store_answers: bool
    """False while the store is away and this process goes on without it."""
    store_in_charge: str
    """Which store coordinates this process now: the fleet's, while that is away this machine's fallback, or none."""
    worker: str
    """This process among its fleet."""
    pid: int
    version: str
    """Digest of the definitions held; empty where none are."""
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
    """Requests to the vendor that this process made for its fleet; those of the SDK itself are not known."""
    full_fetches: int
    """How many of them were answered with definitions."""
    flags: int
    """How many flags the clients evaluate with."""
    serving: Serving
    trouble: str
    """The gravest thing that is wrong in this process, in one word: `quota`, `posthog_401`, `store_timeout`; empty if
    nothing is. docs/status.md lists them."""
    trouble_since: float | None
    """When it began, in Unix seconds of this machine's clock."""
    leader: str
    """The process that fetches for the fleet, as `worker` names it, as of this one's last poll; empty if none."""
    listening: bool
    """Whether changes are pushed to this process: it is subscribed to the store's notices. If not, they come with its
    polls."""

    def as_dict(self) -> dict[str, object]:
        """Return it as plain values, for JSON."""
        return {name: value.value if isinstance(value, Enum) else value for name, value in self._asdict().items()}
