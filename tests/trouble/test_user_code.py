# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""Slow credential providers and connect functions of the user: no call waits for them beyond its budget."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager

import pytest
import redis
from redis.credentials import CredentialProvider

from flagcache import RedisFlagDefinitionCache
from flagcache.errors import StoreError
from flagcache.events import Event, StoreLost
from flagcache.stores.redis.deadline import bounded
from flagcache.stores.redis.store import RedisStore
from flagcache.stores.redis.user_code import BoundedCredentials, bounded_connect
from flagcache_posthog.testing import RemoteStandIn
from tests.support.attached_clients import AttachedContext, events
from tests.support.fleet_tasks import evaluated, key_of
from tests.support.real_fleet import RecordingPosthog
from tests.support.redis_links import clients_seen_by, make_client
from tests.support.refused_threads import refuse_threads
from tests.support.servers import MakeRedis, RedisServer, until

pytestmark = pytest.mark.usefixtures("no_threads_left")

TIMEOUT = 0.4
SLACK = 0.65
"""Seconds that a busy machine may add."""

PASSWORD = "s3cret"


class DelayedCredentials(CredentialProvider):
    """Hands out the password once it is open, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.answered = 0
        self.open = threading.Event()

    def get_credentials(self) -> tuple[str, str]:
        """Return what logs in."""
        self.asked += 1
        assert self.open.wait(60)
        self.answered += 1
        return "default", PASSWORD


@pytest.fixture
def credentials(no_threads_left: None) -> Iterator[DelayedCredentials]:
    """A vault that is opened in the end."""
    credentials = DelayedCredentials()
    yield credentials
    credentials.open.set()


@pytest.fixture
def server(make_redis: MakeRedis) -> RedisServer:
    """A server with a password."""
    return make_redis(args=("--requirepass", PASSWORD))


def fails_in_time(call: Callable[[], object], match: str) -> None:
    """Fail if it does not fail with this, or takes longer than a call of the store may."""
    began = time.monotonic()
    with pytest.raises(StoreError, match=match) as failed:
        call()
    assert failed.value.kind == "timeout"
    assert time.monotonic() - began < TIMEOUT + SLACK


def test_a_slow_credential_provider_costs_one_budget(
    server: RedisServer, credentials: DelayedCredentials, namespace: str
) -> None:
    """The call says what it waited for; no second request goes to the provider while the first is under way."""
    client = make_client(unix_socket_path=str(server.socket_path), credential_provider=credentials)
    with closing(RedisStore(client, namespace, timeout=TIMEOUT)) as store:
        for call in (store.inspect, store.subscribe, store.inspect):
            fails_in_time(call, r"the credential provider .*DelayedCredentials takes longer than 0\.\d+ s")
        assert credentials.asked == 1


def test_credentials_that_come_late_are_used(
    server: RedisServer, credentials: DelayedCredentials, namespace: str
) -> None:
    """A provider that always takes longer than a call may still logs in, at the next call, with what it gave."""
    client = make_client(unix_socket_path=str(server.socket_path), credential_provider=credentials)
    with closing(RedisStore(client, namespace, timeout=TIMEOUT)) as store:
        fails_in_time(store.inspect, "credential provider")
        credentials.open.set()
        until(lambda: credentials.answered, what="the answer")
        assert store.inspect().clock
        assert credentials.asked == 1
        store.subscribe().close()
        assert credentials.asked == 2  # another connection logs in with its own credentials


def test_a_forked_child_asks_for_itself(server: RedisServer, credentials: DelayedCredentials, namespace: str) -> None:
    """The parent's request continues only in the parent."""
    client = make_client(unix_socket_path=str(server.socket_path), credential_provider=credentials)
    with closing(RedisStore(client, namespace, timeout=TIMEOUT)) as store:
        fails_in_time(store.inspect, "credential provider")
        pid = os.fork()
        if pid == 0:
            credentials.open.set()
            try:
                RedisStore(client, namespace, timeout=5).inspect()
            finally:
                os._exit(0 if credentials.asked == 2 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_without_a_thread_the_caller_asks(
    server: RedisServer, credentials: DelayedCredentials, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system that gives no thread costs the bound, not the connection."""
    refuse_threads(monkeypatch, "flagcache-credentials")
    credentials.open.set()
    client = make_client(unix_socket_path=str(server.socket_path), credential_provider=credentials)
    with closing(RedisStore(client, namespace, timeout=TIMEOUT)) as store:
        assert store.inspect().clock


def test_a_slow_connect_function_costs_one_budget(
    server: RedisServer, credentials: DelayedCredentials, namespace: str
) -> None:
    """A late function continues with a closed connection; none is kept, and a later one in time is used."""

    def log_in(connection: redis.Connection) -> None:
        user, password = credentials.get_credentials()
        connection.on_connect()
        connection.send_command("AUTH", user, password)
        connection.read_response()

    client = make_client(unix_socket_path=str(server.socket_path), redis_connect_func=log_in)
    with closing(RedisStore(client, namespace, timeout=TIMEOUT)) as store:
        for call in (store.inspect, store.subscribe):
            fails_in_time(call, r"the connect function .*log_in takes longer than 0\.\d+ s")
        credentials.open.set()
        until(lambda: credentials.answered == 2, what="the answers")
        assert store.inspect().clock
        admin = server.client(password=PASSWORD)
        until(lambda: len(clients_seen_by(admin)) == 1, what="the others to be gone")


def test_a_providers_own_timeout_is_no_wrong_password(server: RedisServer, namespace: str) -> None:
    """A vault that was not reached may answer the next time, so it is asked again."""

    class Unreachable(CredentialProvider):
        timeouts = 1

        def get_credentials(self) -> tuple[str]:
            if self.timeouts:
                self.timeouts -= 1
                raise TimeoutError(PASSWORD)
            return (PASSWORD,)

    client = make_client(unix_socket_path=str(server.socket_path), credential_provider=Unreachable())
    with closing(RedisStore(client, namespace, timeout=5)) as store:
        with pytest.raises(StoreError) as failed:
            store.inspect()
        assert failed.value.kind == "timeout"
        assert "the credential provider" in str(failed.value)
        assert PASSWORD not in str(failed.value)
        assert store.inspect().clock


def test_without_time_no_credentials_are_asked_for() -> None:
    """A command whose time was over before they were needed has timed out, with no word of a password."""
    credentials = DelayedCredentials()
    with no_time_left(), pytest.raises(redis.TimeoutError):
        BoundedCredentials(credentials).get_credentials()
    assert not credentials.asked


def test_without_time_no_connect_function_is_called() -> None:
    """The function would continue with a connection that the command no longer has."""
    called: list[object] = []
    connection = AbandonedConnection()
    with no_time_left(), pytest.raises(redis.TimeoutError):
        bounded_connect(called.append)(connection)
    assert connection.abandoned
    assert called == []


class AbandonedConnection(redis.Connection):
    """Notes that it was abandoned."""

    abandoned = False

    def abandon(self) -> None:
        """It is converted to a flagcache exception."""
        self.abandoned = True


@contextmanager
def no_time_left() -> Generator[None]:
    """A command whose time is over, its last moment too."""
    with bounded(0.0):
        yield


def test_cold_threads_evaluate_with_flags(
    posthog: RemoteStandIn, server: RedisServer, credentials: DelayedCredentials, namespace: str
) -> None:
    """While the vault is silent a new process has its flags after one budget, by its own fetch."""
    client = make_client(unix_socket_path=str(server.socket_path), credential_provider=credentials)
    context = make_context(posthog, client, namespace)
    began = time.monotonic()
    assert evaluated(context)
    assert time.monotonic() - began < 3 * TIMEOUT + SLACK
    context.client.shutdown()


def make_context(posthog: RemoteStandIn, client: redis.Redis, namespace: str) -> AttachedContext:
    """A process with an attached client and this client of Redis."""
    received: list[Event] = []
    cache = RedisFlagDefinitionCache(client, namespace, store_timeout=TIMEOUT, on_event=received.append)
    user = RecordingPosthog("phc_test", secret_key=key_of(0), host=posthog.url, flag_definition_cache_provider=cache)
    return AttachedContext(cache.attach(user), cache, events=received)


class VaultSealedError(Exception):
    """The user's own kind of exception."""


def test_an_exception_of_the_users_own_starts_the_fallback(
    posthog: RemoteStandIn, redis_server: RedisServer, namespace: str
) -> None:
    """The worker fetches, its machine's file takes over, and one event says what was raised, without its text."""

    def connect(_connection: redis.Connection) -> None:
        raise VaultSealedError(PASSWORD)

    client = make_client(unix_socket_path=str(redis_server.socket_path), redis_connect_func=connect)
    context = make_context(posthog, client, namespace)
    assert evaluated(context)
    status = context.cache.status()
    assert status.store_in_charge.startswith("sqlite://")
    assert status.trouble == "store_failed"
    [lost] = [event for event in events(context) if isinstance(event, StoreLost)]
    assert "unexpected VaultSealedError at trouble/test_user_code.py:" in str(lost)
    assert PASSWORD not in str(lost)
    context.client.shutdown()
