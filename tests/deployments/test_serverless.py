"""Readers, and functions that are frozen between two invocations."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from posthog import Posthog

from flagcache import RedisFlagDefinitionCache, from_url
from flagcache.errors import ConfigurationError
from flagcache.events import ColdStartExpired, Event
from flagcache.status import Role
from flagcache.stores.redis.store import keys_of
from flagcache_posthog import FlagDefinitionCache
from flagcache_posthog.aws_lambda import fresh
from flagcache_posthog.testing import PostHogStandIn, make_definitions, revision_of
from tests.support.own_threads import threads_of
from tests.support.servers import MakeRedis, until
from tests.support.snippets import snippet
from tests.support.user_programs import posthog_environment

PLACEHOLDER = "not used by a reader"


@pytest.fixture
def posthog() -> Iterator[PostHogStandIn]:
    """A PostHog for one test; at revision 1."""
    with PostHogStandIn(make_definitions(3)) as standin:
        yield standin


def client_of(
    cache: FlagDefinitionCache, standin: PostHogStandIn, *, key: str = PLACEHOLDER, attach: bool = True
) -> Posthog:
    """A client whose own poller never comes to it within a test."""
    client = Posthog(
        "phc_test",
        secret_key=key,
        host=standin.url,
        poll_interval=600,
        flag_definition_cache_provider=cache,
        flush_at=1,
    )
    return cache.attach(client) if attach else client


def fill(store_url: str, namespace: str, standin: PostHogStandIn) -> int:
    """Let a worker fetch and share what the stand-in serves; return the requests that the stand-in has seen."""
    worker = from_url(store_url, namespace, refresh_interval=0.01, fallback="auto")
    client = client_of(worker, standin, key="phs_test")
    load(client)
    wanted = revision_of(standin.definitions())
    until(lambda: poll(client) == wanted, every=0.05, what=f"revision {wanted} in the store")
    client.shutdown()
    return standin.requests


def load(client: Posthog) -> int | None:
    """Load; return the revision held."""
    client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    return held(client)


def held(client: Posthog) -> int | None:
    """The revision that a client holds."""
    return revision_of({"flags": client.feature_flags or []})


def poll(client: Posthog) -> int | None:
    """Poll as the client's poller does; return the revision held then."""
    poller = client.poller
    assert poller is not None
    poller.execute(*poller.args, **poller.kwargs)
    return held(client)


# --- readers ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_threads_left")
def test_a_reader_uses_what_the_store_has(store_url: str, namespace: str, posthog: PostHogStandIn) -> None:
    """A reader sends PostHog nothing, never leads, starts no thread, and gets a change with its polls."""
    requests = fill(store_url, namespace, posthog)
    reader = from_url(store_url, namespace, refresh_interval=0.01, role="reader")
    client = client_of(reader, posthog)
    assert not reader.ready()
    assert load(client) == 1
    assert reader.ready()
    until(lambda: (reader.status().age or 0) > 0.1, what="a fetch to be long due; and the lease is free")
    for _ in range(5):
        poll(client)
    assert reader.status().role is Role.READER
    assert posthog.requests == requests
    assert not threads_of()
    posthog.serve(make_definitions(3, revision=2))
    requests = fill(store_url, namespace, posthog)
    assert poll(client) == 2
    assert posthog.requests == requests
    client.shutdown()


def test_a_readers_cold_start_is_one_command(
    make_redis: MakeRedis, namespace: str, posthog: PostHogStandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A reader's cold start is one round trip and writes nothing: no lease in Redis, no file on disk."""
    server = make_redis()
    fill(server.url, namespace, posthog)
    state = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    with server.client() as admin:
        admin.config_resetstat()
        reader = RedisFlagDefinitionCache(server.url, namespace, role="reader")
        client = client_of(reader, posthog)
        assert load(client) == 1
        stats = cast("dict[str, dict[str, int]]", admin.info("commandstats"))
        own = {name.removeprefix("cmdstat_") for name in stats} & {"evalsha", "eval", "hello", "client|setinfo", "auth"}
        assert own == {"evalsha"}
        assert stats["cmdstat_evalsha"]["calls"] == 1
        assert not admin.exists(keys_of(namespace, 0).lease)
    assert not state.exists()
    client.shutdown()


def test_a_reader_of_an_empty_store_goes_on_at_once(store_url: str, namespace: str, posthog: PostHogStandIn) -> None:
    """A reader starts with no flags, reports that once, fetches nothing, and has definitions with its next poll."""
    received: list[Event] = []
    reader = from_url(store_url, namespace, role="reader", on_event=received.append)
    client = client_of(reader, posthog)
    began = time.monotonic()
    load(client)
    assert time.monotonic() - began < 2  # a worker would wait for ten seconds
    assert client.feature_flags == []
    poll(client)
    assert [type(event) for event in received] == [ColdStartExpired]
    assert not reader.ready()
    assert posthog.requests == 0
    fill(store_url, namespace, posthog)
    assert poll(client) == 1
    client.shutdown()


def test_a_reader_may_be_told_to_wait(store_url: str, namespace: str, posthog: PostHogStandIn) -> None:
    """With a wait, a reader starts with the definitions that a worker brings meanwhile, and never asks PostHog."""
    reader = from_url(store_url, namespace, role="reader", cold_start_wait=20)
    client = client_of(reader, posthog)
    loading = threading.Thread(target=load, args=(client,))
    loading.start()
    requests = fill(store_url, namespace, posthog)
    loading.join(20)
    assert held(client) == 1
    assert posthog.requests == requests
    client.shutdown()


def test_a_reader_without_a_store_is_not_held_up(
    make_redis: MakeRedis, namespace: str, posthog: PostHogStandIn
) -> None:
    """A frozen Redis costs one timeout, and the next poll none; the reader keeps what it holds, and fetches nothing."""
    server = make_redis(tcp=True)
    requests = fill(server.tcp_url, namespace, posthog)
    warm, cold = (
        client_of(RedisFlagDefinitionCache(server.tcp_url, namespace, role="reader", store_timeout=0.3), posthog)
        for _ in range(2)
    )
    load(warm)
    server.freeze()
    began = time.monotonic()
    load(cold)
    assert poll(warm) == 1
    assert time.monotonic() - began < 2
    assert cold.feature_flags == []
    assert posthog.requests == requests
    server.thaw()
    until(lambda: poll(cold) == 1, every=0.05, what="the definitions")
    for client in (warm, cold):
        client.shutdown()


def test_a_reader_of_protocol_mode_is_one_too(store_url: str, namespace: str, posthog: PostHogStandIn) -> None:
    """A reader that is not attached fetches and publishes nothing either, also if it is handed definitions."""
    reader = from_url(store_url, namespace, role="reader")
    assert reader.should_fetch_flag_definitions() is False
    nothing = reader.get_flag_definitions()
    assert nothing is not None
    assert nothing["flags"] == []
    reader.on_flag_definitions_received({"flags": [{"key": "mine"}], "group_type_mapping": {}, "cohorts": {}})
    other = from_url(store_url, namespace, role="reader")
    other.should_fetch_flag_definitions()
    assert not other.ready()
    assert posthog.requests == 0


def test_a_fault_of_ours_does_not_send_a_reader_to_posthog(
    namespace: str, posthog: PostHogStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a worker would be sent to fetch, a reader continues with what it has."""

    def fails(_self: object) -> None:
        raise RuntimeError("broken")

    reader = from_url("memory://", namespace, role="reader")
    client = client_of(reader, posthog)
    monkeypatch.setattr("flagcache.worker.worker.Worker.should_fetch", fails)
    monkeypatch.setattr("flagcache.worker.worker.Worker.definitions", fails)
    load(client)
    assert client.feature_flags == []
    assert posthog.requests == 0
    client.shutdown()


# --- a function that thaws --------------------------------------------------------------------------------------------


class Clock:
    """A test's wall clock."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """As `time.time`."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The wall clock that the decorator uses."""
    made = Clock()
    monkeypatch.setattr("flagcache_posthog.aws_lambda.time.time", made)
    return made


class CountedPolls:
    """A client whose polls are counted instead of made; `fails` makes them fail."""

    def __init__(self, standin: PostHogStandIn, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client = client_of(from_url("memory://", namespace), standin, key="phs_test")
        load(self.client)
        self.polls = 0
        self.fails = False
        self.during: Callable[[], object] = lambda: None
        monkeypatch.setattr(self.client.poller, "execute", self._poll)

    def _poll(self) -> None:
        self.polls += 1
        self.during()
        if self.fails:
            raise OSError("no way")


@pytest.fixture
def counted(posthog: PostHogStandIn, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[CountedPolls]:
    """A loaded client."""
    made = CountedPolls(posthog, namespace, monkeypatch)
    yield made
    made.client.shutdown()


def test_an_invocation_asks_only_when_the_last_answer_is_old(counted: CountedPolls, clock: Clock) -> None:
    """The wall clock decides; if it was stepped back, it proves nothing, and the reader polls."""
    handler = fresh(counted.client, max_age=30)(lambda: counted.polls)
    assert handler() == 1
    clock.now += 29
    assert handler() == 1
    clock.now += 1
    assert handler() == 2
    clock.now -= 3600
    assert handler() == 3
    clock.now += 29
    assert handler() == 3
    eager = fresh(counted.client, max_age=0)(lambda: counted.polls)
    assert [eager(), eager()] == [4, 5]


def test_the_handler_is_called_as_it_was(counted: CountedPolls, clock: Clock) -> None:
    """The handler keeps its arguments, result, name and exceptions; a failed poll does not reach it."""

    @fresh(counted.client)
    def handler(event: str, *, context: int) -> str:
        """Say it."""
        if not event:
            raise LookupError(context)
        return event * context

    counted.fails = True
    assert handler("a", context=3) == "aaa"
    assert (handler.__name__, handler.__doc__) == ("handler", "Say it.")
    with pytest.raises(LookupError):
        handler("", context=1)
    assert counted.polls == 1


@pytest.mark.parametrize(("max_age", "polls"), [(30, 1), (0, 2)])
def test_of_invocations_at_one_time_one_asks(counted: CountedPolls, clock: Clock, max_age: float, polls: int) -> None:
    """None starts before the poll's reply; with `max_age=0`, none starts with the reply to an earlier poll."""
    answered = threading.Event()
    handler = fresh(counted.client, max_age=max_age)(lambda: (answered.is_set(), counted.polls))
    inner: list[tuple[bool, int]] = []
    others = [threading.Thread(target=lambda: inner.append(handler())) for _ in range(3)]

    def meanwhile() -> None:
        counted.during = lambda: None
        for other in others:
            other.start()
        others[0].join(0.1)
        answered.set()

    counted.during = meanwhile
    handler()
    for other in others:
        other.join(10)
    assert [begun for begun, _ in inner] == [True] * 3
    assert counted.polls == polls


def test_a_worker_begins_with_what_posthog_has_now(store_url: str, namespace: str, posthog: PostHogStandIn) -> None:
    """With `max_age=0` an invocation that is due to fetch waits for the answer, however slow the fetch is."""
    cache = from_url(store_url, namespace, refresh_interval=0.05, store_timeout=0.2, auto_attach=False)
    client = client_of(cache, posthog, key="phs_test", attach=False)  # else the listener would fetch before it
    load(client)
    handler = fresh(client, max_age=0)(lambda: held(client))
    posthog.serve(make_definitions(3, revision=2))
    until(lambda: (cache.status().age or 0) > 0.3, what="a fetch to be due")
    posthog.set_delay(0.8)
    assert handler() == 2
    client.shutdown()


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), "30", None, True])
def test_a_wrong_age_is_refused(counted: CountedPolls, wrong: object) -> None:
    """An invalid age is refused when the function is decorated, with the value."""
    with pytest.raises(ConfigurationError, match="max_age") as caught:
        fresh(counted.client, max_age=cast("float", wrong))
    assert repr(wrong) in str(caught.value)


RUNTIME = """
import json, sys
import posthog as sdk
from handler import handler, posthog
print(json.dumps("up"), flush=True)
for line in sys.stdin:
    value = handler(json.loads(line), None)
    print(json.dumps([value, len(posthog.feature_flags)]), flush=True)
"""
"""What a platform does with a handler: import it once, then call it with each event."""


class Function:
    """A function in a separate process, which is frozen except during its invocations."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUNTIME],
            cwd=folder,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "up"
        self._process.send_signal(signal.SIGSTOP)

    def invoke(self, event: object) -> object:
        """Thaw it, let it handle an event, and freeze it again."""
        self._process.send_signal(signal.SIGCONT)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(event) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        self._process.send_signal(signal.SIGSTOP)
        return answer

    def end(self) -> None:
        """End it as a platform does: without a warning."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> object:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def test_a_function_that_was_frozen_is_up_to_date_in_its_next_invocation(
    make_redis: MakeRedis, posthog: PostHogStandIn, tmp_path: Path
) -> None:
    """The docs' handler, stopped and continued, has a change that came while it was frozen."""
    server = make_redis(tcp=True)
    definitions = make_definitions(3)
    flag = {**definitions["flags"][0], "key": "new-checkout"}
    posthog.serve({**definitions, "flags": [*definitions["flags"], flag]})
    fill(server.tcp_url, "my-team", posthog)
    (tmp_path / "handler.py").write_text(snippet("docs/serverless.md", "handler.py").replace("max_age=30", "max_age=0"))
    function = Function(tmp_path, posthog_environment(posthog.url, REDIS_URL=server.tcp_url))
    try:
        assert function.invoke({"user": "me"}) == [True, 5]
        posthog.serve(make_definitions(3))
        requests = fill(server.tcp_url, "my-team", posthog)
        assert function.invoke({"user": "me"}) == [False, 4]
        assert posthog.requests == requests
    finally:
        function.end()
