from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from posthog import Posthog

from flagcache.status import Role
from flagcache.worker import listener
from flagcache_posthog import MemoryFlagDefinitionCache, SqliteFlagDefinitionCache
from flagcache_posthog._lifecycle import attached_clients, leave_fleet, load_clients
from flagcache_posthog.testing import PostHogStandIn, make_definitions


@pytest.fixture
def posthog() -> Iterator[PostHogStandIn]:
    """A PostHog for one test."""
    with PostHogStandIn(make_definitions(3)) as standin:
        yield standin


def attached(standin: PostHogStandIn, namespace: str) -> tuple[Posthog, MemoryFlagDefinitionCache]:
    """A client and its cache, not loaded."""
    cache = MemoryFlagDefinitionCache(namespace)
    client = Posthog(
        "phc_test", secret_key="phs_test", host=standin.url, flag_definition_cache_provider=cache, flush_at=1
    )
    return cache.attach(client), cache


def test_every_attached_client_is_loaded_once(posthog: PostHogStandIn, namespace: str) -> None:
    """Each client has its flags when the call returns; a second call makes no request."""
    pairs = [attached(posthog, f"{namespace}-{number}") for number in range(3)]
    load_clients()
    assert all(client.feature_flags for client, _ in pairs)
    assert posthog.requests == 3
    load_clients()
    assert posthog.requests == 3
    for client, _ in pairs:
        client.shutdown()


def test_clients_that_nobody_attached_are_loaded_too(posthog: PostHogStandIn, namespace: str) -> None:
    """A client with a cache is attached and loaded by the fleet's own request; others are left alone."""
    cache, refuses = (
        MemoryFlagDefinitionCache(namespace),
        MemoryFlagDefinitionCache(f"{namespace}-2", auto_attach=False),
    )
    own, refused, plain = (
        Posthog("phc_test", secret_key="phs_test", host=posthog.url, flag_definition_cache_provider=each, flush_at=1)
        for each in (cache, refuses, None)
    )
    load_clients()
    assert own.feature_flags
    assert refused.feature_flags is None
    assert plain.feature_flags is None
    (request,) = posthog.served()
    assert " flagcache/" in (request.user_agent or "")
    assert any(client is own for client in attached_clients())
    for client in (own, refused, plain):
        client.shutdown()


def test_whoever_said_goodbye_does_not_lead_again(posthog: PostHogStandIn, tmp_path: Path) -> None:
    """The lease is free at once; what still polls in that process is answered from memory, and takes nothing."""
    path = tmp_path / "flags.db"
    pid = os.fork()
    if pid == 0:
        os._exit(0 if _leads_and_leaves(posthog, path) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    other = SqliteFlagDefinitionCache(path, "n")
    other.should_fetch_flag_definitions()
    assert other.status().role is Role.LEADER
    other.shutdown()


def _leads_and_leaves(standin: PostHogStandIn, path: Path) -> bool:
    cache = SqliteFlagDefinitionCache(path, "n")
    client = Posthog("phc_test", secret_key="phs_test", host=standin.url, flag_definition_cache_provider=cache)
    cache.attach(client)
    load_clients()
    led = cache.status().role is Role.LEADER
    leave_fleet()
    again = [cache.should_fetch_flag_definitions() for _ in range(3)]
    served = cache.get_flag_definitions()
    return led and again == [False] * 3 and served is not None and served["flags"] is client.feature_flags


@pytest.mark.parametrize("leaves", [False, True], ids=["stays", "leaves"])
def test_a_child_that_said_goodbye_at_once_does_not_begin_to_listen(
    posthog: PostHogStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    """Its listener, due a little after the fork, could take the lease in a process that is about to end."""
    monkeypatch.setattr(listener, "_AFTER_FORK", 0.2)
    cache = SqliteFlagDefinitionCache(tmp_path / "flags.db", "n")
    client = Posthog("phc_test", secret_key="phs_test", host=posthog.url, flag_definition_cache_provider=cache)
    cache.attach(client)
    load_clients()
    pid = os.fork()
    if pid == 0:
        if leaves:
            leave_fleet()
        os._exit(_listens(within=1.5))
    listened = bool(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    client.shutdown()
    assert listened is not leaves


def _listens(*, within: float) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if any(thread.name == "flagcache-listener" for thread in threading.enumerate()):
            return True
        time.sleep(0.01)
    return False
