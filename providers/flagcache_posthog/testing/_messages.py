"""The messages between the stand-in's HTTP server and its backend."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .definitions import revision_of
from .records import Path

Gate: TypeAlias = Literal["release", "recover"]
"""The event that a held response waits for."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request, as the backend needs it."""

    path: Path
    secret_key: str | None = None
    token: str | None = None
    if_none_match: str | None = None
    user_agent: str | None = None
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """The response to one request, decided when it arrived.

    Attributes:
        sequence: The request's number in the log.
        status: The HTTP status; None to close the connection instead.
        body: The response's body.
        headers: Further headers.
        delay: Seconds before the response.
        drip: Seconds over which the body is spread.
        gate: The event to wait for, and how often it had happened when the request arrived.
    """

    sequence: int
    status: int | None
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay: float = 0.0
    drip: float = 0.0
    gate: tuple[Gate, int] | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """Encoded definitions."""

    body: bytes
    version: str
    revision: int | None

    @classmethod
    def of(cls, definitions: Mapping[str, object]) -> Content:
        """Encode definitions; equal ones (in the same order) give equal bytes and the same version."""
        body = json.dumps(definitions, separators=(",", ":")).encode()
        return cls(body, hashlib.sha256(body).hexdigest()[:16], revision_of(definitions))

    @property
    def etag(self) -> str:
        """Return the ETag header of a response that sends or confirms these definitions."""
        return f'"{self.version}"'
