"""What can go wrong with an answer, and for whom."""

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
    """Answer with an error, in PostHog's words.

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
    """Answer 200, without an ETag, with this text for a body."""

    body: str


@dataclass(frozen=True, slots=True)
class Hang:
    """Take the request and never answer; the connection is dropped at `recover()` or `stop()`."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Take the request and close the connection without an answer."""


@dataclass(frozen=True, slots=True)
class Drip:
    """Answer rightly, but with the body spread evenly over this many seconds."""

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
    """A fault and whom it meets.

    Attributes:
        fault: What goes wrong.
        path: On which kind of endpoint.
        key_digest: Only for the asker with this secret key's digest; None for everybody.
        times: For how many more requests; None until it is taken back.
    """

    fault: Fault
    path: Path
    key_digest: str | None
    times: int | None

    def meets(self, path: Path, key_digest: str | None) -> bool:
        """Tell whether this rule holds for a request."""
        return self.path == path and self.key_digest in (None, key_digest)


def refusal_body(status: int) -> bytes:
    """Make the body that PostHog sends with an error status."""
    name = http.HTTPStatus(status).phrase if status in list(http.HTTPStatus) else "Error"
    kind, code, detail = _REFUSALS.get(status, ("server_error", "error", f"{name}."))
    return json.dumps({"type": kind, "code": code, "detail": detail, "attr": None}).encode()


def pack_fault(fault: Fault) -> dict[str, object]:
    """Turn a fault into what JSON can carry."""
    return {"kind": type(fault).__name__, **asdict(fault)}


def unpack_fault(packed: dict[str, object]) -> Fault:
    """Turn what JSON carried back into the fault."""
    fields = cast("dict[str, Any]", dict(packed))
    return _KINDS[fields.pop("kind")](**fields)
