"""What is so: one value that a health page, a metric or a person can read. Making it asks nobody."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = ["Role", "State", "Status"]


class Role(str, Enum):
    """What this process is to its fleet."""

    LEADER = "leader"
    FOLLOWER = "follower"
    READER = "reader"
    """It was made one: it never leads and never fetches."""
    NEW = "new"
    """It has not asked the store yet."""


class State(str, Enum):
    """How good what it holds is."""

    FRESH = "fresh"
    STALE = "stale"
    """Not confirmed by the vendor for longer than `stale_after`."""
    EMPTY = "empty"


class Status(NamedTuple):
    """What one cache knows, in this process. Ages are in seconds; None where nothing is held."""

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

    def as_dict(self) -> dict[str, object]:
        """Return it as plain values, for JSON."""
        return {name: value.value if isinstance(value, Enum) else value for name, value in self._asdict().items()}
