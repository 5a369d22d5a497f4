"""Several clients, several projects and several threads in one process."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from posthog import Posthog
from posthog.poller import Poller

from flagcache_posthog import FlagDefinitionCache, from_url
from flagcache_posthog.testing import REVISION_FLAG, PostHogStandIn, RemoteStandIn, make_definitions
from tests.support.own_threads import threads_of
from tests.support.real_fleet import RecordingPosthog
from tests.support.servers import MakeRedis, RedisServer, until
from tests.support.snippets import snippet
from tests.support.user_programs import posthog_environment

EVERY = 0.5
PROJECTS = 20
THREADS = 12

MakeClient = Callable[..., Posthog]


@pytest.fixture
def make_client() -> Iterator[MakeClient]:
    """Makes clients that are shut down when the test ends."""
    with ExitStack() as ends:

        def make(cache: FlagDefinitionCache, host: str, *, token: str = "phc_test", polls: float = EVERY) -> Posthog:
            client = RecordingPosthog(
                token,
                secret_key="phs_test",
                host=host,
                poll_interval=polls,
                flag_definition_cache_provider=cache,
                send=False,  # so that the SDK's only connection is the one for its fetches
            )
            ends.callback(client.shutdown)
            return client

        yield make


def revision(client: Posthog) -> object:
    """Return the revision that a user's code sees; this loads a client without flags."""
    return client.evaluate_flags("user", only_evaluate_locally=True).get_flag(REVISION_FLAG)


def open_files() -> Counter[str]:
    """How many sockets, pipes and files of each kind this process has open."""
    entries = list(Path("/proc/self/fd").iterdir())
    return Counter(str(entry.readlink()).split(":")[0] for entry in entries if entry.is_symlink())


def sdks_own_connection(posthog: RemoteStandIn, namespace: str, make_client: MakeClient) -> None:
    """Have the SDK open the connection that it keeps for the life of the process."""
    first = make_client(from_url("memory://", f"{namespace}-first"), posthog.url)
    assert revision(first) == "r1"
    first.shutdown()


def test_twenty_projects_in_one_process_never_meet(make_redis: MakeRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its own flags by one fetch, a thread, and at most three connections, until its client is shut down."""
    redis = make_redis()
    admin = redis.client()
    monkeypatch.setenv("REDIS_URL", redis.url)
    copied: dict[str, object] = {}
    exec(snippet("docs/clients.md", "tenants.py"), copied)
    client_for = cast("Callable[[str, str, str], Posthog]", copied["client_for"])
    with ExitStack() as running:
        standins = [PostHogStandIn(make_definitions(5, team_id=n, revision=n)) for n in range(1, PROJECTS + 1)]
        clients = list[Posthog]()
        for n, standin in enumerate(standins, 1):
            running.callback(standin.start().stop)
            monkeypatch.setenv("POSTHOG_HOST", standin.url)
            clients.append(client_for(f"{n}", f"phc_{n}", "phs_test"))
            running.callback(clients[-1].shutdown)
        assert threads_of() == []
        assert [revision(client) for client in clients] == [f"r{n}" for n in range(1, PROJECTS + 1)]
        assert [standin.requests for standin in standins] == [1] * PROJECTS
        until(lambda: threads_of() == ["flagcache-listener"] * PROJECTS, what="one listener a cache, and nothing else")
        until(lambda: 2 * PROJECTS < len(admin.client_list()) <= 3 * PROJECTS + 1, what="two or three connections each")
        for client in clients:
            client.shutdown()
        assert threads_of() == []
        until(lambda: len(admin.client_list()) == 1, 5.0, what="all connections but this one to be closed")


def test_clients_of_one_cache_share_all_it_has(
    posthog: RemoteStandIn, make_redis: MakeRedis, make_client: MakeClient
) -> None:
    """Four clients are one member: one fetch, one listener, and a change for all, until the last one is shut down."""
    redis = make_redis()
    admin = redis.client()
    cache = from_url(redis.url, "shared", refresh_interval=EVERY)
    clients = [cache.attach(make_client(cache, posthog.url)) for _ in range(4)]
    assert [revision(client) for client in clients] == ["r1"] * 4
    assert posthog.requests == 1
    until(lambda: threads_of().count("flagcache-listener") == 1, what="one listener")
    assert len(admin.client_list()) <= 4
    for client in clients[:3]:
        client.shutdown()
    posthog.serve(make_definitions(5, revision=2))
    until(lambda: revision(clients[3]) == "r2", what="the change to reach the last one")
    clients[3].shutdown()
    assert threads_of() == []
    until(lambda: len(admin.client_list()) == 1, 5.0, what="all connections but this one to be closed")


@pytest.mark.parametrize("attached", [True, False], ids=["attached", "unattached"])
def test_threads_that_want_flags_at_once_make_one_request(
    posthog: RemoteStandIn, redis_server: RedisServer, namespace: str, make_client: MakeClient, attached: bool
) -> None:
    """Twelve threads that evaluate and load a cold client make one request, get the right flags, and leave nothing."""
    sdks_own_connection(posthog, namespace, make_client)
    running, files = set(threading.enumerate()), open_files()
    cache = from_url(redis_server.url, namespace, refresh_interval=EVERY, auto_attach=attached)
    client = make_client(cache, posthog.url)
    if attached:
        cache.attach(client)
    start, values = threading.Barrier(THREADS), list[object]()

    def want(number: int) -> None:
        start.wait()
        if number % 2:
            client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
        values.append(revision(client))

    threads = [threading.Thread(target=want, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == ["r1"] * THREADS  # a thread with an exception has reported nothing
    assert posthog.requests == 2  # one of them the first client's
    assert threads_of().count("flagcache-listener") == attached
    client.shutdown()
    assert threads_of() == []
    asked = posthog.requests
    # The SDK starts pollers that it then forgets; each ends at its next poll, and does nothing more.
    until(lambda: set(threading.enumerate()) <= running, EVERY + 5, what="all threads to end")
    until(lambda: open_files() <= files, 5.0, what="everything to be closed")
    assert posthog.requests == asked


def test_a_poller_that_its_client_forgot_ends(posthog: RemoteStandIn, namespace: str, make_client: MakeClient) -> None:
    """An orphan poller ends at its next poll; the client's own continues, and the client keeps its flags."""
    cache = from_url("memory://", namespace, refresh_interval=EVERY)
    client = make_client(cache, posthog.url)
    client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    known = client.poller
    assert isinstance(known, Poller)
    interval, execute = cast("timedelta", known.interval), cast("Callable[[], None]", known.execute)
    stray = Poller(interval, execute)  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    stray.start()
    until(lambda: not stray.is_alive(), EVERY + 5, what="the stray to end")
    assert known.is_alive()
    posthog.serve(make_definitions(5, revision=2))
    until(lambda: revision(client) == "r2", EVERY + 5, what="the change")


def test_the_global_client_works_as_the_docs_tell(
    posthog: RemoteStandIn, redis_server: RedisServer, namespace: str
) -> None:
    """Its first evaluation makes one request, and `posthog.shutdown()` leaves no thread."""
    lines = snippet("docs/clients.md", "settings.py").replace('"my-team"', repr(namespace))
    lines = lines.replace('"redis://127.0.0.1:6379/0"', repr(redis_server.url)).replace("my-flag", REVISION_FLAG)
    script = f"""{lines}
import threading
print(posthog.get_feature_flag("{REVISION_FLAG}", "a-user", only_evaluate_locally=True))
posthog.shutdown()
print([thread.name for thread in threading.enumerate()])
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        env=posthog_environment(posthog.url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True", "r1", "['MainThread']"]
    assert posthog.requests == 1
    assert "Traceback" not in done.stderr
