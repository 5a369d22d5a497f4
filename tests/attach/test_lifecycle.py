from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import cast

import posthog as sdk
import pytest
from posthog import Posthog

from flagcache.errors import ConfigurationError
from flagcache.events import FetchFailed
from flagcache.status import Role
from flagcache_posthog import from_url
from flagcache_posthog.testing import PostHogStandIn, StandInControl, make_definitions
from tests.support.attached_clients import AttachedContext, attached, listens, only_own_fetches, polls_until, subscribed
from tests.support.fleet_tasks import (
    all_hold,
    asks,
    history,
    key_of,
    load,
    logs,
    never_lost_flags,
    next_request,
    poll,
    revision,
    status,
    trouble,
)
from tests.support.grant_log import log_grants
from tests.support.own_threads import threads_of
from tests.support.real_fleet import Fleet, MemberContext, RecordingPosthog
from tests.support.servers import MakeRedis, RedisServer, until

EVERY = 0.5
LONG = 30.0

Keep = Callable[[AttachedContext], AttachedContext]


def open_files() -> set[str]:
    """Return what this process has open: sockets, pipes and files, by kind."""
    entries = list(Path("/proc/self/fd").iterdir())
    return {f"{entry.name} {entry.readlink()}" for entry in entries if entry.is_symlink()}  # the listing's is closed


def made_of(
    context: MemberContext, posthog: StandInControl, *, index: int = 1, token: str = "phc_test"
) -> RecordingPosthog:
    """One more client of this context's cache, not attached."""
    return RecordingPosthog(
        token,
        secret_key=key_of(index),
        host=posthog.url,
        poll_interval=EVERY,
        flag_definition_cache_provider=context.cache,
        flush_at=1,
    )


# --- attach ----------------------------------------------------------------------------------------------------------


def test_attach_returns_the_client_and_does_nothing_else(
    posthog: StandInControl, redis_url: str, namespace: str, here: Keep
) -> None:
    """A process that made and attached a client and never polls has no thread, no connection and no role."""
    files, running = open_files(), threads_of()
    cache = from_url(redis_url, namespace)
    client = Posthog("phc_test", secret_key="phs_0", host=posthog.url, flag_definition_cache_provider=cache, send=False)
    files_of_client = open_files()
    assert cache.attach(client) is client
    assert threads_of() == running
    assert open_files() == files_of_client
    assert not any("redis" in each or "flags.db" in each for each in open_files() - files)
    assert cache.status().role is Role.NEW
    assert posthog.requests == 0
    client.shutdown()


def test_a_client_attached_twice_is_attached_once(
    posthog: StandInControl, redis_url: str, namespace: str, here: Keep
) -> None:
    """A second `attach` of a client does nothing: a change runs its poll once, and there is one listener."""
    make = attached(posthog, redis_url, namespace, every=EVERY, polls=LONG)
    other, context = here(make(0)), here(make(1))
    load(other)
    assert context.cache.attach(context.client) is context.client
    load(context)
    assert context.cache.attach(context.client) is context.client
    until(lambda: threads_of() == ["flagcache-listener"] * 2, what="one listener each")
    poller = context.client.poller
    assert poller is not None
    pushed, execute = list[str](), cast("Callable[[], None]", poller.execute)

    def counted() -> None:
        pushed.append(threading.current_thread().name)
        execute()

    poller.execute = counted
    for number in (2, 3, 4):
        posthog.serve(make_definitions(5, revision=number))
        polls_until(other, number)
        until(lambda: revision(context) == number, what="the change")  # noqa: B023 - asked here and now
        if number == 2:
            pushed.clear()  # it may have asked by itself when it began to listen
    assert pushed == ["flagcache-listener"] * 2


def test_a_client_may_be_attached_after_it_was_loaded(
    posthog: StandInControl, redis_url: str, namespace: str, here: Keep
) -> None:
    """A client that was attached after its first load has a listener from its next poll on."""
    cache = from_url(redis_url, namespace, refresh_interval=EVERY, auto_attach=False)
    context = here(AttachedContext(made_of(AttachedContext(cast("RecordingPosthog", None), cache), posthog), cache))
    load(context)
    until(lambda: threads_of() == [], what="the thread of its fetch to end: no other was started")
    cache.attach(context.client)
    attached_at = posthog.requests
    next_request(posthog)
    posthog.serve(make_definitions(5, revision=2))
    until(lambda: revision(context) == 2, what="the change")
    assert only_own_fetches(posthog.served(after=attached_at + 1))  # one may have been under way
    until(lambda: threads_of() == ["flagcache-listener"], what="one listener, between two fetches")


@pytest.mark.parametrize("name", ["AsyncPosthog", "object"])
def test_only_a_posthog_can_be_attached(namespace: str, name: str) -> None:
    """`attach` refuses anything but a `posthog.Posthog`, and names its type."""
    cache = from_url("memory://", namespace)
    if name == "AsyncPosthog" and not hasattr(sdk, name):
        pytest.skip("the oldest SDKs have no asynchronous client")
    thing = sdk.AsyncPosthog("phc_test") if name == "AsyncPosthog" else object()
    with pytest.raises(ConfigurationError, match=f"not .*{type(thing).__name__}"):
        cache.attach(cast("Posthog", thing))


def test_a_client_of_another_project_is_refused(posthog: StandInControl, namespace: str, here: Keep) -> None:
    """A cache takes clients of one project; a second one of the same project is welcome."""
    context = here(attached(posthog, "memory://", namespace)(0))
    second, other = made_of(context, posthog), made_of(context, posthog, token="phc_other")
    assert context.cache.attach(second) is second
    with pytest.raises(ConfigurationError, match="another project") as refused:
        context.cache.attach(other)
    assert "phc_" not in str(refused.value)
    for client in (second, other):
        client.shutdown()


# --- the end ---------------------------------------------------------------------------------------------------------


def test_a_client_is_held_weakly(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """A client that is no longer referenced is collected, and the listener ends; the cache can be used again."""
    cache = from_url(redis_url, namespace, refresh_interval=EVERY)

    def attached_client() -> Posthog:  # without `send` the SDK itself keeps no reference to it
        client = Posthog(
            "phc_test",
            secret_key="phs_0",
            host=posthog.url,
            poll_interval=1,
            flag_definition_cache_provider=cache,
            send=False,
        )
        return cache.attach(client)

    first = attached_client()
    first.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    until(lambda: threads_of() == ["flagcache-listener"], what="the listener")
    assert first.poller is not None
    first.poller.stop()  # type: ignore[no-untyped-call]  # its thread holds the client
    gone = weakref.ref(first)
    del first
    until(lambda: (gc.collect(), gone())[1] is None, what="the client to be collected")
    until(lambda: threads_of() == [], 7.0, what="the listener to end")
    second = attached_client()
    second.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    until(lambda: threads_of() == ["flagcache-listener"], what="the listener")
    second.shutdown()


@pytest.mark.parametrize("store", ["redis", "sqlite", "memory"])
def test_nothing_outlives_the_clients_shutdown(
    posthog: StandInControl, redis_url: str, namespace: str, tmp_path: Path, store: str
) -> None:
    """After `client.shutdown()` none of our threads, sockets or files is left; with two clients, after the second."""
    url = {"redis": redis_url, "sqlite": f"sqlite:///{tmp_path / 'flags.db'}", "memory": "memory://"}[store]
    running, files = set(threading.enumerate()), open_files()
    context = attached(posthog, url, namespace, every=0.1)(0)
    second = made_of(context, posthog)
    context.cache.attach(second)
    for client in (context.client, second):
        client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    posthog.wait_for_requests(3, timeout=5.0)
    context.client.shutdown()
    posthog.serve(make_definitions(5, revision=2))
    until(lambda: second.history[-1].revision == 2, what="the change to reach the other client")
    assert revision(context) == 1
    second.shutdown()
    assert threads_of() == []
    until(lambda: set(threading.enumerate()) <= running, 2.0, what="all threads to end")
    until(lambda: open_files() <= files, 2.0, what="everything to be closed")
    asked = posthog.requests
    assert context.cache.status().role is not Role.LEADER
    assert posthog.requests == asked


def test_a_shutdown_does_not_wait_for_a_fetch(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """`client.shutdown()` during a fetch ends that fetch at once, and reports no failure."""
    context = attached(posthog, redis_url, namespace, every=0.1)(0)
    load(context)
    posthog.hold()
    posthog.wait_for_held(1, timeout=5.0)
    began = time.monotonic()
    context.client.shutdown()
    assert time.monotonic() - began < 3.0  # the poller waits up to a second, the shutdown for it
    assert threads_of() == []
    assert not [event for event in context.events if isinstance(event, FetchFailed)]
    posthog.release()


# --- forks -----------------------------------------------------------------------------------------------------------


def test_a_client_attached_before_the_fork_works_in_the_children(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """Forks of a client that was never loaded are one fleet without any call, and changes are pushed to them."""
    context = attached(posthog, redis_url, namespace, every=EVERY)(0)
    try:
        with log_grants(redis_url, namespace) as grants, Fleet(lambda _index: context, 5) as fleet:
            all_hold(fleet, 1, within=5.0)
            posthog.serve(make_definitions(5, revision=2))
            all_hold(fleet, 2, within=4 * EVERY)
            assert all(fleet.call(listens))
            assert len({each.worker for each in fleet.call(status)}) == 5
            assert only_own_fetches(posthog.served())
            assert grants.one_an_interval(asks(posthog), EVERY)
            assert all(never_lost_flags(member) and not trouble(member) for member in fleet)
        assert threads_of() == []  # nothing polled here
    finally:
        context.client.shutdown()


def test_a_fork_of_a_listening_process_listens_soon(
    posthog: StandInControl, redis_server: RedisServer, namespace: str, here: Keep
) -> None:
    """A child of a listening process listens about a second after the fork, long before its own first poll."""
    admin = redis_server.client()
    context = here(attached(posthog, redis_server.url, namespace, every=EVERY, polls=LONG)(0))
    load(context)
    subscribed(admin, namespace, 1)
    with Fleet(lambda _index: context, 3) as fleet:
        forked = time.monotonic()
        subscribed(admin, namespace, 4, within=3.0)
        assert time.monotonic() - forked > 0.5  # a shorter-lived child needs no listener
        posthog.serve(make_definitions(5, revision=2))
        polls_until(context, 2)
        all_hold(fleet, 2, within=2.0)
        assert {each.role for each in fleet.call(status)} == {Role.FOLLOWER}


def test_a_fork_right_after_the_load_keeps_the_fallback_store(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, here: Keep
) -> None:
    """If a process loads its client and forks at once, as a preloading server does, the child can use the fallback."""
    servers = [make_redis() for _ in range(3)]  # each creates its own fallback store
    for server in servers:
        context = here(attached(posthog, server.url, namespace, every=EVERY)(0))
        load(context)
        with Fleet(lambda _index, context=context: context, 1) as fleet:  # type: ignore[misc]  # a default binds it here and now
            [member] = fleet
            server.stop()
            member.call(poll)
            assert member.call(status).store_in_charge.startswith("sqlite://")


def test_nothing_is_imported_at_the_first_use(posthog: StandInControl, redis_url: str) -> None:
    """The first load imports nothing: a child forked during an import on a thread could never import that module."""
    script = f"""
        import sys
        from posthog import Posthog
        from flagcache import RedisFlagDefinitionCache
        cache = RedisFlagDefinitionCache({redis_url!r}, "imports")
        client = cache.attach(
            Posthog("phc_test", secret_key="phs_0", host={posthog.url!r}, flag_definition_cache_provider=cache)
        )
        before = set(sys.modules)
        client.load_feature_flags()
        assert client.feature_flags
        client.shutdown()
        print(sorted(set(sys.modules) - before))
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


# --- another project's namespace -------------------------------------------------------------------------------------


def test_a_namespace_that_another_project_wrote_is_not_used(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """In another project's namespace each worker logs one error, and has its own flags by its own fetches."""
    other = PostHogStandIn.spawn(make_definitions(5, team_id=2, revision=100))
    theirs_make = attached(other, redis_url, namespace, every=EVERY, token="phc_other")
    try:
        with (
            Fleet(attached(posthog, redis_url, namespace, every=EVERY), 2) as ours,
            Fleet(theirs_make, 2) as theirs,
        ):
            assert ours.call(load) == [1] * 2
            assert theirs.call(load) == [100] * 2
            for number in (2, 3):
                posthog.serve(make_definitions(5, revision=number))
                all_hold(ours, number, within=4 * EVERY)
            other.serve(make_definitions(5, team_id=2, revision=101))
            all_hold(theirs, 101, within=12 * EVERY)  # each on its own, and more slowly
            next_request(posthog)
            assert {seen.revision for each in ours.call(history) for seen in each} == {1, 2, 3}
            assert {seen.revision for each in theirs.call(history) for seen in each} == {100, 101}
            errors = [[line.text for line in lines if line.level >= logging.ERROR] for lines in theirs.call(logs)]
            assert [len(each) for each in errors] == [1, 1]
            assert all(
                "belongs to another project" in text and "give each project its own namespace" in text
                for [text] in errors
            )
            assert not [line for lines in ours.call(logs) for line in lines if line.level >= logging.ERROR]
    finally:
        other.stop()
