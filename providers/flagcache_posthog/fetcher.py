"""The fleet's own conditional request for definitions.

It sends the request that the SDK would send (posthog 7.91, `client.py`, `_request_flag_definitions`), but limits its
total time and size, and distinguishes the responses: unchanged, refused for all workers, refused for this worker.
"""

from __future__ import annotations

from urllib.parse import quote

import requests

from flagcache._version import __version__
from flagcache.errors import EnvelopeError
from flagcache.runtime.guard import log_exceptions
from flagcache.runtime.masking import mask, userinfo_of, without_userinfo
from flagcache.settings import Settings
from flagcache.stores.base import Scope
from flagcache.vendor import FetchResult, Refused, Unchanged
from flagcache_posthog._http.deadline import RequestDeadline
from flagcache_posthog._http.request import REQUEST_ERRORS, DefinitionsRequest, root_cause
from flagcache_posthog._http.response import result_of, usable_etag
from flagcache_posthog.definitions import PostHogVendor

__all__ = ["PostHogFetcher"]

_CANCELLED = "cancelled"


class PostHogFetcher:
    """Asks PostHog for definitions (`flagcache.vendor.Fetcher`).

    Each fetch has its own session and connection: a connection kept for the next fetch, half a minute later, may be
    dead by then, and one shared with a forked child would mix up the responses of two processes.

    Args:
        api_key: the project's public key (`client.api_key`).
        secret_key: the key that may read definitions (`client.personal_api_key`).
        host: PostHog's address with its scheme (`client.host`).
        vendor: checks definitions.
        settings: limits of a fetch: `fetch_timeout` for the time without data, `fetch_total_timeout` for the whole
            fetch (connections, redirects, a second attempt, the body), `max_decoded_bytes` for its decoded body. The
            look-up of the host's name can't be interrupted: if it takes longer, that time is added.
        namespace: of the cache for which it fetches, for the log.
    """

    def __init__(
        self,
        *,
        api_key: str,
        secret_key: str,
        host: str,
        vendor: PostHogVendor,
        settings: Settings,
        namespace: str,
    ) -> None:
        # As in the SDK, except for a second trailing slash (posthog 7.91, `request.py`, `_get`).
        self._host = host.strip().rstrip("/")
        self._url = f"{self._host}/flags/definitions?token={quote(api_key, safe='')}&send_cohorts"
        self._api_key = api_key
        self._secret_key = secret_key
        self._vendor = vendor
        self.sdk = vendor.writer
        """The SDK's name in the user agent; of a wrapped SDK the name that its own requests have."""
        self._settings = settings
        self._namespace = namespace
        # Changed only by atomic operations, because a forked child might inherit a locked lock.
        self._in_flight: set[RequestDeadline] = set()

    def fetch(self, etag: str) -> FetchResult:
        """Fetch definitions if they differ from those of `etag`, within `fetch_total_timeout`. Never raises.

        One request; without an `etag` a second one if the first one's connection was dropped before a response began
        (`DefinitionsRequest`). The time limit doesn't include parsing.
        """
        failed: FetchResult = Refused("the fetch raised an exception; the log has the traceback", Scope.MINE)
        known = etag if usable_etag(etag) else ""
        return log_exceptions(lambda: self._fetch(known), failed, self._namespace, "fetching definitions failed")

    def cancel(self) -> None:
        """End the fetches that other threads are making; later fetches are not affected.

        They return at once, or within a third of `fetch_timeout` if they are still connecting to an address.
        """
        for deadline in list(self._in_flight):
            deadline.abort(_CANCELLED)

    def _fetch(self, etag: str) -> FetchResult:
        deadline = RequestDeadline(self._settings.fetch_timeout, self._settings.fetch_total_timeout)
        request = DefinitionsRequest(self._url, self._secret_key, self._headers(etag), deadline)
        self._in_flight.add(deadline)
        try:
            with deadline:
                response = request.get(self._settings.max_decoded_bytes)
            result = result_of(response, self._vendor, conditional=bool(etag))
        except EnvelopeError as exc:
            # More often this comes from a proxy or a captive portal than from PostHog.
            result = Refused(self._masked(f"PostHog answered 200, but {exc}"), Scope.MINE, 200, kind="malformed")
        except REQUEST_ERRORS as exc:
            late = deadline.ended or deadline.timeout_message(exc)
            kind = "" if deadline.ended == _CANCELLED else "timeout" if late else "unreachable"
            result = Refused(late or self._masked(_described(exc)), Scope.MINE, kind=kind)
        finally:
            self._in_flight.discard(deadline)
        return result if isinstance(result, Unchanged) else result._replace(requests=max(1, request.sent))

    def _headers(self, etag: str) -> dict[str, str]:
        headers = {
            "Accept-Encoding": "gzip",  # the only encoding that `read_body` decodes within a limit
            "Connection": "close",
            "User-Agent": f"{self.sdk} flagcache/{__version__}",
        }
        return {**headers, "If-None-Match": etag} if etag else headers

    def _masked(self, text: str) -> str:
        return mask(text, (self._secret_key, self._api_key, *userinfo_of(self._host)))

    def __repr__(self) -> str:
        timeout = self._settings.fetch_timeout
        host = without_userinfo(self._host)
        return f"<PostHogFetcher host={host!r} timeout={timeout:g}s in_flight={len(self._in_flight)}>"


def _described(exc: BaseException) -> str:
    """Name the root cause. Only the system's messages are shown, because others repeat the URL, or a proxy's URL."""
    root = root_cause(exc)
    readable = isinstance(root, OSError) and not isinstance(root, requests.RequestException)
    return f"{type(root).__name__}: {root}" if readable else type(root).__name__
