"""The request for definitions, with its redirects and its retry.

It goes through `requests.Session.send`, so tools that replace that method (requests-mock, responses, OpenTelemetry) see
it as they see the SDK's requests.
"""

from __future__ import annotations

import errno
import ssl
from http.client import HTTPException
from urllib.parse import urljoin, urlsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError

from flagcache_posthog._http.deadline import RequestDeadline, open_session
from flagcache_posthog._http.response import DefinitionsResponse, read_body

__all__ = ["REQUEST_ERRORS", "DefinitionsRequest", "InsecureRedirectError", "root_cause"]

_MAX_REDIRECTS = 3

REQUEST_ERRORS = (HTTPError, HTTPException, OSError, RuntimeError, ValueError)
"""The errors of a request that got no complete response. RuntimeError: an ending process can't start a thread."""

_DROPPED = (BrokenPipeError, ConnectionAbortedError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""The other side closed the connection. http.client's `RemoteDisconnected` is a ConnectionResetError too."""


class InsecureRedirectError(OSError):
    """A redirect leads from https to plain http."""


class DefinitionsRequest:
    """One conditional GET, with its redirects, within a deadline.

    If a connection is dropped before a response begins, a load balancer has closed it, or a server was restarted. The
    SDK's session then tries again at once over https (posthog 7.91, `request.py`, `_build_session`). We do so too,
    once and within the same deadline, if the request is unconditional: its sender has no definitions, and an
    application may wait for them. A conditional request is not sent again, because the fleet has definitions and its
    next grant is the retry. Refused connections, unknown hosts and timeouts are never retried.

    Args:
        url: the complete URL.
        secret_key: the key, which is sent to the URL's host and to no other.
        headers: sent with each request; `If-None-Match` makes it conditional.
        deadline: for all requests and their responses.
    """

    def __init__(self, url: str, secret_key: str, headers: dict[str, str], deadline: RequestDeadline) -> None:
        self._url = url
        self._secret_key = secret_key
        self._headers = headers
        self._deadline = deadline
        self.sent = 0
        """Number of requests to the URL, at most two. A redirect that is followed doesn't count."""

    def get(self, max_bytes: int) -> DefinitionsResponse:
        """Send the request, and read the response completely.

        Args:
            max_bytes: the largest decoded body that is accepted.

        Raises:
            EnvelopeError: the body is larger, cut off, or not encoded as it says.
            HTTPError, HTTPException, OSError, RuntimeError, ValueError: there is no complete response.
        """
        with open_session(self._deadline) as session:
            response = self._response(session)
            try:
                body = read_body(response, max_bytes) if response.status_code == 200 else b""
            finally:
                _close(response)
                self._deadline.check()  # headers or a body that end with the connection look complete if it was aborted
            return DefinitionsResponse(response.status_code, response.headers, body)

    def _response(self, session: requests.Session) -> requests.Response:
        try:
            return self._follow(session)
        except REQUEST_ERRORS as exc:
            if "If-None-Match" in self._headers or self._deadline.ended or not _was_dropped(exc):
                raise
        return self._follow(session)

    def _follow(self, session: requests.Session) -> requests.Response:
        """Send the request and follow redirects; return the last response if there are too many.

        The session doesn't follow them, because it would read a redirect's body completely, and let `.netrc` replace
        the key.
        """
        self.sent += 1
        url, auth = self._url, _Bearer(self._secret_key)
        for _ in range(_MAX_REDIRECTS):
            response = self._send(session, url, auth)
            target = session.get_redirect_target(response)
            if target is None:
                return response
            _close(response)
            source, url = url, urljoin(url, target)
            _refuse_plain_http(source, url, response.status_code)
            if session.should_strip_auth(source, url):
                auth = _Bearer("")
        return self._send(session, url, auth)

    def _send(self, session: requests.Session, url: str, auth: AuthBase) -> requests.Response:
        request = session.prepare_request(requests.Request("GET", url, headers=self._headers, auth=auth))
        settings = session.merge_environment_settings(url, {}, stream=True, verify=None, cert=None)
        return session.send(request, timeout=self._deadline.begin_connecting(), allow_redirects=False, **settings)


class _Bearer(AuthBase):
    """Puts the key into a request. Without an `auth`, requests would read `.netrc`.

    Args:
        key: the secret key; empty for a host that must not get it.
    """

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            r.headers["Authorization"] = f"Bearer {self._key}"
        return r


def _refuse_plain_http(source: str, target: str, status: int) -> None:
    """Refuse a redirect from https to anything else, because an attacker on the network could answer for PostHog.

    Raises:
        InsecureRedirectError: the redirect is insecure.
    """
    if urlsplit(source).scheme.lower() == "https" and urlsplit(target).scheme.lower() != "https":
        raise InsecureRedirectError(
            f"the answer {status} redirects from https to http and was not followed; correct `host`"
        )


def root_cause(exc: BaseException) -> BaseException:
    """Return the first exception of a chain."""
    while isinstance(cause := exc.__cause__ or exc.__context__, REQUEST_ERRORS):
        exc = cause
    return exc


def _was_dropped(exc: BaseException) -> bool:
    """Whether the other side closed the connection. ENOTCONN: it did so when TLS was about to begin."""
    root = root_cause(exc)
    return isinstance(root, _DROPPED) or (isinstance(root, OSError) and root.errno == errno.ENOTCONN)


def _close(response: requests.Response) -> None:
    if response.raw is not None:  # None in a response that a test created, which has no connection
        response.close()
