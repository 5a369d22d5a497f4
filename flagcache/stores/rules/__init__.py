"""What each verb does to a store's state: the reference that the Lua scripts and SQLite follow. Pure."""

from __future__ import annotations

from flagcache.stores.rules.state import Outcome, State
from flagcache.stores.rules.verbs import (
    REPUBLISH_EVERY,
    announced,
    clear,
    confirm,
    discard,
    fail,
    poll,
    publish,
    release,
    renew,
    replaces_payload,
    report,
    snapshot,
)

__all__ = [
    "REPUBLISH_EVERY",
    "Outcome",
    "State",
    "announced",
    "clear",
    "confirm",
    "discard",
    "fail",
    "poll",
    "publish",
    "release",
    "renew",
    "replaces_payload",
    "report",
    "snapshot",
]
