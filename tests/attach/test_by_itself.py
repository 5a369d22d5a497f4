"""Clients without a call of `attach`: the SDK's constructor alone has the same effect as `attach`."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import TypeAlias, cast

import pytest
from posthog import Posthog
from posthog.client import Client
from posthog.poller import Poller

from flagcache_posthog import AsyncRedisFlagDefinitionCache, FlagDefinitionCache, from_url
from flagcache_posthog._lifecycle import attached_clients
from flagcache_posthog.testing import RemoteStandIn, StandInControl, make_definitions
from tests.support.attached_clients import OWN_FETCH, adopted_at, listens, polls_until
from tests.support.fleet_tasks import (
    all_hold,
    asks,
    contexts,
    key_of,
    load,
    never_lost_flags,
    next_request,
    trouble,
)
from tests.support.grant_log import log_grants
from tests.support.other_thread_provider import OtherThreadProvider
from tests.support.own_threads import threads_of
from tests.support.real_fleet import Fleet, MemberContext, RecordingPosthog
from tests.support.servers import RedisServer, free_port, until
from tests.support.user_programs import posthog_environment

EVERY = 0.5
LONG = 30.0
TOGETHER = 0.5
"""Seconds within which a pushed change reaches a whole fleet, on a busy machine."""

pytestmark = pytest.mark.usefixtures("no_threads_left")

MakeClient = Callable[..., RecordingPosthog]
Provider: TypeAlias = FlagDefinitionCache | OtherThreadProvider


@pytest.fixture
def make_client(posthog: RemoteStandIn) -> Iterator[MakeClient]:
    """Makes clients by the SDK's constructor alone, and shuts them down when the test ends."""
    with ExitStack() as ends:

        def make(cache: Provider | None, *, polls: float = LONG, **options: object) -> RecordingPosthog:
            given = {"secret_key": "phs_0", "host": posthog.url, "flush_at": 1, **options}
            client = RecordingPosthog("phc_test", poll_interval=polls, flag_definition_cache_provider=cache, **given)
            ends.callback(client.shutdown)
            return client

        yield make


def load_here(client: Posthog) -> None:
    """Load flags as an application does."""
    client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped


def poll_on_its_thread(client: Client) -> None:
    """Let a new poller of the client poll at once, and become the one that the client knows."""
    known = client.poller
    assert known is not None

    interval, execute = cast("timedelta", known.interval), cast("Callable[[], None]", known.execute)

    def poll_once() -> None:
        execute()
        client.poller = known

    thread = Poller(interval, execute)  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    client.poller = thread
    thread.run = poll_once  # type: ignore[method-assign]
    thread.start()
    thread.join(10.0)
    assert not thread.is_alive()


def is_attached(client: Client) -> bool:
    """Return whether a cache has this client."""
    return any(other is client for other in attached_clients())


def searches() -> int:
    """Return how many threads search for clients."""
    return threads_of().count("flagcache-finder")


def without_provider(posthog: StandInControl, every: float) -> Callable[[int], MemberContext]:
    """Contexts of the plain SDK."""
    host = posthog.url

    def make(index: int) -> MemberContext:
        client = RecordingPosthog("phc_plain", secret_key=key_of(index), host=host, poll_interval=every, flush_at=1)
        return MemberContext(client, cast("FlagDefinitionCache", None))

    return make


def awaiting(posthog: StandInControl, url: str, namespace: str, every: float) -> Callable[[int], MemberContext]:
    """Seats with awaitable caches."""
    host = posthog.url

    def make(index: int) -> MemberContext:
        cache = AsyncRedisFlagDefinitionCache(url, namespace, refresh_interval=every)
        client = RecordingPosthog(
            "phc_test",
            secret_key=key_of(index),
            host=host,
            poll_interval=every,
            flag_definition_cache_provider=cache,
            flush_at=1,
        )
        return MemberContext(client, cast("FlagDefinitionCache", cache))

    return make


def load_one_by_one(fleet: Fleet, pause: float) -> None:
    """Load the members one after the other, so that their polls are this many seconds apart."""
    for member in fleet:
        member.call(load)
        threading.Event().wait(pause)


def spread(fleet: Fleet, number: int) -> float:
    """Return the seconds from the first member that held this revision to the last."""
    times = [adopted_at(member, number) for member in fleet]
    return max(times) - min(times)


# --- everything by one line ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "awaited"])
def test_forked_workers_have_a_change_at_once(
    posthog: RemoteStandIn, redis_server: RedisServer, namespace: str, kind: str
) -> None:
    """Four workers without a call of `attach` get a change together; plain SDKs each get it with their own poll."""
    every, apart = 2.0, 0.4
    ours = contexts(posthog, redis_server.url, namespace, every=every, auto_attach=True)
    make = ours if kind == "plain" else awaiting(posthog, redis_server.url, namespace, every)
    with Fleet(make, 4) as fleet, Fleet(without_provider(posthog, every), 4) as plain:
        load_one_by_one(fleet, apart)
        load_one_by_one(plain, apart)
        assert all(fleet.call(listens))
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=3 * every)
        all_hold(plain, 2, within=3 * every)
        assert spread(fleet, 2) < TOGETHER < 2 * apart < spread(plain, 2)
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_it_is_attached_right_after_its_first_load(
    posthog: RemoteStandIn, redis_server: RedisServer, namespace: str, make_client: MakeClient
) -> None:
    """A client that polls every 30 s listens a moment after its first load, whether it fetched or got stored flags."""
    with log_grants(redis_server.url, namespace):
        caches = [from_url(redis_server.url, namespace, refresh_interval=4 * EVERY) for _ in range(2)]
        clients = [make_client(cache) for cache in caches]
        for number, client in enumerate(clients, 1):
            load_here(client)
            until(lambda: threads_of() == ["flagcache-listener"] * number, 2.0, what="it to listen")  # noqa: B023
            assert is_attached(client)
        assert posthog.requests == 1
        posthog.serve(make_definitions(5, revision=2))
        polls_until(MemberContext(clients[0], caches[0]), 2)
        until(lambda: clients[1].history[-1].revision == 2, 2.0, what="the change to be pushed")


@pytest.mark.parametrize("kind", ["plain", "awaited"])
def test_the_fleet_makes_every_request(
    posthog: RemoteStandIn, redis_server: RedisServer, namespace: str, kind: str
) -> None:
    """The fleet makes every request, also the first one: one per interval, conditional."""
    ours = contexts(posthog, redis_server.url, namespace, every=EVERY, auto_attach=True)
    make = ours if kind == "plain" else awaiting(posthog, redis_server.url, namespace, EVERY)
    with log_grants(redis_server.url, namespace) as grants, Fleet(make, 4) as fleet:
        fleet.call(load)
        posthog.wait_for_requests(5, timeout=10 * EVERY)
        served = asks(posthog)
        assert all(OWN_FETCH in (request.user_agent or "") for request in served)
        assert all(request.if_none_match for request in served[1:])
        assert grants.one_an_interval(served, EVERY)
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_attached_and_not_are_one_fleet(posthog: RemoteStandIn, redis_server: RedisServer, namespace: str) -> None:
    """Attached workers and workers in protocol mode share one request per interval, and each change."""
    automatic = contexts(posthog, redis_server.url, namespace, every=EVERY, auto_attach=True)
    protocol = contexts(posthog, redis_server.url, namespace, every=EVERY)
    with (
        log_grants(redis_server.url, namespace) as grants,
        Fleet(lambda index: (automatic, protocol)[index % 2](index), 4) as fleet,
    ):
        fleet.call(load)
        for number in (2, 3):
            next_request(posthog)
            posthog.serve(make_definitions(5, revision=number))
            all_hold(fleet, number, within=6 * EVERY)
        assert fleet.call(listens) == [True, False, True, False]
        assert grants.one_an_interval(asks(posthog), EVERY)
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_children_of_a_loaded_parent_listen(posthog: RemoteStandIn, redis_server: RedisServer, namespace: str) -> None:
    """A preloaded client is attached in the children too, each of which listens soon after the fork."""
    context = contexts(posthog, redis_server.url, namespace, every=LONG, auto_attach=True)(0)
    try:
        load(context)
        until(lambda: listens(context), 2.0, what="the parent to listen")
        with Fleet(lambda _index: context, 4) as fleet:
            until(lambda: all(fleet.call(listens)), 5.0, what="the children to listen")
    finally:
        context.client.shutdown()


def test_a_fork_right_after_the_load_goes_on_looking(
    redis_server: RedisServer, namespace: str, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child whose parent had not found its client yet finds it, long before its own first poll."""
    monkeypatch.setattr("flagcache_posthog._finder._PAUSES", (0.5, 0.5))
    cache = from_url(redis_server.url, namespace, refresh_interval=LONG)
    context = MemberContext(make_client(OtherThreadProvider(cache)), cache)
    load(context)
    with Fleet(lambda _index: context, 2) as fleet:
        assert not is_attached(context.client)
        until(lambda: all(fleet.call(listens)), 8.0, what="the children to listen")


def test_children_of_a_parent_that_never_loaded_listen(
    posthog: RemoteStandIn, redis_server: RedisServer, namespace: str
) -> None:
    """Each child of a preloaded client that was never loaded is attached right after its own first load."""
    context = contexts(posthog, redis_server.url, namespace, every=LONG, auto_attach=True)(0)
    with Fleet(lambda _index: context, 3) as fleet:
        fleet.call(load)
        until(lambda: all(fleet.call(listens)), 2.0, what="all to listen")
        assert posthog.requests == 1
    assert threads_of() == []
    context.client.shutdown()


def test_the_sdks_global_client_is_attached(posthog: RemoteStandIn, redis_server: RedisServer, namespace: str) -> None:
    """The client behind `posthog.…`, which is of the SDK's base class, listens right after its first evaluation."""
    script = f"""
import threading, time
import posthog
from flagcache import RedisFlagDefinitionCache
posthog.api_key, posthog.secret_key, posthog.host = "phc_test", "phs_0", {posthog.url!r}
posthog.flag_definition_cache_provider = RedisFlagDefinitionCache({redis_server.url!r}, {namespace!r})
assert posthog.feature_enabled("flag-0", "a-user", only_evaluate_locally=True)
until = time.monotonic() + 5
while "flagcache-listener" not in [thread.name for thread in threading.enumerate()]:
    assert time.monotonic() < until
    time.sleep(0.01)
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
    assert done.stdout.splitlines() == ["['MainThread']"]
    assert OWN_FETCH in (asks(posthog)[0].user_agent or "")


def test_two_clients_that_load_at_once_are_both_attached(namespace: str, make_client: MakeClient) -> None:
    """Clients of one cache that load on two threads are both found, and so is a third one that loads later."""
    cache = from_url("memory://", namespace, refresh_interval=LONG)
    clients = [make_client(cache) for _ in range(3)]
    threads = [threading.Thread(target=load_here, args=(client,)) for client in clients[:2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: all(is_attached(client) for client in clients[:2]), 2.0, what="both to be attached")
    load_here(clients[2])
    until(lambda: is_attached(clients[2]), 2.0, what="the third one to be attached")
    assert threads_of().count("flagcache-listener") == 1


def test_a_refused_first_load_is_over_at_once(
    namespace: str, redis_server: RedisServer, make_client: MakeClient
) -> None:
    """If PostHog refuses connections, the first load doesn't take the whole `cold_start_wait`."""
    cache = from_url(redis_server.url, namespace, cold_start_wait=60.0)
    client = make_client(cache, host=f"http://127.0.0.1:{free_port()}")
    loading = threading.Thread(target=load_here, args=(client,))
    loading.start()
    loading.join(10.0)
    assert not loading.is_alive()


# --- which clients are not attached -----------------------------------------------------------------------------------


def test_a_client_that_does_not_use_the_cache_is_never_taken(
    posthog: RemoteStandIn, namespace: str, make_client: MakeClient
) -> None:
    """Clients without a provider, or with another cache, are not attached, although they poll at the same time."""
    cache, other = from_url("memory://", namespace), from_url("memory://", f"{namespace}-2", auto_attach=False)
    plain, foreign, own = make_client(None), make_client(other), make_client(cache)
    for client in (plain, foreign, own):
        load_here(client)
    until(lambda: is_attached(own), 2.0, what="its own client to be attached")
    for client in (plain, foreign):
        poll_on_its_thread(client)
    until(lambda: searches() == 0, 5.0, what="the search to end")
    assert not is_attached(plain)
    assert not is_attached(foreign)


def test_a_client_at_hand_is_not_taken_for_the_caller(namespace: str, make_client: MakeClient) -> None:
    """A user's function that has another client as its argument, and calls the cache, attaches nothing."""
    cache, other = from_url("memory://", namespace), make_client(None)

    def warm_up(_client: Client) -> None:
        cache.should_fetch_flag_definitions()

    warm_up(other)
    assert not is_attached(other)
    own = make_client(cache)
    load_here(own)
    assert is_attached(own)


def test_auto_attach_can_be_refused(namespace: str, make_client: MakeClient) -> None:
    """With `auto_attach=False` there is no listener, before and after a poll."""
    cache = from_url("memory://", namespace, auto_attach=False)
    client = make_client(cache)
    load_here(client)
    poll_on_its_thread(client)
    assert threads_of() == []
    assert not is_attached(client)
    assert cache.attach(client) is client
    assert is_attached(client)


def test_attaching_a_client_that_was_found_does_nothing(namespace: str, make_client: MakeClient) -> None:
    """An additional `attach` is harmless, before the first load or after it."""
    cache = from_url("memory://", namespace, refresh_interval=LONG)
    first, second = make_client(cache), make_client(cache)
    cache.attach(first)
    for client in (first, second):
        load_here(client)
    until(lambda: is_attached(second), 2.0, what="it to be attached")
    cache.attach(second)
    until(lambda: threads_of() == ["flagcache-listener"], 2.0, what="one listener alone")


def test_a_client_of_another_project_is_named_once(
    posthog: RemoteStandIn, namespace: str, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that `attach` would refuse is not attached, still polls, and is logged once with the remedy."""
    cache = from_url("memory://", namespace, refresh_interval=LONG)
    load_here(make_client(cache))
    until(lambda: "flagcache-listener" in threads_of(), 2.0, what="the first one to be attached")
    other = Posthog("phc_other", secret_key="phs_0", host=posthog.url, flag_definition_cache_provider=cache)
    before = posthog.requests
    load_here(other)
    assert asks(posthog)[before].token == "phc_other", "it fetches for itself, and is not given the first one's flags"
    with caplog.at_level(logging.ERROR, "flagcache_posthog"):
        until(lambda: "another project" in caplog.text, 3.0, what="the refusal")
        poll_on_its_thread(other)
    assert caplog.text.count("another project") == 1
    assert "give each project a cache" in caplog.text
    assert "phc_" not in caplog.text
    assert not is_attached(other)
    other.shutdown()


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_a_reader_has_no_thread(
    posthog: RemoteStandIn, store_url: str, namespace: str, make_client: MakeClient
) -> None:
    """A reader's client is attached at its first poll, and no flagcache thread is ever started for it."""
    load_here(make_client(from_url(store_url, namespace, auto_attach=False)))
    client = make_client(from_url(store_url, namespace, role="reader"))
    load_here(client)
    assert client.feature_flags
    assert threads_of() == []
    poll_on_its_thread(client)
    assert is_attached(client)
    assert threads_of() == []
    assert posthog.requests == 1


def test_with_zero_flags_it_is_attached_too(posthog: RemoteStandIn, namespace: str, make_client: MakeClient) -> None:
    """A client of a project without flags is attached at its first load."""
    posthog.serve({"flags": [], "group_type_mapping": {}, "cohorts": {}})
    client = make_client(from_url("memory://", namespace, refresh_interval=LONG))
    load_here(client)
    assert is_attached(client)
    until(lambda: threads_of() == ["flagcache-listener"], 2.0, what="the listener alone, once the change is reported")


def test_a_client_that_never_polls_has_no_thread(
    posthog: RemoteStandIn, namespace: str, make_client: MakeClient
) -> None:
    """A client without a poller gets flags at each load, by the fleet's own fetch."""
    client = make_client(from_url("memory://", namespace, refresh_interval=LONG), enable_local_evaluation=False)
    load_here(client)
    assert client.feature_flags
    assert OWN_FETCH in (asks(posthog)[0].user_agent or "")
    assert threads_of() == []
    assert not is_attached(client)


@pytest.mark.parametrize("attached", [True, False], ids=["attached", "not attached"])
def test_a_client_that_never_polls_has_what_its_load_fetched(
    posthog: RemoteStandIn, namespace: str, make_client: MakeClient, attached: bool
) -> None:
    """Each later load waits for the fetch that it starts, however slow it is, as the SDK's own load does."""
    cache = from_url("memory://", namespace, refresh_interval=0.1, store_timeout=0.2, auto_attach=attached)
    client = make_client(cache, enable_local_evaluation=False)
    load_here(client)
    for number in (2, 3):
        posthog.serve(make_definitions(5, revision=number))
        posthog.set_delay(0.5)
        until(lambda: (cache.status().age or 0) > 0.2, 2.0, what="a fetch to be due")
        load_here(client)
        assert client.history[-1].revision == number


def test_the_looking_ends(namespace: str, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for a client without a poller is limited, and isn't repeated for the same definitions."""
    monkeypatch.setattr("flagcache_posthog._finder._PAUSES", (0.02,) * 5)
    provider = OtherThreadProvider(from_url("memory://", namespace, refresh_interval=LONG))
    client = make_client(provider, enable_local_evaluation=False)
    load_here(client)
    until(lambda: threads_of() == [], 2.0, what="the search to end")
    load_here(client)
    assert threads_of() == []
    assert not is_attached(client)


def test_a_poller_that_is_just_starting_is_no_dead_one(
    namespace: str, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client whose poller is listed among the threads before it is alive is attached as soon as it is."""
    name = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
    start = cast("Callable[..., object]", getattr(threading, name))

    def late(run: Callable[[], object], *args: object, **options: object) -> object:
        if isinstance(getattr(run, "__self__", None), Poller):
            threading.Event().wait(0.3)
        return start(run, *args, **options)

    monkeypatch.setattr(threading, name, late)
    client = make_client(OtherThreadProvider(from_url("memory://", namespace, refresh_interval=LONG)))
    load_here(client)
    until(lambda: "flagcache-listener" in threads_of(), 2.0, what="it to listen")
    assert is_attached(client)


def test_a_shutdown_while_it_is_found_leaves_nothing(
    namespace: str, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that is shut down just when the search finds it leaves no listener behind."""
    cache = from_url("memory://", namespace, refresh_interval=LONG)
    client, attach, done = make_client(OtherThreadProvider(cache)), cache.attach, threading.Event()

    def late(found: Posthog) -> Posthog:
        client.shutdown()
        attach(found)
        done.set()
        return found

    monkeypatch.setattr(cache, "attach", late)
    load_here(client)
    assert done.wait(15.0)  # older SDKs wait for the flush interval of 5 seconds in `shutdown`
    until(lambda: threads_of() == [], 2.0, what="all threads to end")


def test_it_is_held_weakly(namespace: str, posthog: RemoteStandIn) -> None:
    """A client that was found and is no longer referenced is collected."""
    cache = from_url("memory://", namespace, refresh_interval=LONG)

    def found() -> int:
        client = Posthog(
            "phc_test", secret_key="phs_0", host=posthog.url, flag_definition_cache_provider=cache, send=False
        )
        load_here(client)
        until(lambda: is_attached(client), 2.0, what="it to be attached")
        poller = client.poller
        assert poller is not None
        poller.stop()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
        return id(client)

    was = found()

    def collected() -> bool:
        gc.collect()
        return was not in [id(client) for client in attached_clients()]

    until(collected, 5.0, what="it to be collected")
    cache.shutdown()
