"""The response of PostHog's `/flags/definitions`, and the result that it means for the fleet."""

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

__all__ = ["DefinitionsResponse", "read_body", "result_of", "usable_etag"]

_OK, _UNCHANGED, _QUOTA_EXCEEDED, _TOO_MANY_REQUESTS = 200, 304, 402, 429
_CHUNK = 64 * 1024  # bytes per read
_MAX_ETAG_LENGTH = 256  # characters; it is stored with the definitions and sent with each poll of the store


class DefinitionsResponse(NamedTuple):
    """One response, read completely."""

    status: int
    headers: Mapping[str, str]
    """Names in any case."""
    body: bytes
    """Decoded; empty unless the status is 200."""


def read_body(response: requests.Response, limit: int) -> bytes:
    """Read and decode the body in chunks, up to a limit.

    Args:
        response: a streamed response to a request that accepts only gzip.
        limit: the largest decoded body in bytes.

    Raises:
        EnvelopeError: the body is larger, cut off, or not encoded as its header says.
        urllib3.exceptions.HTTPError: the connection broke.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise EnvelopeError(f"the body has an encoding that was not requested: {encoding[:40]!r}")
    if not isinstance(response.raw, HTTPResponse):  # a test has replaced our response
        return _read(io.BytesIO(response.content), limit)
    response.raw.enforce_content_length = True  # urllib3 1.26 lets a short body pass otherwise
    raw = cast("IO[bytes]", response.raw)
    try:
        if encoding in ("", "identity"):
            return _read(raw, limit)
        with gzip.GzipFile(fileobj=raw) as decompressed:
            return _read(cast("IO[bytes]", decompressed), limit)
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        raise EnvelopeError(f"the body is not complete gzip: {type(exc).__name__}") from exc
    except HTTPError as exc:
        if any(isinstance(part, http.client.IncompleteRead) for part in (exc, *exc.args)):
            raise EnvelopeError("the body is shorter than its Content-Length") from exc
        raise


def _read(stream: IO[bytes], limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := stream.read(_CHUNK):
        size += len(chunk)
        if size > limit:
            raise EnvelopeError(f"the body is larger than the limit of {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def result_of(response: DefinitionsResponse, vendor: PostHogVendor, *, conditional: bool) -> FetchResult:
    """Return the result of a fetch.

        200, definitions            Fetched
        200, the quota is used up   Refused for the whole fleet, as 402
        304                         Unchanged, if the request was conditional
        402, 429, 5xx               Refused for the whole fleet
        anything else               Refused for this worker: its key, its network or its settings are wrong

    Raises:
        EnvelopeError: the status is 200, and the body contains no definitions.
    """
    status = response.status
    if status == _OK:
        return _definitions(response, vendor)
    if status == _UNCHANGED and conditional:
        return Unchanged()
    concerns_all = status in (_QUOTA_EXCEEDED, _TOO_MANY_REQUESTS) or 500 <= status <= 599
    return _refusal(response, f"PostHog answered {status}", Scope.EVERYBODY if concerns_all else Scope.MINE, status)


def _definitions(response: DefinitionsResponse, vendor: PostHogVendor) -> FetchResult:
    try:
        body: object = json.loads(response.body)
    except (RecursionError, ValueError) as exc:
        # Without its cause, because a decoder's exception holds the text that it couldn't decode.
        raise EnvelopeError(f"the body is not JSON: {type(exc).__name__}") from None
    if _quota_exceeded(body):
        return _refusal(response, "PostHog's quota of flag requests is used up", Scope.EVERYBODY, _QUOTA_EXCEEDED)
    etag = response.headers.get("ETag", "")
    definitions = vendor.of_response(body)
    return Fetched(definitions, etag if usable_etag(etag) else "", malformed=vendor.malformed(body))


def _quota_exceeded(body: object) -> bool:
    """Whether the quota is used up, as the SDK reads it (posthog 7.91, `request.py`, `_process_response`).

    The list also names the quotas of other services.
    """
    if not isinstance(body, dict):
        return False
    limited = cast("dict[str, object]", body).get("quotaLimited")
    return isinstance(limited, list) and "feature_flags" in cast("list[object]", limited)


def _refusal(response: DefinitionsResponse, reason: str, scope: Scope, status: int) -> Refused:
    return Refused(reason, scope, status, _seconds(response.headers.get("Retry-After", "")))


def _seconds(retry_after: str) -> float | None:
    """Return the wait in a Retry-After header, which has seconds or a date; None if it is invalid."""
    try:
        seconds = float(retry_after)
    except ValueError:
        seconds = _seconds_until(retry_after)
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _seconds_until(date: str) -> float:
    try:
        date_time = parsedate_to_datetime(date)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return math.nan
    date_time = (
        date_time if date_time.tzinfo else date_time.replace(tzinfo=timezone.utc)
    )  # `-0000`: UTC, from an unknown time zone
    return (date_time - datetime.now(timezone.utc)).total_seconds()


def usable_etag(etag: str) -> bool:
    """Whether an entity tag can be sent back: one that makes a request invalid would make every later one invalid."""
    return len(etag) <= _MAX_ETAG_LENGTH and etag.isascii() and etag.isprintable() and etag == etag.strip()
