"""The fleet's own conditional request for definitions.

It asks PostHog what the SDK would ask (posthog 7.91, `client.py`, `_request_flag_definitions`), but once, within a
total time and a total size, and it tells the answers apart: unchanged, refused for everybody, refused for this worker.
"""

from __future__ import annotations

from contextlib import closing
from http.client import HTTPException
from urllib.parse import quote, urljoin

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError

from flagcache._version import __version__
from flagcache.errors import EnvelopeError
from flagcache.runtime.guard import guarded
from flagcache.stores.base import Scope
from flagcache.vendor import FetchResult, Refused
from flagcache_posthog._answer import Answer, read_body, understand, usable_etag
from flagcache_posthog._deadline_session import Lifeline, open_session
from flagcache_posthog.definitions import PostHogVendor

__all__ = ["PostHogFetcher"]

_REDIRECTS = 3

# What goes wrong between here and PostHog. RuntimeError: a process that is ending starts no thread any more.
_TROUBLES = (HTTPError, HTTPException, OSError, RuntimeError, ValueError)


class PostHogFetcher:
    """Asks PostHog for definitions (`flagcache.vendor.Fetcher`).

    Each fetch has a session and a connection of its own: a connection kept for the next one, half a minute later, may
    be dead by then, and one shared with a forked child would mix up two processes' answers.

    Args:
        api_key: the project's public key (`client.api_key`).
        secret_key: the key that may read definitions (`client.personal_api_key`).
        host: PostHog's address with its scheme (`client.host`).
        vendor: what is to be known of definitions.
        timeout: seconds for a whole fetch: connections, redirects and the body. The look-up of the host's name cannot
            be interrupted and comes on top where it takes longer.
        max_bytes: the largest body that is accepted, decoded.
    """

    def __init__(
        self, *, api_key: str, secret_key: str, host: str, vendor: PostHogVendor, timeout: float = 10.0, max_bytes: int
    ) -> None:
        # As the SDK puts it together, but for a second trailing slash (posthog 7.91, `request.py`, `_get`).
        self._host = host.strip().rstrip("/")
        self._url = f"{self._host}/flags/definitions?token={quote(api_key, safe='')}&send_cohorts"
        self._api_key = api_key
        self._secret_key = secret_key
        self._vendor = vendor
        self._timeout = timeout
        self._max_bytes = max_bytes
        # Changed by atomic operations alone: a lock might be inherited locked by a forked child.
        self._underway: set[Lifeline] = set()

    def fetch(self, etag: str) -> FetchResult:
        """Ask once, for whatever differs from what `etag` names; within the timeout. Never raises.

        The parsing of what came within the timeout is not counted in.
        """
        failed: FetchResult = Refused("the fetch broke off; the log has the traceback", Scope.MINE)
        return guarded(lambda: self._fetch(etag if usable_etag(etag) else ""), failed, "could not fetch definitions")

    def cancel(self) -> None:
        """End the fetches that other threads have under way; those to come are not concerned.

        They return at once; one that is still looking for a way to the host, within a third of the timeout.
        """
        for lifeline in list(self._underway):
            lifeline.cut("cancelled")

    def _fetch(self, etag: str) -> FetchResult:
        lifeline = Lifeline(self._timeout)
        self._underway.add(lifeline)
        try:
            with lifeline, open_session(lifeline) as session:
                answer = self._exchange(session, lifeline, etag)
            return understand(answer, self._vendor, conditional=bool(etag))
        except EnvelopeError as exc:
            # More often a proxy or a captive portal in this worker's way than PostHog itself.
            return Refused(self._masked(f"PostHog answered 200, but {exc}"), Scope.MINE, 200)
        except _TROUBLES as exc:
            return Refused(lifeline.ended or self._masked(_root(exc)), Scope.MINE)
        finally:
            self._underway.discard(lifeline)

    def _exchange(self, session: requests.Session, lifeline: Lifeline, etag: str) -> Answer:
        with closing(self._follow(session, lifeline, etag)) as response:
            try:
                body = read_body(response, self._max_bytes) if response.status_code == 200 else b""
            finally:
                lifeline.check()  # what ends with its connection looks whole when that was cut: a header, a body
            return Answer(response.status_code, response.headers, body)

    def _follow(self, session: requests.Session, lifeline: Lifeline, etag: str) -> requests.Response:
        """Ask, and go where redirects lead; the last answer if they are too many.

        Not left to the session: it would read the body of a redirect whole, and let `.netrc` replace the key.
        """
        url, auth = self._url, _Bearer(self._secret_key)
        for _ in range(_REDIRECTS):
            response = self._send(session, lifeline, etag, url, auth)
            target = session.get_redirect_target(response)
            if target is None:
                return response
            response.close()
            source, url = url, urljoin(url, target)
            if session.should_strip_auth(source, url):
                auth = _Bearer("")
        return self._send(session, lifeline, etag, url, auth)

    def _send(
        self, session: requests.Session, lifeline: Lifeline, etag: str, url: str, auth: AuthBase
    ) -> requests.Response:
        headers = {
            "Accept-Encoding": "gzip",  # all that `read_body` unpacks within bounds
            "Connection": "close",
            "User-Agent": f"{self._vendor.writer} flagcache/{__version__}",
        }
        if etag:
            headers["If-None-Match"] = etag
        request = session.prepare_request(requests.Request("GET", url, headers=headers, auth=auth))
        settings = session.merge_environment_settings(url, {}, stream=True, verify=None, cert=None)
        return session.get_adapter(url).send(request, timeout=(lifeline.attempt, self._timeout), **settings)

    def _masked(self, text: str) -> str:
        for key in (self._secret_key, self._api_key):
            text = text.replace(key, "***") if key else text
        return text

    def __repr__(self) -> str:
        return f"<PostHogFetcher host={self._host!r} timeout={self._timeout:g}s underway={len(self._underway)}>"


class _Bearer(AuthBase):
    """Puts the key into a request. An `auth` of requests, because without one it would look into `.netrc`.

    Args:
        key: the secret key; empty for a host that must not see it.
    """

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            r.headers["Authorization"] = f"Bearer {self._key}"
        return r


def _root(exc: BaseException) -> str:
    """Name the cause of the causes. Only the system's own words are shown: others repeat the URL, or a proxy's."""
    while isinstance(deeper := exc.__cause__ or exc.__context__, _TROUBLES):
        exc = deeper
    told = isinstance(exc, OSError) and not isinstance(exc, requests.RequestException)
    return f"{type(exc).__name__}: {exc}" if told else type(exc).__name__
