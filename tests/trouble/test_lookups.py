"""Name servers hang: a caller waits for them no longer than for a store."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from flagcache.errors import StoreError
from flagcache.runtime.lookups import addresses_of
from flagcache.stores.redis.store import RedisStore
from flagcache_posthog.testing import RemoteStandIn
from tests.support.attached_clients import attached
from tests.support.fleet_tasks import evaluated
from tests.support.redis_links import link_to
from tests.support.refused_threads import refuse_threads
from tests.support.servers import RedisServer, until

pytestmark = pytest.mark.usefixtures("no_threads_left")

HOST = "redis.flagcache.test"
TIMEOUT = 0.5
SLACK = 1.0
"""Seconds that a busy machine may add."""


class NameServers:
    """Name servers that hang until the test lets them answer."""

    def __init__(self) -> None:
        self.asked = 0
        self.address = ""
        self._answer = threading.Event()
        self._system: Callable[..., object] = socket.getaddrinfo

    def look_up(self, host: str, *args: object, **options: object) -> object:
        """As `socket.getaddrinfo`."""
        if host == HOST:
            self.asked += 1
            assert self._answer.wait(60)
            if not self.address:
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            host = self.address
        return self._system(host, *args, **options)

    def answer(self, address: str = "") -> None:
        """Answer what is asked, now and later: with an address, or a failure."""
        self.address = address
        self._answer.set()


@pytest.fixture
def names(no_threads_left: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    """Hang for one host."""
    names = NameServers()
    monkeypatch.setattr(socket, "getaddrinfo", names.look_up)
    yield names
    names.answer()


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_cold_threads_evaluate_with_flags(posthog: RemoteStandIn, names: NameServers, namespace: str) -> None:
    """All threads that start at once get flags when the store's time is over, and a shutdown waits no longer."""
    url = f"redis://{HOST}:6379/0"
    context = attached(posthog, url, namespace, every=30.0, store_timeout=TIMEOUT)(0)
    with ThreadPoolExecutor(4) as threads:
        began = time.monotonic()
        results = list(threads.map(evaluated, [context] * 4))
        took = time.monotonic() - began
    assert all(results)
    assert took < 3 * TIMEOUT + SLACK
    asking = threading.Thread(target=context.cache.should_fetch_flag_definitions)
    asking.start()
    assert seconds(context.client.shutdown) < 3 * TIMEOUT + SLACK
    asking.join()


def test_commands_and_subscriptions_share_one_look_up(names: NameServers, namespace: str) -> None:
    """A look-up that takes too long is named in the error; it continues, and no second one is started beside it."""
    store = RedisStore(f"redis://{HOST}:6379/0", namespace, timeout=TIMEOUT)
    for call in (store.inspect, store.subscribe, store.inspect):
        began = time.monotonic()
        with pytest.raises(StoreError, match=f"looking up the name '{HOST}' takes longer"):
            call()
        assert time.monotonic() - began < TIMEOUT + SLACK
    assert names.asked == 1
    store.close()


def test_a_name_that_is_found_late_is_used(redis_server: RedisServer, names: NameServers, namespace: str) -> None:
    """When name servers answer again, so does the store."""
    with link_to(f"redis://{HOST}:{redis_server.port}/0", timeout=TIMEOUT) as link:
        with pytest.raises(StoreError):
            link.subscribe(namespace)
        names.answer("127.0.0.1")
        link.subscribe(namespace).close()


def test_a_failed_look_up_is_told_as_the_system_tells_it(names: NameServers) -> None:
    """The caller gets the system's error, from a separate thread or its own; an address is not looked up."""
    names.answer()
    with pytest.raises(socket.gaierror, match="Temporary failure"):
        addresses_of(HOST, 6379, 10.0)
    for address in ("127.0.0.1", "::1", "fe80::1%lo"):
        addresses_of(address, 6379, 0.0)
    assert names.asked == 1


def test_without_a_thread_the_caller_looks_up(names: NameServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that gives no thread costs the bound, not the connection."""
    refuse_threads(monkeypatch, "flagcache-lookup")
    names.answer("127.0.0.1")
    addresses_of(HOST, 6379, 10.0)
    assert names.asked == 1


def test_a_forked_child_looks_up_for_itself(names: NameServers) -> None:
    """The parent's look-up continues only in the parent."""
    with pytest.raises(TimeoutError):
        addresses_of(HOST, 6379, 0.01)
    until(lambda: names.asked == 1, what="the look-up")
    pid = os.fork()
    if pid == 0:
        names.answer("127.0.0.1")
        try:
            addresses_of(HOST, 6379, 10.0)
        finally:
            os._exit(0 if names.asked == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
