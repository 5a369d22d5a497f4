"""The fleet's own conditional request for definitions.

It asks PostHog what the SDK would ask (posthog 7.91, `client.py`, `_request_flag_definitions`), but within a total time
and a total size, and distinguishes the answers: unchanged, refused for all workers, refused for this worker.
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
from flagcache_posthog._http.deadline import Lifeline
from flagcache_posthog._http.request import TROUBLES, DefinitionsRequest, root_of
from flagcache_posthog._http.response import understand, usable_etag
from flagcache_posthog.definitions import PostHogVendor

__all__ = ["PostHogFetcher"]

_CANCELLED = "cancelled"


class PostHogFetcher:
    """Asks PostHog for definitions (`flagcache.vendor.Fetcher`).

    Each fetch has a session and a connection of its own: a connection kept for the next one, half a minute later, may
    be dead by then, and one shared with a forked child would mix up two processes' answers.

    Args:
        api_key: the project's public key (`client.api_key`).
        secret_key: the key that may read definitions (`client.personal_api_key`).
        host: PostHog's address with its scheme (`client.host`).
        vendor: what is to be known of definitions.
        settings: bounds a fetch: `fetch_timeout` its longest silence, `fetch_total_timeout` all of it (connections,
            redirects, a second try, the body), `max_decoded_bytes` its decoded body. The look-up of the host's name
            cannot be interrupted: if it takes longer, that comes on top.
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
        # As the SDK puts it together, but for a second trailing slash (posthog 7.91, `request.py`, `_get`).
        self._host = host.strip().rstrip("/")
        self._url = f"{self._host}/flags/definitions?token={quote(api_key, safe='')}&send_cohorts"
        self._api_key = api_key
        self._secret_key = secret_key
        self._vendor = vendor
        self.sdk = vendor.writer
        """How the request names the SDK on whose behalf it is made: what its own requests say, if it is wrapped."""
        self._settings = settings
        self._namespace = namespace
        # Changed by atomic operations alone: a lock might be inherited locked by a forked child.
        self._underway: set[Lifeline] = set()

    def fetch(self, etag: str) -> FetchResult:
        """Fetch definitions if they differ from those of `etag`, within `fetch_total_timeout`. Never raises.

        One request; without an `etag` a second one if the first one's connection was dropped before an answer began
        (`DefinitionsRequest`). The parsing of what came within the time is not counted in.
        """
        failed: FetchResult = Refused("the fetch broke off; the log has the traceback", Scope.MINE)
        known = etag if usable_etag(etag) else ""
        return log_exceptions(lambda: self._fetch(known), failed, self._namespace, "could not fetch definitions")

    def cancel(self) -> None:
        """End the fetches that other threads have under way; those to come are not concerned.

        They return at once; one that is still looking for a way to the host, within a third of `fetch_timeout`.
        """
        for lifeline in list(self._underway):
            lifeline.cut(_CANCELLED)

    def _fetch(self, etag: str) -> FetchResult:
        lifeline = Lifeline(self._settings.fetch_timeout, self._settings.fetch_total_timeout)
        request = DefinitionsRequest(self._url, self._secret_key, self._headers(etag), lifeline)
        self._underway.add(lifeline)
        try:
            with lifeline:
                answer = request.answer(self._settings.max_decoded_bytes)
            result = understand(answer, self._vendor, conditional=bool(etag))
        except EnvelopeError as exc:
            # More often a proxy or a captive portal in this worker's way than PostHog itself.
            result = Refused(self._masked(f"PostHog answered 200, but {exc}"), Scope.MINE, 200, kind="malformed")
        except TROUBLES as exc:
            late = lifeline.ended or lifeline.silence(exc)
            kind = "" if lifeline.ended == _CANCELLED else "timeout" if late else "unreachable"
            result = Refused(late or self._masked(_shown(exc)), Scope.MINE, kind=kind)
        finally:
            self._underway.discard(lifeline)
        return result if isinstance(result, Unchanged) else result._replace(requests=max(1, request.sent))

    def _headers(self, etag: str) -> dict[str, str]:
        headers = {
            "Accept-Encoding": "gzip",  # all that `read_body` unpacks within bounds
            "Connection": "close",
            "User-Agent": f"{self.sdk} flagcache/{__version__}",
        }
        return {**headers, "If-None-Match": etag} if etag else headers

    def _masked(self, text: str) -> str:
        return mask(text, (self._secret_key, self._api_key, *userinfo_of(self._host)))

    def __repr__(self) -> str:
        timeout = self._settings.fetch_timeout
        host = without_userinfo(self._host)
        return f"<PostHogFetcher host={host!r} timeout={timeout:g}s underway={len(self._underway)}>"


def _shown(exc: BaseException) -> str:
    """Name the cause of the causes. Only the system's own words are shown: others repeat the URL, or a proxy's."""
    root = root_of(exc)
    told = isinstance(root, OSError) and not isinstance(root, requests.RequestException)
    return f"{type(root).__name__}: {root}" if told else type(root).__name__
