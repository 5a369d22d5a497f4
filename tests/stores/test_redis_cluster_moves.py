# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""A cluster whose nodes are replaced at new addresses, as pods are; and one with a slot left migrating."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import cast

import pytest
import redis
import redis.asyncio
from redis.cluster import ClusterNode
from redis.crc import key_slot

from flagcache.errors import StoreError
from flagcache.stores.base import Ask, Envelope, Meta, Order, Published
from flagcache.stores.redis import cluster as cluster_route
from flagcache.stores.redis.address import RedisTarget
from flagcache.stores.redis.asyncio_address import resolve_asyncio
from flagcache.stores.redis.store import RedisStore
from tests.stores.redis_cluster import Cluster, ClusterServer, field_of, new_cluster, replicates, run_command
from tests.support.failing_proxy import Proxy
from tests.support.redis_links import ESCAPED, SECRET, WRITE, Source, link_to, writes
from tests.support.servers import until


def replace(cluster: Cluster, stack: ExitStack, old: ClusterServer) -> None:
    """Replace a primary by a new node at another address."""
    others = [server for server in cluster.primaries if server is not old]
    new = stack.enter_context(ClusterServer())
    run_command(others[0], "CLUSTER", "MEET", "127.0.0.1", new.port, new.bus_port)
    until(lambda: replicates(new, old), what="the new node to know the old one")
    until(lambda: field_of(new, "INFO", "replication", field="master_link_status") == "up", what="its data")
    gone = cast("bytes", run_command(old, "CLUSTER", "MYID"))
    until(lambda: takes_over(new), what="the new node to take over")
    old.kill()
    until(lambda: all(forgets(server, gone) for server in (*others, new)), what="the old node to be forgotten")
    cluster.primaries[cluster.primaries.index(old)] = new
    until(lambda: all(field_of(each, "CLUSTER INFO", field="cluster_state") == "ok" for each in cluster.primaries))


def takes_over(new: ClusterServer) -> bool:
    """Let a replica become the primary, if it is none yet."""
    if field_of(new, "INFO", "replication", field="role") == "master":
        return True
    with suppress(redis.ResponseError):
        run_command(new, "CLUSTER", "FAILOVER")
    return False


def forgets(server: ClusterServer, node: bytes) -> bool:
    """Let a node forget another, once it does not take it for its own primary any more."""
    try:
        run_command(server, "CLUSTER", "FORGET", node)
    except redis.ResponseError as exc:
        return "Unknown node" in str(exc)
    return True


def replace_all(cluster: Cluster, stack: ExitStack, last: int, between: Callable[[], object]) -> None:
    """Replace all primaries one by one, this one last, and do something after each."""
    run_command(cluster.replica, "CLUSTER", "RESET", "HARD")
    cluster.replica.kill()
    for index in sorted(range(3), key=lambda index: index == last):
        replace(cluster, stack, cluster.primaries[index])
        between()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is closed in the end."""
    with ExitStack() as stack:
        yield stack


def test_the_client_handed_in_knows_where_the_nodes_moved(stack: ExitStack) -> None:
    """A link works through the replacements; one that rested meanwhile continues with what the client has learned."""
    with new_cluster() as cluster, closing(cluster.client()) as client, link_to(client) as link:
        key = cluster.key_of(1)
        link.run(WRITE, [key], ["before"])
        replace_all(cluster, stack, 1, lambda: until(lambda: client_goes_on(client), what="the user's own client"))
        until(lambda: writes(link, key), what="the link to find the new nodes")
        with closing(link.subscribe("news")) as channel:
            run_command(cluster.primaries[0], "PUBLISH", "news", b"heard")
            assert channel.get(5) == b"heard"


def client_goes_on(client: redis.RedisCluster) -> bool:
    """Whether the user's own client reaches all nodes."""
    try:
        return all(client.set(f"{random.random()}", "x") for _ in range(20))
    except redis.RedisError:
        return False


@pytest.mark.parametrize("kind", ["client", "asyncio client", "url"])
def test_a_start_up_name_leads_to_the_new_nodes(stack: ExitStack, kind: str) -> None:
    """The user's client rests too; behind the name that it was given there are nodes that live."""
    with new_cluster() as cluster, Proxy(cluster.primaries[0].port) as name:
        sources: dict[str, Callable[[], Source]] = {
            "client": lambda: sync_client(stack, name.port),
            "asyncio client": lambda: asyncio_client(name.port),
            "url": lambda: f"redis+cluster://:{ESCAPED}@127.0.0.1:{name.port}",
        }
        link = stack.enter_context(link_to(sources[kind]()))
        key = cluster.key_of(1)
        link.run(WRITE, [key], ["before"])
        replace_all(cluster, stack, 1, lambda: name.forward_to(cluster.primaries[0].port))
        until(lambda: writes(link, key), what="the link to find the new nodes")


def sync_client(stack: ExitStack, port: int) -> redis.RedisCluster:
    """A client as a user makes it, of one node."""
    nodes = [ClusterNode("127.0.0.1", port)]
    client = stack.enter_context(closing(redis.RedisCluster(startup_nodes=nodes, password=SECRET)))
    if not hasattr(client, "startup_nodes"):
        pytest.skip("before redis-py 7 a client forgets the names with which it was started")
    return client


def asyncio_client(port: int) -> RedisTarget:
    """What is known from an asyncio client before its first command."""
    return resolve_asyncio(redis.asyncio.RedisCluster("127.0.0.1", port, password=SECRET))


def test_nodes_are_learned_anew_from_time_to_time(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without client and name, a link that runs meanwhile learns each new node from the owner of its keys."""
    with new_cluster() as cluster, closing(cluster.client()) as client:
        key = cluster.key_of(1)
        now = 0.0
        monkeypatch.setattr(cluster_route, "monotonic", lambda: now)
        link = stack.enter_context(link_to(client))
        client.close()
        link.run(WRITE, [key], ["before"])

        def later() -> None:
            nonlocal now
            now += 1000.0
            until(lambda: writes(link, key), what="the owner")

        replace_all(cluster, stack, 1, later)
        until(lambda: writes(link, key), what="the link to find the new owner")


def test_a_node_that_failed_is_asked_last(stack: ExitStack) -> None:
    """A lost owner costs one call, even if there are dead nodes that the link has met before."""
    with new_cluster() as cluster, closing(cluster.client()) as client, link_to(client) as link:
        key = cluster.key_of(1)
        link.run(WRITE, [key], ["before"])
        replace_all(cluster, stack, 1, lambda: until(lambda: client_goes_on(client), what="the user's own client"))
        failures = 0
        while not writes(link, key):
            failures += 1
        assert failures <= 1


LONG = 60_000
ASK = Ask("leader", LONG, LONG, LONG, LONG)


@contextmanager
def stuck(cluster: Cluster, store: RedisStore) -> Generator[Meta]:
    """The slot of a namespace is left migrating while it has definitions and no lease."""
    grant = store.poll(ASK).grant
    assert grant is not None
    meta = Meta("v1", grant.epoch, grant.as_of, grant.at, grant.at)
    assert store.publish("leader", Envelope(meta, b"some"), fresh=True, lease=LONG) is Published.STORED
    slot = key_slot(store.keys.hash.encode())
    [source] = [each for each in cluster.primaries if owns(each, store.keys.hash)]
    target = next(each for each in cluster.primaries if each is not source)
    source_id, target_id = (cast("bytes", run_command(server, "CLUSTER", "MYID")) for server in (source, target))
    run_command(source, "DEL", store.keys.lease)
    run_command(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    run_command(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    try:
        yield meta
    finally:
        for server in (source, target):
            run_command(server, "CLUSTER", "SETSLOT", slot, "STABLE")


def owns(server: ClusterServer, key: str) -> bool:
    """Whether this node has the slot of a key."""
    try:
        run_command(server, "EXISTS", key)
    except redis.ResponseError:
        return False
    return True


@pytest.fixture(scope="module")
def whole() -> Iterator[Cluster]:
    """A cluster that the tests below leave whole."""
    with new_cluster() as cluster:
        yield cluster


def test_readers_read_while_a_slot_is_left_migrating(whole: Cluster, namespace: str) -> None:
    """TRYAGAIN is about the lease, which is not there: a process that does not lead needs none."""
    with closing(whole.client()) as client, closing(RedisStore(client, namespace)) as store:
        reader = RedisStore(client, namespace)
        with stuck(whole, store) as meta:
            for held in (None, None):
                reply = reader.poll(Ask("reader", LONG, LONG, LONG, LONG, may_lead=False, held=held))
                assert (reply.meta, reply.payload, reply.leads, reply.lease_left) == (meta, b"some", False, 0)
            held = Order(meta.epoch, meta.as_of)
            ask = Ask("reader", LONG, LONG, LONG, LONG, may_lead=False, held=held, held_version="v1", held_age=1)
            assert reader.poll(ask).unchanged
        reader.close()


def test_a_worker_without_definitions_reads_them_and_one_with_some_is_told(whole: Cluster, namespace: str) -> None:
    """The first needs flags more than a leader; the other uses its machine's file, where it can fetch."""
    with closing(whole.client()) as client, closing(RedisStore(client, namespace)) as store:
        with stuck(whole, store) as meta:
            newcomer = RedisStore(client, namespace)
            assert newcomer.poll(ASK._replace(me="newcomer")).payload == b"some"
            ask = ASK._replace(held=Order(meta.epoch, meta.as_of), held_version="v1", held_age=1)
            for each in (ask, ask._replace(may_lead=False)):
                with pytest.raises(StoreError, match=r"TryAgain|TRYAGAIN"):
                    newcomer.poll(each)
            newcomer.close()
        assert store.poll(ask).leads


def test_a_slot_on_its_way_for_a_moment_costs_no_failure(
    whole: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call asks again within its time."""
    with closing(whole.client()) as client, closing(RedisStore(client, namespace)) as store, ExitStack() as moving:
        moving.enter_context(stuck(whole, store))

        def arrive(_seconds: float) -> None:
            moving.close()

        monkeypatch.setattr(cluster_route, "pause", arrive)
        assert store.poll(ASK).leads
