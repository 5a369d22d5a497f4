"""The stand-in's log: each request that it served, each change of its definitions, and the counts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Counts", "Path", "Served", "Truth", "count", "key_digest"]

Path = Literal["definitions", "flags", "capture"]
"""An endpoint of PostHog: `/flags/definitions`, `/flags`, or any that accepts events."""

# What PostHog bills, in flag requests.
_FULL_COST = 10
_UNCHANGED_COST = 1


@dataclass(frozen=True, slots=True)
class Served:
    """One request and its response.

    The monotonic times are the system's `time.monotonic()`, comparable with those of other processes of this machine.

    Attributes:
        sequence: 1 for the first request since the start; the order of arrival.
        path: The kind of endpoint.
        wall_time: When it arrived, in seconds since the epoch.
        arrived_at: When it arrived, monotonic seconds. The response's content is from this moment.
        answered_at: When the response was sent, monotonic seconds, recorded just before its first byte, so that a
            client that has it finds it in the log; None if there was no response.
        status: The HTTP status; None if the request was left hanging or the connection was dropped.
        version: The definitions that the response sent (200) or confirmed (304), as `Truth.version`; else None.
            The ETag header is this in quotes.
        if_none_match: The ETag in the request.
        token: The project's public key in the request.
        key_digest: `key_digest(secret_key)` of the request's secret key; the key itself isn't stored.
        user_agent: The request's user agent.
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
    """The definitions that the stand-in served from a moment on, until the next change.

    Attributes:
        wall_time: Seconds since the epoch.
        changed_at: Monotonic seconds. A request that arrived before was answered from the older definitions.
        version: A digest of the response's body; equal bytes always have the same digest.
        revision: The number in the `revision` flag of `make_definitions`; None if there is no such flag.
    """

    wall_time: float
    changed_at: float
    version: str
    revision: int | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of the requests since the start or the last `reset_counts()`.

    Attributes:
        requests: Requests for definitions, whatever the response.
        by_status: The same by HTTP status; None: left hanging or dropped.
        full_fetches: Responses with definitions (200).
        not_modified: Responses "unchanged" (304).
        conditional: Requests with an ETag.
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
    """Count the requests."""
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
    """Return eight hex digits that distinguish a secret key from others, and don't reveal it."""
    return hashlib.sha256(secret_key.encode()).hexdigest()[:8]
