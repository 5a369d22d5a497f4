"""What passes between the stand-in's HTTP side and its desk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from .definitions import revision_of
from .records import Path

Gate: TypeAlias = Literal["release", "recover"]
"""What can let a waiting answer go."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the desk needs to know of a request."""

    path: Path
    secret_key: str | None = None
    token: str | None = None
    if_none_match: str | None = None
    user_agent: str | None = None
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """How to answer one request, decided when it arrived.

    Attributes:
        sequence: The request's number in the log.
        status: The HTTP status; None to close the connection instead.
        body: The answer's body.
        headers: Further headers.
        delay: Seconds before the answer.
        drip: Seconds over which the body is spread.
        gate: What must happen before the answer, and how often it had happened when the request arrived.
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
    """Definitions as they go over the wire."""

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
        """The ETag header of an answer that brings or confirms this."""
        return f'"{self.version}"'
