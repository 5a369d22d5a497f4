"""Fixtures for all tests: real servers and stores, a PostHog, a namespace for each test, and a check for leftovers."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from flagcache_posthog.testing import PostHogStandIn, RemoteStandIn, make_definitions
from tests.support.own_threads import begin_test
from tests.support.servers import SERVER_NAMES, MakeRedis, RedisServer, find_binary, newest_binary, until


@pytest.fixture(scope="session", params=SERVER_NAMES)
def redis_server_any(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Each supported server in turn, shared by all tests; a test leaves it as it was."""
    name: str = request.param
    with RedisServer(find_binary(name)) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The newest server, on TCP too, shared by all tests: leave it as it was."""
    with RedisServer(newest_binary(), tcp=True) as server:
        yield server


@pytest.fixture
def make_redis() -> Iterator[MakeRedis]:
    """Servers of the test's own, to kill, freeze, fill up and flush."""
    with contextlib.ExitStack() as servers:

        def make(name: str | None = None, *, tcp: bool = False, args: Sequence[str] = ()) -> RedisServer:
            binary = find_binary(name) if name else newest_binary()
            return servers.enter_context(RedisServer(binary, tcp=tcp, args=args))

        yield make


@pytest.fixture
def posthog() -> Iterator[RemoteStandIn]:
    """A PostHog for one test, at revision 1, which continues while the test's process is suspended."""
    standin = PostHogStandIn.spawn(make_definitions(5))
    yield standin
    standin.stop()


@pytest.fixture(params=["redis", "sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a store that processes can share, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'flags.db'}"
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def no_threads_left() -> Iterator[None]:
    """Fail if the test leaves a thread named `flagcache...` behind. Request it before fixtures that start threads."""
    before = set(threading.enumerate())

    def left() -> list[str]:
        return [t.name for t in threading.enumerate() if t not in before and t.name.startswith("flagcache")]

    yield
    until(lambda: not left(), 5.0, what=f"threads to end: {left()}")


@pytest.fixture(autouse=True)
def own_threads() -> None:
    """`threads_of` names the threads of this test alone."""
    begin_test()


@pytest.fixture(autouse=True)
def own_state_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fallback stores are in the test's own directory, never in the user's home."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
