"""Faults of the stand-in's responses."""

from __future__ import annotations

import http
import json
import math
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias, cast

from flagcache.errors import ConfigurationError

from .records import Path

__all__ = ["MALFORMED", "QUOTA_LIMITED", "Drip", "Drop", "Fault", "Garble", "Hang", "Refuse"]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Respond with an error, as PostHog does.

    Attributes:
        status: The HTTP status, 400 to 599.
        retry_after: The Retry-After header, in seconds or as an HTTP date; None for no such header.
    """

    status: int
    retry_after: float | str | None = None

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise ConfigurationError(f"a refusal's status must be 400 to 599, not {self.status}")


@dataclass(frozen=True, slots=True)
class Garble:
    """Respond with 200, no ETag, and this text as the body."""

    body: str


@dataclass(frozen=True, slots=True)
class Hang:
    """Accept the request and never respond; the connection is closed at `recover()` or `stop()`."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Accept the request and close the connection without a response."""


@dataclass(frozen=True, slots=True)
class Drip:
    """Respond correctly, but send the body evenly over this many seconds."""

    seconds: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ConfigurationError(f"a body can drip for a finite number of seconds above 0, not {self.seconds}")


Fault: TypeAlias = Refuse | Garble | Hang | Drop | Drip

MALFORMED = Garble('{"flags": [{"key": "fl')
"""A body that breaks off in the middle."""

QUOTA_LIMITED = Garble('{"flags": [], "group_type_mapping": {}, "cohorts": {}, "quotaLimited": ["feature_flags"]}')
"""A 200 that says that the project's quota of flag requests is used up; the SDK clears its flags as for a 402."""

_KINDS: dict[str, type[Fault]] = {kind.__name__: kind for kind in (Refuse, Garble, Hang, Drop, Drip)}

# PostHog's error bodies: type, code and detail by status. Others are made from the status's own name.
_REFUSALS = {
    401: ("authentication_error", "authentication_failed", "The secret key in the Authorization header is not valid."),
    402: ("quota_limited", "payment_required", "The quota of feature flag requests is used up."),
    403: ("authentication_error", "permission_denied", "The secret key does not have the scope for this."),
    429: ("throttled_error", "throttled", "Request was throttled."),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A fault and the requests that it applies to.

    Attributes:
        fault: The fault.
        path: The kind of endpoint.
        key_digest: The digest of the secret key of these requests; None: of any key.
        times: The number of further requests; None: all until `recover()`.
    """

    fault: Fault
    path: Path
    key_digest: str | None
    times: int | None

    def meets(self, path: Path, key_digest: str | None) -> bool:
        """Whether this rule applies to a request."""
        return self.path == path and self.key_digest in (None, key_digest)


def refusal_body(status: int) -> bytes:
    """Return the body that PostHog sends with an error status."""
    name = http.HTTPStatus(status).phrase if status in list(http.HTTPStatus) else "Error"
    kind, code, detail = _REFUSALS.get(status, ("server_error", "error", f"{name}."))
    return json.dumps({"type": kind, "code": code, "detail": detail, "attr": None}).encode()


def pack_fault(fault: Fault) -> dict[str, object]:
    """Return a fault as JSON values."""
    return {"kind": type(fault).__name__, **asdict(fault)}


def unpack_fault(packed: dict[str, object]) -> Fault:
    """Return the fault from its JSON values."""
    fields = cast("dict[str, Any]", dict(packed))
    return _KINDS[fields.pop("kind")](**fields)
