from __future__ import annotations

import gc
import gzip
import json
import logging
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeAlias, cast

import posthog as sdk
import pytest
from posthog import Posthog
from posthog.flag_definition_cache import FlagDefinitionCacheData
from typing_extensions import Self

from flagcache.encoding.payload import digest
from flagcache.errors import ConfigurationError, EnvelopeError
from flagcache.runtime.log_prefix import process_name
from flagcache.settings import Settings
from flagcache.stores.base import Scope
from flagcache.vendor import Fetched, Fetcher, FetchResult, Refused, Unchanged
from flagcache_posthog._client_checks import checked_host
from flagcache_posthog._http.deadline import RequestDeadline
from flagcache_posthog.attach import AttachedClient
from flagcache_posthog.definitions import PostHogVendor
from flagcache_posthog.fetcher import PostHogFetcher
from flagcache_posthog.testing import (
    MALFORMED,
    QUOTA_LIMITED,
    Certificate,
    Drip,
    Drop,
    Fault,
    Garble,
    Hang,
    PostHogStandIn,
    Refuse,
    key_digest,
    make_certificate,
    make_definitions,
)
from tests.support.servers import until

pytestmark = pytest.mark.usefixtures("no_threads_left")

API_KEY, SECRET = "phc_public/&?", "phs_very_secret"
SHORT = 0.6  # seconds: the deadline of fetches that miss it
SOON = 4.0  # seconds in which such a fetch must end on a busy machine; nothing here takes longer by itself
PATIENCE = 15.0  # seconds; far more than what is waited for takes
Answering: TypeAlias = Callable[[socket.socket], object]
DEFINITIONS = {"flags": [{"key": "a", "team_id": 1}], "group_type_mapping": {"0": "company"}, "cohorts": {}}
VENDOR = PostHogVendor()


def fetcher(host: str, *, timeout: float = 10.0, total: float = 60.0, max_bytes: int = 1 << 20) -> PostHogFetcher:
    """Make the fetcher under test."""
    settings = Settings(fetch_timeout=timeout, fetch_total_timeout=total, max_decoded_bytes=max_bytes)
    return PostHogFetcher(
        api_key=API_KEY, secret_key=SECRET, host=host, vendor=VENDOR, settings=settings, namespace="team"
    )


def refused(result: FetchResult) -> Refused:
    """Return the refusal, which shows no key whatever its cause."""
    assert isinstance(result, Refused), result
    assert SECRET not in result.reason
    assert "phc_public" not in result.reason
    return result


def fetched(result: FetchResult) -> Fetched:
    """The definitions."""
    assert isinstance(result, Fetched), result
    return result


def elapsed(work: Callable[[], FetchResult]) -> tuple[FetchResult, float]:
    """Return the result, and the seconds until it came."""
    began = time.monotonic()
    return work(), time.monotonic() - began


# --- a server with any response -------------------------------------------------------------------------------------


class RawServer:
    """Answers each request with what `answer` does to its connection, and sees whether the client ends that.

    Args:
        answer: gets the connection once the request's head has come, and may send and wait for anything.
        read_head: False leaves the request unread.
    """

    def __init__(self, answer: Answering, *, read_head: bool = True) -> None:
        self._answer = answer
        self._read_head = read_head
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.heads: list[str] = []
        self.ended = threading.Event()
        """The client has ended a connection that this server left open."""

    @property
    def address(self) -> str:
        """The host and port."""
        return f"127.0.0.1:{self._listening.getsockname()[1]}"

    @property
    def url(self) -> str:
        """The address to pass as `host`."""
        return f"http://{self.address}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a connection was never ended by the client"
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            head = b""
            while self._read_head and b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            self.heads.append(head.decode("latin-1"))
            try:
                self._answer(connection)
                while connection.recv(65536):
                    pass
            except OSError:
                pass
            self.ended.set()


def sends(*parts: bytes | str) -> Answering:
    """Send this and end the answer."""

    def answer(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part.encode() if isinstance(part, str) else part)
        connection.shutdown(socket.SHUT_WR)

    return answer


def head(status: str = "200 OK", **headers: str | int) -> str:
    """The first lines of an answer."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""])


def drip(text: str, *, after: str = "") -> Answering:
    """Send `after` at once, then one byte of the text at a time, without end, until the client goes."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(after.encode())
        pause = threading.Event()
        while True:
            for byte in text.encode():
                connection.sendall(bytes([byte]))
                pause.wait(0.02)

    return answer


def whole(body: bytes, **headers: str) -> Answering:
    """Send this body rightly."""
    return sends(head("200 OK", Content_Length=len(body), **headers), body)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for 127.0.0.1."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=["http", "https"])
def standin(
    request: pytest.FixtureRequest, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PostHogStandIn]:
    """A PostHog over both schemes."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate.ca_file)
    with PostHogStandIn(certificate=certificate if request.param == "https" else None) as made:
        yield made


# --- what is asked --------------------------------------------------------------------------------------------------


def test_it_is_a_fetcher(standin: PostHogStandIn) -> None:
    """What it is made of fits the engine's protocol, and its repr shows state and no key."""
    made: Fetcher = fetcher(standin.url)
    assert repr(made) == f"<PostHogFetcher host={standin.url!r} timeout=10s in_flight=0>"
    assert standin.requests == 0


def test_one_request_with_the_sdks_keys_and_both_names(standin: PostHogStandIn) -> None:
    """A fetch is one request, as the SDK would make it, with a user agent that names the SDK and flagcache."""
    fetched(fetcher(standin.url).fetch(""))
    (served,) = standin.served()
    assert (served.token, served.key_digest, served.if_none_match) == (API_KEY, key_digest(SECRET), None)
    assert re.fullmatch(r"posthog-python/\d+\.\d+\.\d+ flagcache/\S+", served.user_agent or "")


def test_a_wrapped_sdk_keeps_its_name(standin: PostHogStandIn) -> None:
    """The fetch for a client whose SDK was given another identity names that, as the client's own requests do."""
    client = Posthog("phc_test", secret_key="phs_0", host=standin.url, send=False)
    identify = getattr(client, "_set_library_identity", None)
    if identify is None:
        pytest.skip("the oldest SDKs have one name")
    identify("posthog-wrapped", "1.2.3")
    client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    own = AttachedClient(client, VENDOR, Settings(), "team").fetcher
    assert own is not None
    fetched(own.fetch(""))
    sdks, ours = standin.served()
    assert sdks.user_agent == "posthog-wrapped/1.2.3"
    assert re.fullmatch(r"posthog-wrapped/1\.2\.3 flagcache/\S+", ours.user_agent or "")
    client.shutdown()


@pytest.mark.parametrize("lacks", ["nothing", "secret key", "public key", "permission", "client"])
def test_a_client_can_fetch_if_it_has_a_fetcher(lacks: str) -> None:
    """A poll asks the first question without creating a fetcher; what the client has may change at any time."""
    client = Posthog("phc_test", secret_key="phs_0", host="http://127.0.0.1:9", send=False)
    attached = AttachedClient(client, VENDOR, Settings(), "team")
    assert attached.can_fetch
    if lacks == "secret key":
        client.personal_api_key = None
    elif lacks == "public key":
        client.api_key = ""
    elif lacks == "permission":
        client.disabled = True
    client.shutdown()
    if lacks == "client":
        del client
        gc.collect()
    assert attached.can_fetch is (attached.fetcher is not None) is (lacks == "nothing")


def test_no_thread_is_left_to_the_garbage_collector(standin: PostHogStandIn) -> None:
    """A signal handler that runs while a thread object is collected cannot end the program: its exception is lost."""
    gc.collect()
    gc.disable()
    try:
        before = set(map(id, filter(_is_timer, gc.get_objects())))
        fetched(fetcher(standin.url).fetch(""))
        assert [left for left in filter(_is_timer, gc.get_objects()) if id(left) not in before] == []
    finally:
        gc.enable()


def _is_timer(candidate: object) -> bool:
    return type(candidate) is threading.Timer


def test_socket_options_of_the_sdk_are_used(standin: PostHogStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options from `posthog.set_socket_options` apply to our connections; None restores the defaults."""
    seen, track = list[tuple[int, int]](), RequestDeadline.track

    def look(deadline: RequestDeadline, connection: socket.socket) -> None:
        alive = connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        seen.append((alive, connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
        track(deadline, connection)

    monkeypatch.setattr(RequestDeadline, "track", look)
    keep_alive: list[tuple[int, int, int | bytes]] = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for options, as_they_are in ((keep_alive, (1, 0)), (None, (0, 1))):
        sdk.set_socket_options(options)
        try:
            fetched(fetcher(standin.url).fetch(""))
        finally:
            sdk.set_socket_options(None)
        assert {(bool(alive), bool(at_once)) for alive, at_once in seen} == {as_they_are}
        seen.clear()


def test_an_etag_makes_it_conditional(standin: PostHogStandIn) -> None:
    """The ETag of one answer, sent with the next request, brings "unchanged" until the definitions change."""
    asked = fetcher(standin.url)
    first = fetched(asked.fetch(""))
    assert asked.fetch(first.etag) == Unchanged()
    standin.set_flag("flag-0", active=False)
    second = fetched(asked.fetch(first.etag))
    assert second.etag != first.etag
    assert [served.status for served in standin.served()] == [200, 304, 200]
    assert standin.counts().conditional == 2


@pytest.mark.parametrize("host", ["{}", "{}/", "{}//", "  {}/ "])
def test_the_host_is_taken_as_the_sdk_takes_it(host: str) -> None:
    """Slashes at the end and blanks around a host do no harm."""
    with RawServer(whole(json.dumps(DEFINITIONS).encode())) as server:
        fetched(fetcher(host.format(server.url)).fetch(""))
    assert server.heads[0].startswith("GET /flags/definitions?token=phc_public%2F%26%3F&send_cohorts HTTP/1.1\r\n")


@pytest.mark.parametrize("host", ["127.0.0.1:1", "", "ftp://127.0.0.1", "http://[::1", "http://127.0.0.1:99999"])
def test_a_host_that_cannot_be_asked_is_refused(host: str) -> None:
    """A host without a scheme, or an invalid one, is this worker's own failure and raises nothing."""
    result = refused(fetcher(host).fetch(""))
    assert (result.scope, result.status) == (Scope.MINE, 0)


@pytest.mark.parametrize("etag", ['W/"abc-def"', '"x"', "bare", '"' + "x" * 250 + '"'])
def test_an_etag_stays_as_it_was_sent(etag: str) -> None:
    """Weak, strong and unquoted ETags are returned, and sent back, character for character."""
    with RawServer(whole(json.dumps(DEFINITIONS).encode(), ETag=etag)) as server:
        assert fetched(fetcher(server.url).fetch("")).etag == etag
        fetcher(server.url).fetch(etag)
    assert f"\r\nIf-None-Match: {etag}\r\n" in server.heads[1]


@pytest.mark.parametrize("etag", ['"ä"', '"' + "x" * 300 + '"', '"a\tb"'])
def test_an_etag_that_cannot_be_kept_is_none(etag: str) -> None:
    """An ETag that is too long or no plain text is not taken, as it could not be sent back."""
    with RawServer(
        sends(head(ETag=etag, Content_Length=2000).encode("latin-1"), json.dumps(DEFINITIONS).ljust(2000))
    ) as server:
        assert fetched(fetcher(server.url).fetch("")).etag == ""


@pytest.mark.parametrize("etag", ['"a\r\nX-Evil: 1"', ' "a"', '"→"', '"' + "x" * 9000 + '"'])
def test_an_etag_that_cannot_be_sent_is_left_out(etag: str, standin: PostHogStandIn) -> None:
    """A broken ETag out of a store costs a full answer and never the fetch."""
    fetched(fetcher(standin.url).fetch(etag))
    assert standin.served()[0].if_none_match is None


# --- definitions ----------------------------------------------------------------------------------------------------


class Recorder:
    """A provider that notes what the SDK hands it."""

    def __init__(self) -> None:
        self.handed: list[FlagDefinitionCacheData] = []

    def should_fetch_flag_definitions(self) -> bool:
        """Always fetch."""
        return True

    def get_flag_definitions(self) -> FlagDefinitionCacheData | None:
        """Nothing."""
        return None

    def on_flag_definitions_received(self, data: FlagDefinitionCacheData) -> None:
        """Note them."""
        self.handed.append(cast("FlagDefinitionCacheData", dict(data)))

    def shutdown(self) -> None:
        """Nothing to do."""


def handed_by_the_sdk(host: str) -> dict[str, object]:
    """Return what a real client passes to its provider after one fetch."""
    recorder = Recorder()
    client = Posthog("phc_test", secret_key=SECRET, host=host, flag_definition_cache_provider=recorder, sync_mode=True)
    try:
        client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    finally:
        client.shutdown()
    return cast("dict[str, object]", recorder.handed[0])


BODIES: dict[str, Mapping[str, object]] = {
    "as made": cast("Mapping[str, object]", make_definitions(5)),
    "without what is optional": DEFINITIONS,
    "of the newest kind": {**DEFINITIONS, "minimal_flag_called_events": True, "property_matching_version": 2},
    "with an odd gate": {**DEFINITIONS, "minimal_flag_called_events": 1},
    "with nulls": {**DEFINITIONS, "group_type_mapping": None, "cohorts": None},
    "with another quota used up": {**DEFINITIONS, "quotaLimited": ["recordings"]},
    "without flags": {**DEFINITIONS, "flags": []},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_definitions_are_what_the_sdk_would_hand_over(body: Mapping[str, object]) -> None:
    """For one answer the own fetch brings what the SDK gives to a provider, so that both have one version."""
    with PostHogStandIn(body) as standin:
        own, sdks = fetched(fetcher(standin.url).fetch("")).definitions, handed_by_the_sdk(standin.url)
    known = {key: value for key, value in own.items() if key in FlagDefinitionCacheData.__annotations__}
    assert known == sdks
    assert set(own) - set(known) <= {"property_matching_version"}  # which older SDKs do not know
    assert digest(known) == digest(sdks)


def test_keys_that_no_sdk_knows_stay() -> None:
    """A key of the body that the installed SDK would drop is kept for workers with a newer one."""
    with PostHogStandIn({**DEFINITIONS, "from_the_future": [1]}) as standin:
        assert fetched(fetcher(standin.url).fetch("")).definitions["from_the_future"] == [1]


def test_numbers_and_letters_of_any_size() -> None:
    """Integers beyond 64 bits and characters of all planes come through as they are."""
    flag = {"key": "größe 🚩", "big": 2**200, "small": -(2**70), "half": 0.5}
    with PostHogStandIn({**DEFINITIONS, "flags": [flag]}) as standin:
        assert fetched(fetcher(standin.url).fetch("")).definitions["flags"] == [flag]


def test_of_response_leaves_the_body_alone() -> None:
    """The body that was parsed is not changed."""
    body = {**DEFINITIONS, "cohorts": None, "quotaLimited": []}
    before = json.dumps(body)
    assert "quotaLimited" not in VENDOR.of_response(body)
    assert json.dumps(body) == before
    with pytest.raises(EnvelopeError):
        VENDOR.of_response([body])


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [402, 429, 500, 502, 503, 599])
def test_what_concerns_everybody(standin: PostHogStandIn, status: int) -> None:
    """Used-up quota, throttling and server errors concern all workers; one request, without waiting for Retry-After."""
    standin.fail(Refuse(status, retry_after=60))
    result, seconds = elapsed(lambda: fetcher(standin.url).fetch('"x"'))
    assert (refused(result).scope, refused(result).status) == (Scope.EVERYBODY, status)
    assert refused(result).retry_after == 60
    assert (standin.requests, seconds < SOON) == (1, True)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 451])
def test_what_concerns_this_worker_alone(standin: PostHogStandIn, status: int) -> None:
    """A revoked or wrong key, and any other refusal of this request, concerns only the worker that made it."""
    standin.fail(status)
    result = refused(fetcher(standin.url).fetch(""))
    assert (result.scope, result.status, result.retry_after) == (Scope.MINE, status, None)
    assert str(status) in result.reason
    assert standin.requests == 1


@pytest.mark.parametrize(
    "status", ["204 No Content", "206 Partial Content", "300 Multiple Choices", "304 Not Modified"]
)
def test_answers_to_another_question(status: str) -> None:
    """A success without definitions, and a 304 to a request without an ETag, concern this worker."""
    with RawServer(sends(head(status))) as server:
        result = refused(fetcher(server.url).fetch(""))
    assert (result.scope, result.status) == (Scope.MINE, int(status[:3]))


def test_a_304_without_a_word_more_is_enough() -> None:
    """A bare 304 means "unchanged" to a request that sent an ETag."""
    with RawServer(sends(head("304 Not Modified"))) as server:
        assert fetcher(server.url).fetch('"x"') == Unchanged()


def _in(seconds: float) -> str:
    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)


def _in_without_zone(seconds: float) -> str:
    return _in(seconds).replace("GMT", "-0000")


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("0", 0, 0),
        ("7.5", 7.5, 7.5),
        (" 30 ", 30, 30),
        (_in, 3000, 3600),
        (_in_without_zone, 3000, 3600),
    ],
    ids=["none", "a fraction", "spaces", "a date", "a date of no zone"],
)
def test_retry_after_in_seconds_or_as_a_date(
    standin: PostHogStandIn, header: str | Callable[[float], str], low: float, high: float
) -> None:
    """Both forms of Retry-After are returned in seconds. A date is made here, because tests are listed early."""
    standin.fail(Refuse(429, retry_after=header if isinstance(header, str) else header(high)))
    seconds = refused(fetcher(standin.url).fetch("")).retry_after
    assert seconds is not None
    assert low <= seconds <= high


@pytest.mark.parametrize(
    "header",
    ["-1", "nan", "inf", "soon", "", _in(-3600), "Wed, 99 Foo 2020", "9" * 5000],
    ids=["negative", "nan", "endless", "a word", "empty", "past", "no date", "long"],
)
def test_a_retry_after_that_makes_no_sense_is_left_out(standin: PostHogStandIn, header: str) -> None:
    """Negative, endless and garbled waits, and times past, are as none."""
    standin.fail(Refuse(503, retry_after=header))
    result = refused(fetcher(standin.url).fetch(""))
    assert (result.status, result.retry_after) == (503, None)


def test_a_used_up_quota_in_a_200_counts_as_402(standin: PostHogStandIn) -> None:
    """PostHog's 200 that says "quota limited" is returned as the 402 that it means."""
    standin.fail(QUOTA_LIMITED)
    result = refused(fetcher(standin.url).fetch(""))
    assert (result.scope, result.status) == (Scope.EVERYBODY, 402)


UNFIT = {
    "broken off": MALFORMED,
    "empty": Garble(""),
    "a web page": Garble("<html>log in to the airport's network</html>"),
    "a list": Garble("[]"),
    "null": Garble("null"),
    "another object": Garble('{"detail": "hello"}'),
    "null flags": Garble(json.dumps({**DEFINITIONS, "flags": None})),
    "flags that are none": Garble(json.dumps({**DEFINITIONS, "flags": ["x"]})),
    "without cohorts": Garble('{"flags": [], "group_type_mapping": {}}'),
    "bottomless": Garble("[" * 200_000),
    "an endless number": Garble("9" * 100_000),
}


@pytest.mark.parametrize("fault", UNFIT.values(), ids=UNFIT)
def test_a_200_that_is_no_definitions(standin: PostHogStandIn, fault: Fault) -> None:
    """A body that isn't JSON, or has no definitions, is refused for all workers, with a reason."""
    standin.fail(fault)
    result = refused(fetcher(standin.url).fetch(""))
    assert (result.scope, result.status) == (Scope.MINE, 200)
    assert result.reason.startswith("PostHog answered 200, but ")
    assert len(result.reason) < 200


def test_no_answer_concerns_this_worker(standin: PostHogStandIn) -> None:
    """A dropped connection and a closed port concern this worker."""
    standin.fail(Drop())
    result = refused(fetcher(standin.url).fetch('"x"'))
    assert (result.scope, result.status, standin.requests, result.requests) == (Scope.MINE, 0, 1, 1)
    standin.stop()
    result = refused(fetcher(standin.url).fetch(""))
    assert (result.scope, result.status) == (Scope.MINE, 0)
    assert result.reason.startswith("ConnectionRefusedError: ")


def test_a_dropped_connection_is_tried_again_once(standin: PostHogStandIn) -> None:
    """A process without definitions asks again at once if a connection was dropped before an answer, and counts it."""
    standin.fail(Drop(), times=1)
    assert fetched(fetcher(standin.url).fetch("")).requests == standin.requests == 2
    standin.fail(Drop())
    result, seconds = elapsed(lambda: fetcher(standin.url).fetch(""))
    assert (refused(result).scope, refused(result).status, refused(result).requests) == (Scope.MINE, 0, 2)
    assert (standin.requests, seconds < SOON) == (4, True)


def reset(connection: socket.socket, *parts: str) -> None:
    """Send this and reset the connection."""
    for part in parts:
        connection.sendall(part.encode())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


DROPS: dict[str, tuple[Answering, str, int]] = {
    "reset before an answer": (reset, "http", 2),
    "ended in a TLS handshake": (lambda connection: connection.close(), "https", 2),
    "reset in a TLS handshake": (reset, "https", 2),
    "reset in a body": (lambda connection: reset(connection, head(Content_Length=1000), "{"), "http", 1),
    "ended in its first line": (sends("HTTP/1.1 20"), "http", 1),
}


@pytest.mark.filterwarnings("ignore:.*unclosed <ssl:ResourceWarning")  # CPython 3.11's `wrap_socket`, see below
@pytest.mark.parametrize(("answer", "scheme", "requests"), DROPS.values(), ids=DROPS)
def test_what_counts_as_dropped(answer: Answering, scheme: str, requests: int) -> None:
    """A connection that ends before an answer begins is worth a second try; one that ends in an answer is not."""
    with RawServer(answer, read_head=scheme == "http") as server:
        result = refused(fetcher(f"{scheme}://{server.address}").fetch(""))
    assert (result.scope, result.requests, len(server.heads)) == (Scope.MINE, requests, requests), result.reason
    gc.collect()


def test_a_second_try_stays_within_the_time() -> None:
    """What is left of the time after a dropped connection is all that the second try has."""
    connections: list[float] = []

    def answer(connection: socket.socket) -> None:
        connections.append(time.monotonic())
        if len(connections) == 1:
            threading.Event().wait(SHORT / 2)
            connection.close()
        else:
            drip("x", after=head(Content_Length=1_000_000))(connection)

    with RawServer(answer) as server:
        result, seconds = elapsed(lambda: fetcher(server.url, timeout=SHORT, total=SHORT).fetch(""))
    assert refused(result) == Refused(
        f"no complete answer within fetch_total_timeout = {SHORT:g} s", Scope.MINE, requests=2, kind="timeout"
    )
    assert SHORT <= seconds < SOON


def test_a_certificate_that_is_not_trusted(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown authority concerns this worker, and nothing is asked."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with PostHogStandIn(certificate=certificate) as standin:
        result = refused(fetcher(standin.url).fetch(""))
        assert (result.scope, result.status, standin.requests) == (Scope.MINE, 0, 0)
    assert "certificate verify failed" in result.reason


# --- time -----------------------------------------------------------------------------------------------------------


def silence(connection: socket.socket) -> None:
    """Send nothing."""


def endless(connection: socket.socket) -> None:
    """Send everything except the end."""
    connection.sendall((head() + json.dumps(DEFINITIONS)).encode())


def stops(text: str) -> Answering:
    """Send this, and no byte more."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(text.encode())

    return answer


SILENT = {
    "says nothing": silence,
    "stops in its first line": stops("HTTP/1.1 20"),
    "stops in its headers": stops("HTTP/1.1 200 OK\r\nX-Header: "),
    "stops in its body": stops(head(Content_Length=1000) + "{"),
    "stops in a chunk": stops(head(Transfer_Encoding="chunked") + "ff\r\nx"),
    "stops in a gzip": stops(head(Content_Encoding="gzip", Content_Length=1000) + "\x1f"),
    "does not end": endless,
}


@pytest.mark.parametrize("answer", SILENT.values(), ids=SILENT)
def test_a_silence_ends_a_fetch(answer: Answering) -> None:
    """Wherever a server falls silent, the fetch is over after `fetch_timeout`, and says so; so is the connection."""
    with RawServer(answer) as server:
        result, seconds = elapsed(lambda: fetcher(server.url, timeout=SHORT).fetch(""))
        assert server.ended.wait(PATIENCE)
    assert refused(result) == Refused(f"no byte for fetch_timeout = {SHORT:g} s", Scope.MINE, kind="timeout")
    assert SHORT <= seconds < SOON
    assert len(server.heads) == 1


ENDLESS = {
    "drips its first line": drip("HTTP/1.1 200 OK" * 1000),
    "drips headers": drip("X-Header: x\r\n", after="HTTP/1.1 200 OK\r\n"),
    "drips a refusal": drip("0" * 1000, after="HTTP/1.1 429 Too Many\r\nRetry-After: 1"),
    "drips a body": drip("x", after=head(Content_Length=1_000_000)),
    "drips a body without a length": drip(" ", after=head() + json.dumps(DEFINITIONS)),
    "drips chunks": drip("1\r\nx\r\n", after=head(Transfer_Encoding="chunked")),
    "drips a redirect": drip("x", after="HTTP/1.1 302 Found\r\nLocation: "),
}


@pytest.mark.parametrize("answer", ENDLESS.values(), ids=ENDLESS)
def test_a_server_cannot_stretch_the_time(answer: Answering) -> None:
    """Whatever a server says slowly, the fetch is over at `fetch_total_timeout` and so is the connection."""
    with RawServer(answer) as server:
        result, seconds = elapsed(lambda: fetcher(server.url, timeout=SHORT / 2, total=SHORT).fetch(""))
        assert server.ended.wait(PATIENCE)
    assert refused(result) == Refused(
        f"no complete answer within fetch_total_timeout = {SHORT:g} s", Scope.MINE, kind="timeout"
    )
    assert SHORT <= seconds < SOON
    assert len(server.heads) == 1


def test_a_tls_handshake_cannot_stretch_the_time() -> None:
    """A server that takes the connection and never shakes hands is left after `fetch_timeout`."""
    with RawServer(silence, read_head=False) as server:
        result, seconds = elapsed(lambda: fetcher(f"https://{server.address}", timeout=SHORT).fetch(""))
        assert server.ended.wait(PATIENCE)
    assert (refused(result).scope, refused(result).status) == (Scope.MINE, 0)
    assert seconds < SOON


@pytest.mark.filterwarnings("ignore:.*unclosed <ssl:ResourceWarning")  # CPython 3.11's `wrap_socket`, see below
def test_a_proxy_cannot_stretch_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that drips its answer to CONNECT is left at `fetch_total_timeout`."""
    with RawServer(drip("X-Header: x\r\n", after="HTTP/1.1 200 OK\r\n")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        result, seconds = elapsed(lambda: fetcher("https://posthog.invalid", timeout=SHORT, total=SHORT).fetch(""))
        assert proxy.ended.wait(PATIENCE)
    assert (refused(result).scope, refused(result).status) == (Scope.MINE, 0)
    assert seconds < SOON
    assert proxy.heads[0].startswith("CONNECT posthog.invalid:443 ")
    assert SECRET not in proxy.heads[0]
    gc.collect()  # given a connection that was reset, it leaves its socket to the collector


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Hang(), f"no byte for fetch_timeout = {SHORT:g} s"),
        (Drip(6), f"no complete answer within fetch_total_timeout = {2 * SHORT:g} s"),
    ],
    ids=["hangs", "drips"],
)
def test_posthog_cannot_stretch_the_time(standin: PostHogStandIn, fault: Fault, reason: str) -> None:
    """A slow answer ends at its time limit, over TLS as without."""
    standin.fail(fault)
    result, seconds = elapsed(lambda: fetcher(standin.url, timeout=SHORT, total=2 * SHORT).fetch(""))
    assert refused(result) == Refused(reason, Scope.MINE, kind="timeout")
    assert SHORT <= seconds < SOON
    assert standin.requests == 1


def test_many_addresses_that_swallow_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with twenty addresses of which none answers takes no longer than the deadline."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        address = deaf.getsockname()
        waiting = [socket.socket() for _ in range(8)]  # they fill the queue; the system drops later ones
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(address)
        found = (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)

        def twenty(*_: object, **__: object) -> list[object]:
            return [found] * 20

        monkeypatch.setattr(socket, "getaddrinfo", twenty)
        result, seconds = elapsed(lambda: fetcher("http://posthog.invalid", timeout=SHORT).fetch(""))
        for connection in waiting:
            connection.close()
    assert refused(result) == Refused(
        f"no connection within fetch_timeout = {SHORT:g} s (a third of it for each address)", Scope.MINE, kind="timeout"
    )
    assert SHORT / 3 <= seconds < SOON


def test_a_slow_answer_within_the_time_is_taken(standin: PostHogStandIn) -> None:
    """A body that takes longer than `fetch_timeout`, but is never silent that long, is complete, as for the SDK."""
    standin.fail(Drip(3 * SHORT))
    result, seconds = elapsed(lambda: fetcher(standin.url, timeout=SHORT).fetch(""))
    assert fetched(result).etag
    assert seconds > 2 * SHORT
    assert fetched(result).definitions == handed_by_the_sdk(standin.url)


def test_cancel_ends_a_fetch(standin: PostHogStandIn) -> None:
    """A fetch that another thread cancels returns soon; the next one is not concerned."""
    standin.fail(Hang())
    made = fetcher(standin.url, timeout=60)
    results: list[FetchResult] = []
    thread = threading.Thread(target=lambda: results.append(made.fetch("")), daemon=True)
    thread.start()
    standin.wait_for_held(1, timeout=PATIENCE)
    assert "in_flight=1" in repr(made)
    made.cancel()
    thread.join(PATIENCE)
    assert results == [Refused("cancelled", Scope.MINE)]
    assert standin.requests == 1  # although its connection was dropped before an answer
    standin.recover()
    made.cancel()
    fetched(made.fetch(""))
    assert "in_flight=0" in repr(made)


def test_a_forked_child_does_not_end_its_parents_fetch(standin: PostHogStandIn) -> None:
    """A child that is forked during a fetch shares the connection; it can cancel and fetch without touching that."""
    standin.hold(times=1)
    made = fetcher(standin.url, timeout=60)
    results: list[FetchResult] = []
    thread = threading.Thread(target=lambda: results.append(made.fetch("")), daemon=True)
    thread.start()
    standin.wait_for_held(1, timeout=PATIENCE)
    child = os.fork()
    if child == 0:
        made.cancel()
        os._exit(0 if isinstance(made.fetch(""), Fetched) else 1)
    assert os.waitpid(child, 0)[1] == 0
    standin.release()
    thread.join(PATIENCE)
    fetched(results[0])


def test_the_connection_ends_although_a_child_has_it_too() -> None:
    """A child forked during a fetch inherits the connection; it is over for the server when the fetch is."""
    asked, forked = threading.Event(), threading.Event()
    body = json.dumps(DEFINITIONS).encode()

    def answer(connection: socket.socket) -> None:
        asked.set()
        forked.wait(PATIENCE)
        connection.sendall(head(Content_Length=len(body)).encode() + body)

    with RawServer(answer) as server:
        made = fetcher(server.url)
        thread = threading.Thread(target=made.fetch, args=("",), daemon=True)
        thread.start()
        assert asked.wait(PATIENCE)
        until_read, until_written = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(until_written)
            os.read(until_read, 1)  # until the parent is done, or gone
            os._exit(0)
        os.close(until_read)
        forked.set()
        assert server.ended.wait(PATIENCE)
        os.close(until_written)
        os.waitpid(child, 0)
        thread.join(PATIENCE)


def test_nothing_is_left_of_a_fetch(standin: PostHogStandIn) -> None:
    """No thread and no descriptor outlives a fetch, whatever came of it."""
    others = set(threading.enumerate())  # of tests that ran before in this process
    made = fetcher(standin.url, timeout=SHORT)
    made.fetch("")  # what is loaded once is loaded now
    until(lambda: _connections(others) == 0, PATIENCE, what="the first connection to end")
    before, descriptors = threading.active_count(), _descriptors()
    for fault in (None, Drop(), Refuse(500), Hang()):
        standin.recover()
        if fault:
            standin.fail(fault)
        made.fetch("")
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("flagcache")]
    standin.recover()
    until(lambda: threading.active_count() <= before, PATIENCE, what="the stand-in's threads to end")
    until(lambda: _descriptors() <= descriptors, PATIENCE, what="descriptors to be closed")


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _connections(others: set[threading.Thread]) -> int:
    return sum(thread.name.startswith("Thread-") and thread not in others for thread in threading.enumerate())


# --- size -----------------------------------------------------------------------------------------------------------

LIMIT = 100_000  # bytes


def _padded(size: int) -> bytes:
    return json.dumps(DEFINITIONS).encode().ljust(size)


SIZES: dict[str, Callable[[bytes], Answering]] = {
    "plain": whole,
    "gzip": lambda body: whole(gzip.compress(body), Content_Encoding="gzip"),
    "two gzips": lambda body: whole(gzip.compress(body[:99]) + gzip.compress(body[99:]), Content_Encoding="gzip"),
    "until it ends": lambda body: sends(head(), body),
    "in chunks": lambda body: sends(head(Transfer_Encoding="chunked"), f"{len(body):x}\r\n", body, "\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("form", SIZES.values(), ids=SIZES)
def test_a_body_may_be_as_large_as_the_limit_and_no_larger(
    form: Callable[[bytes], Answering],
) -> None:
    """The limit holds for the decoded body, in whatever form it comes."""
    with RawServer(form(_padded(LIMIT))) as server:
        fetched(fetcher(server.url, max_bytes=LIMIT).fetch(""))
    with RawServer(form(_padded(LIMIT + 1))) as server:
        result = refused(fetcher(server.url, max_bytes=LIMIT).fetch(""))
    assert (result.scope, result.status) == (Scope.MINE, 200)
    assert f"larger than the limit of {LIMIT} bytes" in result.reason


def test_a_gzip_bomb_is_left_after_its_first_bytes() -> None:
    """A body that unpacks to a gigabyte is refused while it comes: the server is not even asked for the rest."""
    bomb = gzip.compress(bytes(1 << 24))  # 16 MiB in 16 kB, over and over
    sent = 0

    def answer(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(head(Content_Encoding="gzip").encode())
        while True:
            connection.sendall(bomb)
            sent += len(bomb)

    with RawServer(answer) as server:
        result = refused(fetcher(server.url, max_bytes=LIMIT).fetch(""))
        assert server.ended.wait(PATIENCE)
    assert "larger than the limit" in result.reason
    assert sent < 64 << 20  # what fits into the system's buffers; the fetch read a few kB


CUT_OFF = {
    "less than its length": sends(head(Content_Length=5000), _padded(4000)),
    "a chunk without an end": sends(head(Transfer_Encoding="chunked"), b"ffff\r\n", _padded(4000)),
    "half a gzip": whole(gzip.compress(_padded(4000))[:60], Content_Encoding="gzip"),
    "a gzip that is none": whole(_padded(4000), Content_Encoding="gzip"),
    "a gzip with a fault": whole(gzip.compress(_padded(4000))[:-8] + b"12345678", Content_Encoding="gzip"),
    "more than its length": sends(head(Content_Length=20), _padded(4000)),
    "an encoding not asked for": whole(b"\x0b\x02\x80", Content_Encoding="br"),
}


@pytest.mark.parametrize("answer", CUT_OFF.values(), ids=CUT_OFF)
def test_a_body_that_is_not_whole(answer: Answering) -> None:
    """A body that is cut off or not encoded as it says is no definitions."""
    with RawServer(answer) as server:
        result = refused(fetcher(server.url).fetch(""))
    assert (result.scope, result.status) == (Scope.MINE, 200), result.reason


# --- redirects, proxies, keys ---------------------------------------------------------------------------------------


def redirect(target: Callable[[], str], status: str = "302 Found") -> Answering:
    """Send the client elsewhere."""

    def answer(connection: socket.socket) -> None:
        sends(head(status, Location=target(), Content_Length=0))(connection)

    return answer


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.netrc` with a password for this machine, which requests would send."""
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login user password from-netrc\nmachine 127.1 login user password from-netrc\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))


@pytest.mark.usefixtures("netrc")
def test_netrc_does_not_replace_the_key(standin: PostHogStandIn) -> None:
    """The key is sent although `.netrc` has a password for the host."""
    fetched(fetcher(standin.url).fetch(""))
    assert standin.served()[0].key_digest == key_digest(SECRET)


@pytest.mark.usefixtures("netrc")
@pytest.mark.parametrize("other", ["127.1", "127.0.0.1"], ids=["another name", "another port"])
def test_the_key_goes_to_no_other_host(other: str) -> None:
    """A redirect to another host or port is followed, without the key and without a password from `.netrc`."""
    with RawServer(whole(json.dumps(DEFINITIONS).encode())) as stranger:
        port = stranger.address.partition(":")[2]
        with RawServer(redirect(lambda: f"http://{other}:{port}/elsewhere")) as server:
            fetched(fetcher(server.url).fetch('"x"'))
    assert f"Authorization: Bearer {SECRET}\r\n" in server.heads[0]
    assert stranger.heads[0].startswith("GET /elsewhere HTTP/1.1\r\n")
    assert "authorization" not in stranger.heads[0].lower()


@pytest.mark.usefixtures("netrc")
def test_the_key_stays_with_its_host() -> None:
    """A redirect within the host is followed with the key and the ETag."""
    moved, there = redirect(lambda: "/moved?x=1", "308 Permanent Redirect"), whole(json.dumps(DEFINITIONS).encode())

    def answer(connection: socket.socket) -> None:
        (there if server.heads[-1].startswith("GET /moved") else moved)(connection)

    with RawServer(answer) as server:
        fetched(fetcher(server.url).fetch('"x"'))
    assert server.heads[1].startswith("GET /moved?x=1 HTTP/1.1\r\n")
    for line in (f"Authorization: Bearer {SECRET}\r\n", 'If-None-Match: "x"\r\n'):
        assert line in server.heads[1]


class TlsRedirect(ThreadingHTTPServer):
    """An https server that sends everyone to `target`."""

    def __init__(self, certificate: Certificate, target: str) -> None:
        self.target = target
        super().__init__(("127.0.0.1", 0), _SendElsewhere)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certfile, certificate.keyfile)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        self.server_close()


class _SendElsewhere(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", cast("TlsRedirect", self.server).target)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        """Keep the terminal quiet."""


def test_an_https_answer_is_never_followed_to_http(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect out of TLS is not asked, even without the key: another host could answer in PostHog's place."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate.ca_file)
    with (
        RawServer(whole(json.dumps(DEFINITIONS).encode())) as plain,
        TlsRedirect(certificate, f"http://{plain.address}/elsewhere") as secure,
    ):
        result = refused(fetcher(secure.url).fetch(""))
    assert "redirects from https to http" in result.reason
    assert result.scope is Scope.MINE
    assert not plain.heads


def test_an_https_answer_is_followed_to_https(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect to another port that stays within TLS is followed, without the key."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate.ca_file)
    with PostHogStandIn(make_definitions(3), certificate=certificate) as there:
        with TlsRedirect(certificate, f"{there.url}/flags/definitions") as secure:
            result = refused(fetcher(secure.url).fetch(""))
        assert (there.requests, result.status) == (1, 401)


def test_redirects_come_to_an_end() -> None:
    """A server that redirects without end gets four requests, and its big bodies are not read."""
    bomb = gzip.compress(bytes(1 << 24))
    answer = sends(head("302 Found", Location="/again", Content_Encoding="gzip", Content_Length=len(bomb)), bomb)
    with RawServer(answer) as server:
        result = refused(fetcher(server.url).fetch(""))
    assert (result.scope, result.status, len(server.heads)) == (Scope.MINE, 302, 4)


def test_the_body_of_a_redirect_is_not_read() -> None:
    """A redirect whose body never ends is followed at once."""
    moved, there = drip("x", after=head("302 Found", Location="/b", Content_Length=10**6)), json.dumps(DEFINITIONS)

    def answer(connection: socket.socket) -> None:
        (whole(there.encode()) if server.heads[-1].startswith("GET /b ") else moved)(connection)

    with RawServer(answer) as server:
        result, seconds = elapsed(lambda: fetcher(server.url).fetch(""))
    assert fetched(result).requests == 1
    assert seconds < SOON


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/", "http://[", "file:///etc/passwd", "http://"])
def test_a_redirect_to_nowhere(target: str) -> None:
    """A redirect to what cannot be asked over HTTP concerns this worker."""
    with RawServer(redirect(lambda: target)) as server:
        assert refused(fetcher(server.url).fetch("")).scope is Scope.MINE


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY holds for the fetch as for the SDK, and its password is shown nowhere."""
    with RawServer(whole(json.dumps(DEFINITIONS).encode())) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:from-proxy@{proxy.address}")
        fetched(fetcher("http://posthog.invalid").fetch(""))
    assert proxy.heads[0].startswith("GET http://posthog.invalid/flags/definitions?")
    assert "Proxy-Authorization: Basic " in proxy.heads[0]
    assert "from-proxy" not in refused(fetcher("http://posthog.invalid").fetch("")).reason


def test_keys_are_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a reason, nor our log, nor the repr has a key, even if the keys themselves are wrong."""
    caplog.set_level(logging.DEBUG, logger="flagcache")
    broken = PostHogFetcher(
        api_key="phc_public",
        secret_key="phs_bad\r\nkey",
        host="http://127.0.0.1:9",
        vendor=VENDOR,
        settings=Settings(),
        namespace="team",
    )
    shown = [refused(broken.fetch("")).reason, repr(broken), caplog.text]
    assert not [text for text in shown if "phs_bad" in text or "phc_public" in text]


def test_a_fault_of_ours_raises_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception is a refusal of this worker, and is logged with its traceback."""

    class Broken(PostHogVendor):
        def of_response(self, body: object) -> dict[str, object]:
            raise KeyError("a bug")

    with PostHogStandIn() as standin:
        made = PostHogFetcher(
            api_key=API_KEY,
            secret_key=SECRET,
            host=standin.url,
            vendor=Broken(),
            settings=Settings(),
            namespace="team",
        )
        assert refused(made.fetch("")).scope is Scope.MINE
    assert f"flagcache[team] {process_name()}: fetching definitions failed" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("host", ["https://user:pa%40ss@127.0.0.1:1", "http://user:pa@ss@127.0.0.1:1"])
def test_a_hosts_userinfo_is_shown_nowhere(host: str, caplog: pytest.LogCaptureFixture) -> None:
    """User name and password in PostHog's address appear in no repr, reason or log line of flagcache."""
    caplog.set_level(logging.DEBUG, logger="flagcache")
    made = fetcher(host)
    texts = [repr(made), refused(made.fetch("")).reason, caplog.text]
    with pytest.raises(ConfigurationError) as wrong:
        checked_host(host.partition("://")[2])
    for text in (*texts, str(wrong.value)):
        assert "ss@" not in text
        assert "pa%40" not in text
        assert "user" not in text
