# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""Any exception below a verb, from the user's code or a library, becomes a `StoreError`."""

from __future__ import annotations

import random
import sqlite3
import sys
from collections.abc import Callable, Iterator
from inspect import CO_GENERATOR
from pathlib import Path
from types import CodeType, FrameType

import pytest
import redis
from redis.credentials import CredentialProvider

import flagcache.stores
from flagcache.errors import ConfigurationError, StoreError
from flagcache.stores import unexpected
from flagcache.stores.memory import MemoryStore
from flagcache.stores.redis.deadline import remaining
from flagcache.stores.redis.store import RedisStore
from flagcache.stores.sqlite.store import SqliteStore
from tests.stores.every_verb import FleetStore, every_verb
from tests.support.redis_links import clients_seen_by, make_client
from tests.support.servers import RedisServer

SECRET = "hunter2"


class UnspeakableError(Exception):
    """Even its text cannot be had."""

    def __str__(self) -> str:
        raise KeyError(SECRET)


ODD = [
    RuntimeError(f"vault sealed, {SECRET}"),
    UnicodeEncodeError("utf-8", f"{SECRET}\udcff", 7, 8, "surrogates not allowed"),
    KeyError(SECRET),
    AssertionError(SECRET),
    MemoryError(),
    RecursionError(SECRET),
    StopIteration(SECRET),
    UnspeakableError(),
]


def refuses_everything(store: FleetStore) -> list[StoreError]:
    """Return what each verb fails with; all must."""
    failures: list[StoreError] = []
    for name, verb in every_verb(store).items():
        with pytest.raises(StoreError) as failed:
            pytest.fail(f"{name} returned {verb()!r}")
        failures.append(failed.value)
    store.close()
    return failures


class RaisingUserCode:
    """The user's code, which raises until the test stops it."""

    def __init__(self, exc: BaseException) -> None:
        self.exc: BaseException | None = exc

    def __call__(self, *_arguments: object, **_options: object) -> None:
        """Raise, or do nothing."""
        if self.exc is not None:
            raise self.exc


class RaisingProvider(CredentialProvider):
    """Credentials from the user's code."""

    def __init__(self, fickle: RaisingUserCode) -> None:
        self._fickle = fickle

    def get_credentials(self) -> tuple[str, str]:
        """Raise, or give what logs in."""
        self._fickle()
        return "default", ""


@pytest.mark.parametrize("exc", ODD, ids=lambda exc: type(exc).__name__)
def test_a_connect_function_that_raises(redis_server: RedisServer, namespace: str, exc: Exception) -> None:
    """Each verb fails, says in which code, shows no secret, and keeps no half-open connection; later it heals."""
    fickle = RaisingUserCode(exc)

    def connect(connection: redis.Connection) -> None:
        fickle()
        connection.on_connect()

    client = make_client(unix_socket_path=str(redis_server.socket_path), redis_connect_func=connect)
    admin = redis_server.client(client_name="admin")
    before = len(clients_seen_by(admin))
    store = RedisStore(client, namespace)
    for failure in refuses_everything(store):
        assert SECRET not in str(failure)
        assert str(failure).startswith(store.address)
        assert type(exc).__name__ in failure.what
    assert len(clients_seen_by(admin)) == before
    fickle.exc = None
    store = RedisStore(client, namespace)
    assert store.inspect().clock
    store.close()


def test_a_connection_whose_connect_function_failed_is_not_used(redis_server: RedisServer, namespace: str) -> None:
    """The next command connects again: a connection that was not logged in, or not set up, must not carry one."""
    fickle, connected = RaisingUserCode(RuntimeError("no token yet")), 0

    def connect(connection: redis.Connection) -> None:
        nonlocal connected
        fickle()
        connection.on_connect()
        connected += 1

    store = RedisStore(
        make_client(unix_socket_path=str(redis_server.socket_path), redis_connect_func=connect), namespace
    )
    for _ in range(2):
        with pytest.raises(StoreError):
            store.inspect()
    fickle.exc = None
    assert store.inspect().clock
    assert connected == 1
    store.close()


@pytest.mark.parametrize("exc", ODD, ids=lambda exc: type(exc).__name__)
def test_a_credential_provider_that_raises(redis_server: RedisServer, namespace: str, exc: Exception) -> None:
    """A raising credential provider is handled like a connect function."""
    fickle = RaisingUserCode(exc)
    client = make_client(unix_socket_path=str(redis_server.socket_path), credential_provider=RaisingProvider(fickle))
    assert not any(SECRET in str(failure) for failure in refuses_everything(RedisStore(client, namespace)))
    fickle.exc = None
    store = RedisStore(client, namespace)
    assert store.inspect().clock
    store.close()


@pytest.mark.parametrize("options", [{"password": f"{SECRET}\udcff"}, {"username": "a\udcff", "password": "b"}])
def test_a_password_that_is_no_utf_8(redis_server: RedisServer, namespace: str, options: dict[str, str]) -> None:
    """The password is text as the system decodes an environment variable with such bytes."""
    client = make_client(unix_socket_path=str(redis_server.socket_path), **options)
    for failure in refuses_everything(RedisStore(client, namespace)):
        assert SECRET not in str(failure)


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "a\0b", "redis\n.example", "[::1", "%"])
def test_an_odd_host_name(namespace: str, host: str) -> None:
    """Each such connection fails in its own way, and no thread is left with an exception."""
    refuses_everything(RedisStore(make_client(host=host, port=6379), namespace, timeout=0.5))


def test_a_host_that_is_no_text_is_refused(namespace: str) -> None:
    """The constructor refuses a host that is no text, as any other mistake in the set-up."""
    with pytest.raises(ConfigurationError, match=r"no text: .*\\udcff"):
        RedisStore(make_client(host="\udcff", port=6379), namespace)


@pytest.mark.parametrize("exc", ODD, ids=lambda exc: type(exc).__name__)
def test_sqlite_that_raises(tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch, exc: Exception) -> None:
    """Every outcome is a `StoreError`."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", RaisingUserCode(exc))
    path = tmp_path / "flags.db"
    for failure in refuses_everything(SqliteStore(path, namespace)):
        assert SECRET not in str(failure)
    monkeypatch.setattr(sqlite3, "connect", connect)
    store = SqliteStore(path, namespace)
    assert store.inspect().clock
    store.close()


@pytest.mark.parametrize("exc", ODD, ids=lambda exc: type(exc).__name__)
def test_memory_whose_clock_raises(exc: Exception) -> None:
    """The rules fail, and nothing is changed."""
    fickle = RaisingUserCode(exc)

    def clock() -> int:
        fickle()
        return 1_000_000

    store = MemoryStore(clock)
    verbs = every_verb(store)
    for name in set(verbs) - {"discard", "clear", "subscribe"}:  # these look at no clock
        with pytest.raises(StoreError) as failed:
            pytest.fail(f"{name} returned {verbs[name]()!r}")
        assert SECRET not in str(failed.value)
    fickle.exc = None
    assert store.inspect().granted_at == 0


# --- an exception at each call below a verb ---------------------------------------------------------------------------

_STORES = str(Path(flagcache.stores.__file__).parent)
_REDIS = str(Path(redis.__file__).parent)


class FaultError(Exception):
    """An exception that no code expects."""


_ENDS = frozenset({"__del__", "close", "disconnect", "forked", "release", "_leave", "_close"})
"""Functions that give back what was taken. If one of them fails, there is nothing left to be done about that."""

_MEANWHILE = frozenset({"socket_connect_timeout", "socket_timeout"})
"""While only redis-py has a socket, our functions raise `TimeoutError`, at which redis-py closes it."""


class FailurePoint:
    """Raises at one of the functions that are called below a verb, the stores' own and redis-py's.

    Args:
        verb: what to call.
        at: which call is to fail, from 0.
    """

    def __init__(self, verb: Callable[[], object], at: int) -> None:
        self._verb = verb
        self._at = at
        self.calls = 0
        self.struck = ""

    def run(self) -> None:
        """Call the verb."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            self._verb()
        finally:
            sys.settrace(before)

    def _trace(self, frame: FrameType, event: str, _arg: object) -> None:
        if event != "call" or not _may_fail(frame):
            return
        self.calls += 1
        if self.calls == self._at + 1:
            self.struck = f"{frame.f_code.co_filename}:{frame.f_code.co_name}"
            raise FaultError(SECRET)


def _may_fail(frame: FrameType) -> bool:
    code = frame.f_code
    if not code.co_filename.startswith((_STORES, _REDIS)) or code.co_flags & CO_GENERATOR:
        return False
    if code.co_filename == unexpected.__file__ or _called_by(frame).co_filename == unexpected.__file__:
        return False  # a verb itself
    return not any(code.co_name in _ENDS | _MEANWHILE for code in _callers(frame))


def _called_by(frame: FrameType) -> CodeType:
    return frame.f_back.f_code if frame.f_back is not None else frame.f_code


def _callers(frame: FrameType | None) -> Iterator[CodeType]:
    """The function itself and those that called it, up to a verb."""
    while frame is not None and _called_by(frame).co_filename != unexpected.__file__:
        yield frame.f_code
        frame = frame.f_back


MakeStore = Callable[[], FleetStore]


@pytest.fixture(params=["redis", "sqlite", "memory"])
def make_store(request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path: Path, namespace: str) -> MakeStore:
    """Return a function that makes a store of each kind in turn, which has opened nothing yet."""
    makers: dict[str, MakeStore] = {
        "redis": lambda: RedisStore(redis_server.url, namespace),
        "sqlite": lambda: SqliteStore(tmp_path / "flags.db", namespace),
        "memory": MemoryStore,
    }
    return makers[request.param]


VERBS = ("poll", "publish", "confirm", "fail", "renew", "release", "discard", "inspect", "clear", "subscribe")


@pytest.mark.parametrize("verb", VERBS)
def test_an_exception_at_any_call_below_a_verb(make_store: MakeStore, verb: str) -> None:
    """An exception below a verb leaves it as a `StoreError`, if at all, and the store can be used afterwards."""
    store = make_store()
    counted = FailurePoint(every_verb(store)[verb], -1)
    counted.run()
    store.close()
    points = range(counted.calls)
    rng = random.Random(verb)
    for at in sorted(rng.sample(points, min(len(points), 20))):
        store = make_store()
        saboteur = FailurePoint(every_verb(store)[verb], at)
        failure = ""
        try:
            saboteur.run()
        except StoreError as exc:
            failure = str(exc)
        except Exception as exc:  # noqa: BLE001 - to name the place
            pytest.fail(f"{type(exc).__name__} left {verb} when {saboteur.struck} failed")
        assert SECRET not in failure, saboteur.struck
        assert remaining(None) is None, f"{saboteur.struck} left this thread a deadline"
        assert store.inspect().clock, saboteur.struck
        store.close()
