"""The request for definitions: how it is sent, where redirects lead it, and when it is sent again.

It goes through `requests.Session.send`, so that whatever a test or a tracer puts there (requests-mock, responses,
OpenTelemetry) sees it as it sees the SDK's own.
"""

from __future__ import annotations

import errno
import ssl
from http.client import HTTPException
from urllib.parse import urljoin, urlsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError

from flagcache_posthog._http.deadline import Lifeline, open_session
from flagcache_posthog._http.response import Answer, read_body

__all__ = ["TROUBLES", "DefinitionsRequest", "InsecureRedirectError", "root_of"]

_REDIRECTS = 3

TROUBLES = (HTTPError, HTTPException, OSError, RuntimeError, ValueError)
"""What goes wrong between here and PostHog. RuntimeError: a process that is ending starts no thread any more."""

_DROPS = (BrokenPipeError, ConnectionAbortedError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""The other side ended a connection. http.client's `RemoteDisconnected` is a ConnectionResetError too."""


class InsecureRedirectError(OSError):
    """A redirect leads from https to plain http."""


class DefinitionsRequest:
    """One conditional GET, with its redirects, within a deadline.

    A connection that is dropped before an answer begins is no news from PostHog: a load balancer closed it, or a server
    was restarted. The SDK's own session tries again at once then, over https (posthog 7.91, `request.py`,
    `_build_session`). So do we, once, within the same deadline, if the request is unconditional: who sends it has no
    definitions, and an application may wait for them. A conditional request is not sent again: the fleet has
    definitions, and its next grant is the retry. Refused connections, unknown hosts and timeouts are never retried.

    Args:
        url: the whole address that is asked.
        secret_key: the key that goes to the URL's host, and to no other.
        headers: sent with each request; `If-None-Match` makes it conditional.
        deadline: when all of it is over.
    """

    def __init__(self, url: str, secret_key: str, headers: dict[str, str], deadline: Lifeline) -> None:
        self._url = url
        self._secret_key = secret_key
        self._headers = headers
        self._deadline = deadline
        self.sent = 0
        """How often the URL was asked: at most twice. A redirect that is followed does not count."""

    def answer(self, max_bytes: int) -> Answer:
        """Ask, and read the answer completely.

        Args:
            max_bytes: the largest body that is accepted, decoded.

        Raises:
            EnvelopeError: the body is larger, cut off, or not encoded as it says.
            HTTPError, HTTPException, OSError, RuntimeError, ValueError: there is no complete answer.
        """
        with open_session(self._deadline) as session:
            response = self._response(session)
            try:
                body = read_body(response, max_bytes) if response.status_code == 200 else b""
            finally:
                _close(response)
                self._deadline.check()  # what ends with its connection looks whole when that was cut: a header, a body
            return Answer(response.status_code, response.headers, body)

    def _response(self, session: requests.Session) -> requests.Response:
        try:
            return self._follow(session)
        except TROUBLES as exc:
            if "If-None-Match" in self._headers or self._deadline.ended or not _was_dropped(exc):
                raise
        return self._follow(session)

    def _follow(self, session: requests.Session) -> requests.Response:
        """Ask, and go where redirects lead; the last answer if they are too many.

        Not left to the session: it would read the body of a redirect whole, and let `.netrc` replace the key.
        """
        self.sent += 1
        url, auth = self._url, _Bearer(self._secret_key)
        for _ in range(_REDIRECTS):
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


def _refuse_plain_http(source: str, target: str, status: int) -> None:
    """Refuse a redirect from https to anything else, because an attacker on the network could answer for PostHog.

    Raises:
        InsecureRedirectError: it leads there.
    """
    if urlsplit(source).scheme.lower() == "https" and urlsplit(target).scheme.lower() != "https":
        raise InsecureRedirectError(
            f"the answer {status} leads from https to http, and is not followed; correct `host`"
        )


def root_of(exc: BaseException) -> BaseException:
    """Return the cause of the causes."""
    while isinstance(deeper := exc.__cause__ or exc.__context__, TROUBLES):
        exc = deeper
    return exc


def _was_dropped(exc: BaseException) -> bool:
    """Whether the other side ended the connection. ENOTCONN: in the moment in which TLS was to begin."""
    root = root_of(exc)
    return isinstance(root, _DROPS) or (isinstance(root, OSError) and root.errno == errno.ENOTCONN)


def _close(response: requests.Response) -> None:
    if response.raw is not None:  # None in what a test made by hand, which has no connection
        response.close()
