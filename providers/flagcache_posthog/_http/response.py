"""What an answer of PostHog's `/flags/definitions` means."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import math
import zlib
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import IO, NamedTuple, cast

import requests
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from flagcache.errors import EnvelopeError
from flagcache.stores.base import Scope
from flagcache.vendor import Fetched, FetchResult, Refused, Unchanged
from flagcache_posthog.definitions import PostHogVendor

__all__ = ["Answer", "read_body", "understand", "usable_etag"]

_OK, _UNCHANGED, _QUOTA_USED_UP, _TOO_MANY = 200, 304, 402, 429
_PIECE = 64 * 1024  # bytes read at a time
_LONGEST_ETAG = 256  # characters; it is stored beside the definitions and goes with each poll of the store


class Answer(NamedTuple):
    """One answer, read completely."""

    status: int
    headers: Mapping[str, str]
    """By name in any case."""
    body: bytes
    """Decoded; empty unless the status is 200."""


def read_body(response: requests.Response, limit: int) -> bytes:
    """Read and decode the body piece by piece, no further than its limit.

    Args:
        response: a streamed one, to a request that allows gzip alone.
        limit: bytes that the decoded body may have.

    Raises:
        EnvelopeError: it is larger, cut off, or not encoded as it says.
        urllib3.exceptions.HTTPError: the connection broke.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise EnvelopeError(f"the body has an encoding that was not asked for: {encoding[:40]!r}")
    if not isinstance(response.raw, HTTPResponse):  # a test put a response of its own into the place of ours
        return _read(io.BytesIO(response.content), limit)
    response.raw.enforce_content_length = True  # urllib3 1.26 lets a short body pass otherwise
    raw = cast("IO[bytes]", response.raw)
    try:
        if encoding in ("", "identity"):
            return _read(raw, limit)
        with gzip.GzipFile(fileobj=raw) as unpacked:
            return _read(cast("IO[bytes]", unpacked), limit)
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        raise EnvelopeError(f"the body is no complete gzip: {type(exc).__name__}") from exc
    except HTTPError as exc:
        if any(isinstance(part, http.client.IncompleteRead) for part in (exc, *exc.args)):
            raise EnvelopeError("the body is shorter than it said") from exc
        raise


def _read(stream: IO[bytes], limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := stream.read(_PIECE):
        size += len(piece)
        if size > limit:
            raise EnvelopeError(f"the body is larger than the limit of {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def understand(answer: Answer, vendor: PostHogVendor, *, conditional: bool) -> FetchResult:
    """Return the result of a fetch.

        200, definitions            Fetched
        200, the quota is used up   Refused for everybody, as 402
        304                         Unchanged, if the request was conditional
        402, 429, 5xx               Refused for everybody
        anything else               Refused for this worker: its key, its way to PostHog, its settings

    Raises:
        EnvelopeError: the status is 200 and the body is something else.
    """
    status = answer.status
    if status == _OK:
        return _definitions(answer, vendor)
    if status == _UNCHANGED and conditional:
        return Unchanged()
    concerns_all = status in (_QUOTA_USED_UP, _TOO_MANY) or 500 <= status <= 599
    return _refusal(answer, f"PostHog answered {status}", Scope.EVERYBODY if concerns_all else Scope.MINE, status)


def _definitions(answer: Answer, vendor: PostHogVendor) -> FetchResult:
    try:
        body: object = json.loads(answer.body)
    except (RecursionError, ValueError) as exc:
        # Without its cause: a decoder's exception holds all that it could not decode.
        raise EnvelopeError(f"the body is not JSON: {type(exc).__name__}") from None
    if _quota_used_up(body):
        return _refusal(answer, "PostHog's quota of flag requests is used up", Scope.EVERYBODY, _QUOTA_USED_UP)
    etag = answer.headers.get("ETag", "")
    definitions = vendor.of_response(body)
    return Fetched(definitions, etag if usable_etag(etag) else "", malformed=vendor.malformed(body))


def _quota_used_up(body: object) -> bool:
    """As the SDK sees it (posthog 7.91, `request.py`, `_process_response`); other services' quotas are listed too."""
    if not isinstance(body, dict):
        return False
    limited = cast("dict[str, object]", body).get("quotaLimited")
    return isinstance(limited, list) and "feature_flags" in cast("list[object]", limited)


def _refusal(answer: Answer, reason: str, scope: Scope, status: int) -> Refused:
    return Refused(reason, scope, status, _seconds(answer.headers.get("Retry-After", "")))


def _seconds(retry_after: str) -> float | None:
    """The wait that a Retry-After header asks for, given in seconds or as a date; None if that makes no sense."""
    try:
        seconds = float(retry_after)
    except ValueError:
        seconds = _seconds_until(retry_after)
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _seconds_until(date: str) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return math.nan
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)  # `-0000`: UTC, from who knows where
    return (moment - datetime.now(timezone.utc)).total_seconds()


def usable_etag(etag: str) -> bool:
    """Whether an entity tag can be sent back: if it makes a request invalid, it makes every request invalid."""
    return len(etag) <= _LONGEST_ETAG and etag.isascii() and etag.isprintable() and etag == etag.strip()
