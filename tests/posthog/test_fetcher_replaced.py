from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest
import requests
import requests_mock
from posthog import Posthog
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from flagcache import MemoryFlagDefinitionCache
from flagcache.settings import Settings
from flagcache.stores.base import Scope
from flagcache.vendor import Fetched, Refused, Unchanged
from flagcache_posthog.definitions import PostHogVendor
from flagcache_posthog.fetcher import PostHogFetcher
from flagcache_posthog.testing import PostHogStandIn, make_definitions

HOST = "https://posthog.invalid"
DEFINITIONS = PostHogVendor().of_response({"flags": [{"key": "a"}], "group_type_mapping": {}, "cohorts": {}})


def fetcher(host: str = HOST) -> PostHogFetcher:
    """Make the fetcher under test."""
    settings = Settings(max_decoded_bytes=100_000)
    return PostHogFetcher(
        api_key="phc_test",
        secret_key="phs_0",
        host=host,
        vendor=PostHogVendor(),
        settings=settings,
        namespace="team",
    )


@pytest.fixture
def mocked() -> Iterator[requests_mock.Mocker]:
    """requests-mock in the place of the network."""
    with requests_mock.Mocker() as mocker:
        yield mocker


# --- requests-mock --------------------------------------------------------------------------------------------------


def test_requests_mock_answers_the_fetch(mocked: requests_mock.Mocker) -> None:
    """What a user's test registered with requests-mock is the answer, and the request is seen there."""
    mocked.get(f"{HOST}/flags/definitions", json=DEFINITIONS, headers={"ETag": '"x"'})
    result = fetcher().fetch("")
    assert result == Fetched(DEFINITIONS, '"x"')
    [seen] = mocked.request_history
    assert (seen.qs["token"], seen.headers["Authorization"]) == (["phc_test"], "Bearer phs_0")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (304, Unchanged()),
        (401, Refused("PostHog answered 401", Scope.MINE, 401)),
        (503, Refused("PostHog answered 503", Scope.EVERYBODY, 503)),
    ],
)
def test_requests_mock_refuses_the_fetch(
    mocked: requests_mock.Mocker, status: int, expected: Refused | Unchanged
) -> None:
    """Other statuses from requests-mock refuse the fetch as PostHog's do."""
    mocked.get(f"{HOST}/flags/definitions", status_code=status)
    assert fetcher().fetch('"x"') == expected


def test_the_bounds_hold_for_it_too(mocked: requests_mock.Mocker) -> None:
    """A body from requests-mock is decoded and limited like one from the network."""
    for body, size in ((json.dumps(DEFINITIONS), 0), (json.dumps(DEFINITIONS).ljust(100_001), 100_001)):
        packed = gzip.compress(body.encode())
        mocked.get(f"{HOST}/flags/definitions", content=packed, headers={"Content-Encoding": "gzip"})
        assert isinstance(fetcher().fetch(""), Refused if size else Fetched)


def test_its_redirects_are_followed_without_the_key(mocked: requests_mock.Mocker) -> None:
    """Our own rules for redirects hold: each is followed, and the key stays with its host."""
    mocked.get(f"{HOST}/flags/definitions", status_code=302, headers={"Location": "https://other.invalid/x"})
    mocked.get("https://other.invalid/x", json=DEFINITIONS)
    assert isinstance(fetcher().fetch(""), Fetched)
    assert [seen.headers.get("Authorization") for seen in mocked.request_history] == ["Bearer phs_0", None]


def test_no_connection_of_it_is_refused(mocked: requests_mock.Mocker) -> None:
    """An exception that a test raises in the network's place is a refusal; it is no dropped connection."""
    mocked.get(f"{HOST}/flags/definitions", exc=requests.ConnectionError)
    assert fetcher().fetch("") == Refused("ConnectionError", Scope.MINE, kind="unreachable")
    assert mocked.call_count == 1


def test_a_client_evaluates_what_requests_mock_serves(mocked: requests_mock.Mocker) -> None:
    """A client with an attached cache gets what a plain client gets in such a test, and no socket is opened."""
    mocked.get(f"{HOST}/flags/definitions", json=make_definitions(3))
    cache = MemoryFlagDefinitionCache(f"test-{uuid.uuid4()}", cold_start_wait=5)
    plain = Posthog("phc_test", secret_key="phs_0", host=HOST, send=False)
    shared = Posthog("phc_test", secret_key="phs_0", host=HOST, send=False, flag_definition_cache_provider=cache)
    cache.attach(shared)
    try:
        for client in (plain, shared):
            client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
        assert shared.feature_flags == plain.feature_flags != []
        assert mocked.call_count == 2
        assert cache.status().fetches == 1
    finally:
        plain.shutdown()
        shared.shutdown()


# --- what others put into requests ----------------------------------------------------------------------------------


def test_a_tracer_sees_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrapper around `requests.Session.send`, as tracers install it, sees the request and its answer."""
    send, seen = requests.Session.send, list[tuple[str, int]]()

    def traced(self: requests.Session, request: requests.PreparedRequest, **how: object) -> requests.Response:
        response = send(self, request, **how)
        seen.append((str(request.url), response.status_code))
        return response

    monkeypatch.setattr(requests.Session, "send", traced)
    with PostHogStandIn(make_definitions(3)) as standin:
        assert isinstance(fetcher(standin.url).fetch(""), Fetched)
        assert seen == [(f"{standin.url}/flags/definitions?token=phc_test&send_cohorts", 200)]


class Recorder(HTTPConnection):
    """A connection that keeps its socket under another name, as VCR's does."""

    made: ClassVar[list[Recorder]] = []

    @property
    def sock(self) -> object:
        """The socket."""
        return vars(self).get("_kept")

    @sock.setter
    def sock(self, sock: object) -> None:
        vars(self)["_kept"] = sock
        self.made.append(self)


def test_a_recorder_of_connections_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of connections that a test put into urllib3, as VCR does, makes the connection as it is."""
    monkeypatch.setattr(HTTPConnectionPool, "ConnectionCls", Recorder)
    with PostHogStandIn(make_definitions(3)) as standin:
        assert isinstance(fetcher(standin.url).fetch(""), Fetched)
    assert Recorder.made
    assert type(Recorder.made[0]) is Recorder


def made_by_hand(status: int, body: bytes) -> requests.Response:
    """A response as tests make it, which has no connection."""
    response = requests.Response()
    response.status_code = status
    response._content = body  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - what tests do
    return response


def in_session(monkeypatch: pytest.MonkeyPatch, response: requests.Response) -> None:
    """Let every session answer with it."""
    monkeypatch.setattr(requests.Session, "send", lambda *_, **__: response)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]


def in_adapter(monkeypatch: pytest.MonkeyPatch, response: requests.Response) -> None:
    """Let every adapter answer with it, as responses does."""
    monkeypatch.setattr(HTTPAdapter, "send", lambda *_, **__: response)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]


@pytest.mark.parametrize("replaced", [in_session, in_adapter])
@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, json.dumps(DEFINITIONS).encode(), Fetched(DEFINITIONS, "")),
        (304, b"", Unchanged()),
        (500, b"", Refused("PostHog answered 500", Scope.EVERYBODY, 500)),
        (
            200,
            b" " * 100_001,
            Refused(
                "PostHog answered 200, but the body is larger than the limit of 100000 bytes",
                Scope.MINE,
                200,
                kind="malformed",
            ),
        ),
    ],
    ids=["definitions", "unchanged", "refused", "too large"],
)
def test_a_response_made_by_hand_is_taken(
    monkeypatch: pytest.MonkeyPatch,
    replaced: Callable[[pytest.MonkeyPatch, requests.Response], None],
    status: int,
    body: bytes,
    expected: object,
) -> None:
    """A response that a test puts in the place of `Session.send` or `HTTPAdapter.send` is the answer."""
    replaced(monkeypatch, made_by_hand(status, body))
    assert fetcher().fetch('"x"') == expected
