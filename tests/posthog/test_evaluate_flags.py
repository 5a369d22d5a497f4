"""The SDK's snapshots (`evaluate_flags`) and its own cache of results, on definitions that a fleet shares."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeAlias, cast

import posthog as sdk
import pytest
import redis
from posthog import Posthog

from flagcache.cli import main
from flagcache_posthog import from_url
from flagcache_posthog.request_flags import RequestFlags
from flagcache_posthog.testing import Drop, Fault, Garble, Refuse, RemoteStandIn, make_flag
from tests.support.redis_server import RedisServer
from tests.support.servers import until

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")
"""By the SDK's cache, of which redis-py 8 warns; raised as an error it would be a write that failed."""

Member: TypeAlias = Callable[..., Posthog]

LOCAL = {"on": True, "off": False, "price": "b"}
"""The values of the flags that can be decided locally, for every user."""


def _definitions(price: str = "b") -> dict[str, object]:
    sticky = make_flag("sticky", variants={"s": 100})
    sticky["ensure_experience_continuity"] = True
    flags = [make_flag("on"), make_flag("off", active=False), make_flag("price", variants={price: 100}), sticky]
    return {"flags": flags, "group_type_mapping": {}, "cohorts": {}}


@pytest.fixture
def member(posthog: RemoteStandIn, namespace: str) -> Iterator[Member]:
    """Makes members of one fleet: clients, each with a cache of its own."""
    posthog.serve(_definitions())
    with ExitStack() as ends:

        def make(store: str, **options: Any) -> Posthog:  # noqa: ANN401 - the SDK's
            made = Posthog(
                "phc_test",
                secret_key="phs_test",
                host=posthog.url,
                send=False,
                feature_flags_request_max_retries=0,
                flag_definition_cache_provider=from_url(store, namespace, refresh_interval=1),
                **options,
            )
            ends.callback(made.shutdown)
            return made

        yield make


def _values(snapshot: Any) -> dict[str, object]:  # noqa: ANN401 - the SDK's
    return {key: snapshot.get_flag(key) for key in snapshot.keys}


def _everything(client: Posthog) -> object:
    return client.evaluate_flags("user", only_evaluate_locally=True)


def _named(client: Posthog) -> object:
    return client.evaluate_flags("user", flag_keys=[*LOCAL])


def _of_the_module(client: Posthog) -> object:
    sdk.default_client = client
    return sdk.evaluate_flags("user", flag_keys=[*LOCAL])


def _of_a_request(client: Posthog) -> object:
    return RequestFlags(client, "user").snapshot(*LOCAL)


@pytest.mark.parametrize("evaluate", [_everything, _named, _of_the_module, _of_a_request])
def test_a_snapshot_needs_no_posthog(
    evaluate: Callable[[Posthog], object],
    member: Member,
    posthog: RemoteStandIn,
    store_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After one member fetched, another one evaluates from the store, although PostHog is down."""
    monkeypatch.setattr(sdk, "default_client", None)
    _everything(member(store_url))
    assert posthog.counts().requests == 1
    port = int(posthog.url.rpartition(":")[2])
    posthog.stop()
    reached: list[object] = []
    own: Any = socket.socket.connect

    def connect(this: socket.socket, address: object) -> None:
        reached.append(address)
        own(this, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    reader = member(store_url, poll_interval=60)
    assert _values(evaluate(reader)) == LOCAL
    assert ("127.0.0.1", port) not in reached
    assert bool(reached) is not store_url.startswith("sqlite"), "an SQLite store needs no socket"


@pytest.mark.parametrize("fault", [Drop(), Refuse(503), Refuse(401), Garble("no JSON")], ids=repr)
def test_a_snapshot_is_partial_when_the_remote_part_fails(
    fault: Fault, member: Member, posthog: RemoteStandIn, store_url: str
) -> None:
    """A partial snapshot has what shared definitions decide; the next one is complete again."""
    client = member(store_url)
    assert _values(client.evaluate_flags("user")) == {**LOCAL, "sticky": "s"}
    posthog.fail(fault, path="flags")
    taken = client.evaluate_flags("user", flag_keys=[*LOCAL, "sticky"])
    assert _values(taken) == _values(client.evaluate_flags("user")) == LOCAL
    assert (taken.get_flag("sticky"), taken.is_enabled("sticky")) == (None, False)
    posthog.recover()
    assert _values(client.evaluate_flags("user")) == {**LOCAL, "sticky": "s"}


@pytest.fixture(params=["memory", "redis"])
def results_url(request: pytest.FixtureRequest, redis_server: RedisServer) -> str:
    """Return each kind of the SDK's cache of results in turn; with Redis it is in the fleet's own database."""
    return "memory://local/?ttl=300&size=100" if request.param == "memory" else f"{redis_server.tcp_url}?ttl=300"


def _sticky(client: Posthog, user: str = "user") -> object:
    result = client.get_feature_flag_result("sticky", user)
    return None if result is None else result.get_value()


def test_the_sdks_cache_of_results_works_beside_it(
    member: Member, posthog: RemoteStandIn, redis_server: RedisServer, results_url: str
) -> None:
    """The SDK's cache answers only for a flag that PostHog decided before; definitions are still shared."""
    first, second = (member(redis_server.tcp_url, flag_fallback_cache_url=results_url) for _ in range(2))
    assert (_sticky(first), _sticky(second)) == ("s", "s")
    posthog.fail(Drop(), path="flags")
    assert (_sticky(first), _sticky(second), _sticky(first, "another")) == ("s", "s", None)
    assert _values(first.evaluate_flags("user")) == LOCAL, "snapshots don't use it"
    posthog.serve(_definitions(price="c"))
    for client in (first, second):
        until(lambda client=client: _values(_everything(client))["price"] == "c", what="the change")  # type: ignore[misc]
    assert posthog.counts().full_fetches == 2


def test_neither_touches_the_others_keys(
    member: Member, posthog: RemoteStandIn, make_redis: Callable[..., RedisServer], namespace: str
) -> None:
    """The SDK's cache deletes keys that begin with `posthog:flags:`, at a change and when it is cleared."""
    server = make_redis(tcp=True)
    client = member(server.tcp_url, flag_fallback_cache_url=f"{server.tcp_url}?ttl=300")
    assert _sticky(client) == "s"
    keys = redis.Redis.from_url(server.tcp_url)

    def theirs_and_ours() -> tuple[set[bytes], set[bytes]]:
        found = {*cast("Iterator[bytes]", keys.scan_iter())}
        theirs = {key for key in found if key.startswith(b"posthog:flags:")}
        return theirs, {key for key in found - theirs if namespace.encode() in key}

    theirs, ours = theirs_and_ours()
    assert theirs
    assert ours
    assert len(theirs | ours) == keys.dbsize()
    posthog.serve(_definitions(price="c"))
    until(lambda: _values(_everything(client))["price"] == "c", what="the change")
    cache: Any = client.flag_cache
    cache.clear()
    assert theirs_and_ours() == (set(), ours)
    assert _sticky(client) == "s"
    theirs = theirs_and_ours()[0]
    full_fetches = posthog.counts().full_fetches
    assert _values(_everything(member(server.tcp_url)))["price"] == "c"
    assert posthog.counts().full_fetches == full_fetches
    assert main(["clear", server.tcp_url, namespace, "--yes"]) == 0
    assert theirs_and_ours()[0] == theirs
    keys.close()
