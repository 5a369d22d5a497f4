"""What the stand-in tells of the past: each request it served, each change of its definitions, and the sums."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Counts", "Path", "Served", "Truth", "count", "key_digest"]

Path = Literal["definitions", "flags", "capture"]
"""Which of PostHog's endpoints: `/flags/definitions`, `/flags`, or any that takes events."""

# What PostHog bills, in flag requests.
_FULL_COST = 10
_UNCHANGED_COST = 1


@dataclass(frozen=True, slots=True)
class Served:
    """One request, and what it was answered.

    The monotonic times are the system's `time.monotonic()`, comparable with those of other processes of this machine.

    Attributes:
        sequence: 1 for the first request since the start; the order of arrival.
        path: The kind of endpoint.
        wall_time: When it arrived, in seconds since the epoch.
        arrived_at: When it arrived, monotonic seconds. The answer's content was chosen at this moment.
        answered_at: When the answer went out, monotonic seconds, noted just before its first byte, so that whoever has
            it finds it in the log; None if none did.
        status: The HTTP status; None if the request was left hanging or the connection was dropped.
        version: The definitions that the answer brought (200) or confirmed (304), as `Truth.version`; else None.
            The ETag header is this in quotes.
        if_none_match: The ETag that the asker sent, as sent.
        token: The project's public key that the asker sent.
        key_digest: `key_digest(secret_key)` of the asker's secret key: the key itself is kept nowhere.
        user_agent: The asker's own name for itself.
    """

    sequence: int
    path: Path
    wall_time: float
    arrived_at: float
    answered_at: float | None
    status: int | None
    version: str | None
    if_none_match: str | None
    token: str | None
    key_digest: str | None
    user_agent: str | None


@dataclass(frozen=True, slots=True)
class Truth:
    """From this moment on, until the next one, these were the definitions.

    Attributes:
        wall_time: Seconds since the epoch.
        changed_at: Monotonic seconds. A request with `arrived_at` before it was answered from the older definitions.
        version: A digest of the answer's body; equal for equal bytes, also when they come back later.
        revision: The number told by the `revision` flag of `make_definitions`; None if there is no such flag.
    """

    wall_time: float
    changed_at: float
    version: str
    revision: int | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums over the requests that arrived since the start or the last `reset_counts()`.

    Attributes:
        requests: How often definitions were asked for, whatever the answer.
        by_status: The same by HTTP status; None for those left hanging or dropped.
        full_fetches: How often definitions were sent (200).
        not_modified: How often "unchanged" was the answer (304).
        conditional: How often the asker sent an ETag.
        flags_calls: Requests to `/flags`, which evaluate flags on the server.
        flag_requests: What PostHog would bill: 10 for definitions sent, 1 for "unchanged", 1 for `/flags`.
        events: Captured events by name.
    """

    requests: int
    by_status: Mapping[int | None, int]
    full_fetches: int
    not_modified: int
    conditional: int
    flags_calls: int
    flag_requests: int
    events: Mapping[str, int]


def count(records: Iterable[Served], events: Mapping[str, int]) -> Counts:
    """Add up what was served."""
    served = list(records)
    definitions = [record for record in served if record.path == "definitions"]
    by_status = Counter(record.status for record in definitions)
    flags_calls = [record.status for record in served if record.path == "flags"]
    return Counts(
        requests=len(definitions),
        by_status=dict(by_status),
        full_fetches=by_status[200],
        not_modified=by_status[304],
        conditional=sum(record.if_none_match is not None for record in definitions),
        flags_calls=len(flags_calls),
        flag_requests=_FULL_COST * by_status[200] + _UNCHANGED_COST * by_status[304] + flags_calls.count(200),
        events=dict(events),
    )


def key_digest(secret_key: str) -> str:
    """Shorten a secret key to eight hex digits that tell it from others and do not give it away."""
    return hashlib.sha256(secret_key.encode()).hexdigest()[:8]
