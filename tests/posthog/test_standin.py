from __future__ import annotations

import gzip
import http.client
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest
from posthog import Posthog

from flagcache.errors import ConfigurationError, FlagcacheError
from flagcache_posthog.testing import (
    MALFORMED,
    QUOTA_LIMITED,
    REVISION_FLAG,
    Certificate,
    Drip,
    Drop,
    Fault,
    Hang,
    PostHogStandIn,
    Refuse,
    StandInControl,
    key_digest,
    make_certificate,
    make_definitions,
    make_flag,
    revision_of,
)

pytest_plugins = ["flagcache_posthog.testing.pytest_plugin"]

DEADLINE = 10.0  # seconds; far more than anything here takes


@pytest.fixture(params=["in this process", "in its own"])
def standin(request: pytest.FixtureRequest) -> Iterator[StandInControl]:
    """Give each test both forms: their control methods must not differ."""
    made = PostHogStandIn() if request.param == "in this process" else PostHogStandIn.spawn()
    if isinstance(made, PostHogStandIn):
        made.start()
    yield made
    made.stop()


@contextmanager
def sdk(
    standin: StandInControl, *, secret_key: str = "phs_test", poll_interval: float = 60
) -> Generator[Posthog, None, None]:
    """Make a real client and shut it down whatever happens."""
    interval = cast("int", poll_interval)  # so the SDK declares it; fractions of a second work
    client = Posthog(
        "phc_test",
        secret_key=secret_key,
        host=standin.url,
        poll_interval=interval,
        flush_interval=0.1,  # seconds; an older SDK's `shutdown` may sit out the default of 5
    )
    try:
        yield client
    finally:
        client.shutdown()


def value(client: Posthog, key: str) -> object:
    """Evaluate a flag with what the client holds."""
    user = {"plan": "free", "email": "user@example.org"}
    return client.evaluate_flags("user", person_properties=user, only_evaluate_locally=True).get_flag(key)


def load(client: Posthog) -> None:
    """Fetch once, and start the poller if there is none."""
    client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "not within the deadline"
        time.sleep(0.01)


def ask(standin: StandInControl, etag: str | None = None, key: str = "phs_test") -> tuple[int, dict[str, str], bytes]:
    """Ask for definitions without the SDK."""
    connection = http.client.HTTPConnection(urlsplit(standin.url).netloc, timeout=DEADLINE)
    headers = {"Authorization": f"Bearer {key}"} | ({"If-None-Match": etag} if etag else {})
    try:
        connection.request("GET", "/flags/definitions?token=phc_test&send_cohorts", headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Run something on a new thread."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_the_sdk_loads_and_evaluates_every_flag_locally(standin: StandInControl) -> None:
    """The made-up definitions are ones that the real SDK accepts and evaluates without the server."""
    with sdk(standin) as client:
        load(client)
        assert len(client.feature_flags or []) == 21
        keys = [flag["key"] for flag in make_definitions()["flags"]]
        values = {key: value(client, key) for key in keys}
        assert None not in values.values()
        assert values["flag-0"] is True
        assert values["flag-3"] in ("control", "test")
        assert values["flag-10"] is False
        assert values[REVISION_FLAG] == "r1"
    counts = standin.counts()
    assert (counts.requests, counts.full_fetches, counts.flags_calls, counts.flag_requests) == (1, 1, 0, 10)


def test_an_unchanged_poll_is_a_304_and_costs_one_flag_request(standin: StandInControl) -> None:
    """The poller sends the ETag and gets "unchanged"; the first answer is billed as 10, each other one as 1."""
    with sdk(standin, poll_interval=0.05) as client:
        load(client)
        standin.wait_for_requests(4, timeout=DEADLINE)
    counts = standin.counts()
    assert dict(counts.by_status) == {200: 1, 304: counts.requests - 1}
    assert counts.conditional == counts.not_modified == counts.requests - 1
    assert counts.flag_requests == 10 + counts.not_modified
    assert standin.flag_requests == counts.flag_requests


def test_a_change_reaches_a_polling_client(standin: StandInControl) -> None:
    """`set_flag` changes what the next poll brings, and undoing it brings back the version of before."""
    (start,) = standin.truths()
    with sdk(standin, poll_interval=0.05) as client:
        load(client)
        changed = standin.set_flag("flag-0", active=False)
        wait_until(lambda: value(client, "flag-0") is False)
        assert standin.set_flag("flag-0", active=True) == start.version
        wait_until(lambda: value(client, "flag-0") is True)
        standin.set_flag("flag-0", rollout=0)
        wait_until(lambda: value(client, "flag-0") is False)
    assert [truth.version for truth in standin.truths()][:3] == [start.version, changed, start.version]
    assert standin.counts().full_fetches == 4


def test_equal_revisions_are_equal_bytes(standin: StandInControl) -> None:
    """Revision 1, 2, then 1 again ends with the first ETag, and the log has all three."""
    first = ask(standin)[1]["ETag"]
    standin.serve(make_definitions(revision=2))
    assert ask(standin, first)[0] == 200
    standin.serve(make_definitions(revision=1))
    assert ask(standin, first)[0] == 304
    assert [truth.revision for truth in standin.truths()] == [1, 2, 1]
    assert revision_of(standin.definitions()) == 1


def test_the_log_tells_each_request_and_no_secret(standin: StandInControl) -> None:
    """A `Served` record has what was sent, what was answered and when, with the secret key as a digest only."""
    etag = ask(standin)[1]["ETag"]
    ask(standin, etag, "phs_other")
    first, second = standin.served()
    assert (first.sequence, first.path, first.status, first.if_none_match) == (1, "definitions", 200, None)
    assert (second.status, second.if_none_match, second.token) == (304, etag, "phc_test")
    assert first.version == second.version == standin.truths()[0].version == etag.strip('"')
    assert first.answered_at is not None
    assert standin.truths()[0].changed_at < first.arrived_at < first.answered_at < second.arrived_at
    assert second.key_digest == key_digest("phs_other") != first.key_digest
    assert "phs_" not in repr(standin.served())
    assert standin.served(after=1) == [second]


@pytest.mark.parametrize(
    ("fault", "flags_left"),
    [(401, 0), (402, 0), (QUOTA_LIMITED, 21), (429, 21), (503, 21), (MALFORMED, 21), (Drop(), 21)],
)
def test_the_sdk_meets_a_fault_as_with_posthog(
    standin: StandInControl, caplog: pytest.LogCaptureFixture, fault: Fault | int, flags_left: int
) -> None:
    """401 and 402 clear the SDK's flags; every other failure leaves them; and all is well after `recover`."""
    with sdk(standin) as client:
        load(client)
        standin.fail(fault)
        with caplog.at_level(logging.WARNING, "posthog"):
            load(client)
        assert caplog.records
        assert len(client.feature_flags or []) == flags_left
        standin.recover()
        load(client)
        assert value(client, "flag-0") is True
    assert standin.requests == 3


def test_faults_can_be_counted_and_the_latest_wins(standin: StandInControl) -> None:
    """A fault with `times` is over after this many requests; an earlier one without holds until `recover`."""
    standin.fail(500)
    standin.fail(Refuse(429, retry_after=7), times=2)
    answers = [ask(standin) for _ in range(3)]
    assert [status for status, _, _ in answers] == [429, 429, 500]
    assert answers[0][1]["Retry-After"] == "7"
    assert json.loads(answers[0][2])["code"] == "throttled"
    standin.recover()
    assert ask(standin)[0] == 200
    assert dict(standin.counts().by_status) == {429: 2, 500: 1, 200: 1}
    assert standin.flag_requests == 10


def test_one_secret_key_can_be_revoked(standin: StandInControl) -> None:
    """A fault for one secret key doesn't concern the others; a request without a key is always a 401."""
    standin.fail(401, secret_key="phs_3")
    assert [ask(standin, key=f"phs_{n}")[0] for n in range(1, 6)] == [200, 200, 401, 200, 200]
    assert ask(standin, key="")[0] == 401


def test_a_held_answer_is_the_one_that_was_right_on_arrival(standin: StandInControl) -> None:
    """`hold` catches one asker during a fetch while others are served newer definitions, until `release`."""
    with sdk(standin) as client:
        standin.hold(times=1)
        fetch = in_thread(lambda: load(client))
        standin.wait_for_held(1, timeout=DEADLINE)
        standin.serve(make_definitions(revision=2))
        assert revision_of(json.loads(ask(standin)[2])) == 2
        assert client.feature_flags is None
        standin.release()
        fetch.join(DEADLINE)
        assert value(client, REVISION_FLAG) == "r1"
    held, other = (record for record in standin.served() if record.path == "definitions")
    assert held.version != other.version
    assert other.answered_at is not None
    assert held.answered_at is not None
    assert held.answered_at > other.answered_at


def test_a_hanging_request_is_never_answered(standin: StandInControl) -> None:
    """`Hang` keeps the asker waiting until `recover`, which drops its connection."""
    standin.fail(Hang(), times=1)
    troubles: list[Exception] = []

    def hang() -> None:
        try:
            ask(standin)
        except (OSError, http.client.HTTPException) as exc:
            troubles.append(exc)

    asker = in_thread(hang)
    standin.wait_for_held(1, timeout=DEADLINE)
    assert ask(standin)[0] == 200
    assert not troubles
    standin.recover()
    asker.join(DEADLINE)
    assert len(troubles) == 1
    hung = standin.served()[0]
    assert (hung.status, hung.answered_at) == (None, None)


def test_a_delay_and_a_drip_take_their_time(standin: StandInControl) -> None:
    """A delay comes before the answer, a drip spreads the body, and both end with the right answer."""
    standin.set_delay(0.2)
    standin.fail(Drip(0.3))
    started = time.monotonic()
    status, _, body = ask(standin)
    assert time.monotonic() - started >= 0.5
    assert (status, json.loads(body)) == (200, standin.definitions())


def test_a_stopped_standin_lets_everybody_go() -> None:
    """`stop` ends hanging requests at once and refuses new ones; the log can still be read."""
    with PostHogStandIn() as standin, sdk(standin) as client:
        standin.fail(Hang())
        fetch = in_thread(lambda: load(client))
        standin.wait_for_held(1, timeout=DEADLINE)
        standin.stop()
        fetch.join(DEADLINE)
        assert not fetch.is_alive()
        with pytest.raises(OSError, match="refused"):
            ask(standin)
        assert standin.requests == 1


def test_flags_and_events_are_answered_and_counted(standin: StandInControl) -> None:
    """`/flags` evaluates on the server for 1 flag request, and captured events are counted by name, gzipped or not."""
    for packed in (False, True):
        client = Posthog("phc_test", host=standin.url, gzip=packed, flush_interval=0.1)
        flags = client.evaluate_flags("user")
        assert (flags.get_flag("flag-0"), flags.get_flag("flag-10")) == (True, False)
        assert flags.get_flag(REVISION_FLAG) == "r1"
        client.capture("bought", distinct_id="user")
        client.shutdown()
    counts = standin.counts()
    assert (counts.flags_calls, counts.flag_requests, counts.requests) == (2, 2, 0)
    assert dict(counts.events) == {"bought": 2, "$feature_flag_called": 6}
    standin.fail(500, path="flags")
    standin.reset_counts()
    assert standin.flag_requests == 0
    assert {record.token for record in standin.served()} == {"phc_test"}


def test_waiting_has_a_deadline(standin: StandInControl) -> None:
    """If fewer requests come, waiting ends with a TimeoutError that has their number."""
    ask(standin)
    with pytest.raises(TimeoutError, match="1 of 2"):
        standin.wait_for_requests(2, timeout=0.05)
    with pytest.raises(TimeoutError):
        standin.wait_for_held(1, timeout=0.05)


def test_wrong_wishes_are_refused_at_once(standin: StandInControl) -> None:
    """Invalid arguments fail at the call, with the value."""
    wrong: list[Callable[[], object]] = [
        lambda: standin.set_flag("no-such-flag", active=True),
        lambda: standin.set_delay(-1),
        lambda: standin.set_delay(float("nan")),
        lambda: standin.fail(200),
        lambda: standin.fail(500, times=0),
        lambda: standin.hold(times=0),
        lambda: Drip(0),
    ]
    for wish in wrong:
        with pytest.raises(ConfigurationError):
            wish()


def control(standin: StandInControl, headers: dict[str, str], body: bytes = b'{"times": null}') -> int:
    """Ask the stand-in to hold all requests, with headers as a browser or anything else might send; the status."""
    connection = http.client.HTTPConnection(urlsplit(standin.url).netloc, timeout=DEADLINE)
    try:
        connection.request("POST", "/_standin/hold", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    "foreign",
    [
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:1"},
        {"Host": "attacker.example"},
        {"Host": "127.0.0.1.attacker.example:{port}"},
        {"Host": "127.0.0.1"},
    ],
    ids=str,
)
def test_a_web_page_cannot_control_it(standin: StandInControl, foreign: dict[str, str]) -> None:
    """A request to the control endpoint under a foreign origin or host is refused, and does nothing."""
    port = str(urlsplit(standin.url).port)
    assert control(standin, {name: value.replace("{port}", port) for name, value in foreign.items()}) == 403
    with sdk(standin) as client:  # nothing is held
        load(client)


@pytest.mark.parametrize("own", ["127.0.0.1", "localhost"])
def test_this_machines_programs_can_control_it(standin: StandInControl, own: str) -> None:
    """Requests to its own names are accepted, with its own origin or none."""
    own = f"{own}:{urlsplit(standin.url).port}"
    assert control(standin, {"Host": own}) == 200
    assert control(standin, {"Host": own, "Origin": f"http://{own}"}) == 200


@pytest.mark.parametrize(
    ("length", "status"), [("1000000000000", 413), ("-1", 400), ("many", 400), (str(64 * 1024 * 1024 + 1), 413)]
)
@pytest.mark.parametrize("path", ["/_standin/hold", "/flags", "/batch/"])
def test_bodies_are_bounded(standin: StandInControl, path: str, length: str, status: int) -> None:
    """A body of more than 64 MiB, or of no known length, is answered before it is read."""
    connection = http.client.HTTPConnection(urlsplit(standin.url).netloc, timeout=DEADLINE)
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", length)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


def test_a_body_that_unpacks_to_too_much_counts_as_empty(standin: StandInControl) -> None:
    """A gzip bomb is unpacked no further than a body may be; a good gzip is read."""
    bomb = gzip.compress(b'{"times": 1' + b" " * (65 * 1024 * 1024) + b"}")
    assert control(standin, {"Content-Encoding": "gzip"}, bomb) == 400  # the verb without its argument
    assert control(standin, {"Content-Encoding": "gzip"}, gzip.compress(b'{"times": 1}')) == 200


def test_a_forked_fleet_is_counted_exactly(standin: StandInControl) -> None:
    """Each of five forked children with its own client is one request, and can itself read the counts."""
    children: list[int] = []
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            try:
                with sdk(standin) as client:
                    load(client)
                    os._exit(0 if value(client, "flag-0") is True and standin.requests >= 1 else 1)
            finally:
                os._exit(2)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 5
    assert (standin.requests, standin.full_fetches, standin.flag_requests) == (5, 5, 50)


def test_a_child_cannot_stop_its_parents_standin(standin: StandInControl) -> None:
    """`stop` in a forked child does nothing."""
    pid = os.fork()
    if pid == 0:
        standin.stop()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert ask(standin)[0] == 200


def test_a_stopped_standin_is_gone_while_children_live(standin: StandInControl) -> None:
    """A forked child that inherited the listening socket does not keep the port answering, or hanging."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        standin.stop()
        with pytest.raises(OSError, match="refused"):
            ask(standin)
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(pid, 0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Make one certificate for all tests here."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.mark.parametrize("remote", [False, True])
def test_https_with_the_authority_trusted(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch, remote: bool
) -> None:
    """The SDK and the control methods reach an https stand-in whose `ca_file` they trust."""
    local = PostHogStandIn(certificate=certificate)
    standin = PostHogStandIn.spawn(certificate=certificate) if remote else local.start()
    try:
        assert standin.url.startswith("https://")
        assert standin.ca_file is not None
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", standin.ca_file)
        with sdk(standin, poll_interval=0.05) as client:
            load(client)
            assert value(client, "flag-0") is True
            standin.wait_for_requests(3, timeout=DEADLINE)
        assert standin.full_fetches == 1
    finally:
        standin.stop()


def test_https_with_the_authority_unknown(certificate: Certificate) -> None:
    """A client that does not trust the authority gets nothing, and the stand-in serves on."""
    with PostHogStandIn(certificate=certificate) as standin, sdk(standin) as client:
        load(client)
        assert client.feature_flags is None
        assert standin.requests == 0


def test_the_private_key_is_for_its_owner_alone(certificate: Certificate) -> None:
    """The key file's mode is 0600."""
    assert Path(certificate.keyfile).stat().st_mode & 0o777 == 0o600


def test_the_process_ends_with_its_standard_input() -> None:
    """`python -m flagcache_posthog.testing` prints its URL as one line of JSON and ends when its stdin closes."""
    command = [sys.executable, "-m", "flagcache_posthog.testing", "--flags", "3", "--delay", "0.01"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())
        assert address["pid"] == process.pid
        process.stdin.close()
        assert process.wait(DEADLINE) == 0


def test_a_spawned_standin_leaves_no_process() -> None:
    """After `stop` the process is gone, and asking it says so."""
    standin = PostHogStandIn.spawn(make_definitions(2), delay=0.01)
    pid = standin.pid
    assert len(json.loads(ask(standin)[2])["flags"]) == 3
    standin.stop()
    standin.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(FlagcacheError, match="does not answer"):
        standin.counts()


def test_a_spawn_that_fails_says_so() -> None:
    """A port in use is an error, not a hang."""
    with PostHogStandIn() as standin, pytest.raises(FlagcacheError, match="ended before it served"):
        PostHogStandIn.spawn(port=urlsplit(standin.url).port or 0)


def test_flags_are_of_a_real_projects_size() -> None:
    """A flag takes about 750 bytes of JSON, and other seeds make other contents."""
    definitions = make_definitions(200)
    assert len(definitions["flags"]) == 201
    assert 140_000 < len(json.dumps(definitions, separators=(",", ":"))) < 165_000
    assert definitions == make_definitions(200) != make_definitions(200, seed=1)
    assert make_definitions(0, revision=None)["flags"] == []
    assert revision_of(make_definitions(0, revision=None)) is revision_of({"flags": ["x"]}) is None
    assert make_flag("beta", team_id=7)["team_id"] == 7


def test_the_fixture_serves(posthog_standin: PostHogStandIn) -> None:
    """`posthog_standin` is a running stand-in of the test's own."""
    assert ask(posthog_standin)[0] == 200
    assert posthog_standin.requests == 1
