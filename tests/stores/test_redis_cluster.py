# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import cast

import pytest
import redis
import redis.asyncio
from redis.crc import key_slot

from flagcache.errors import StoreError
from flagcache.stores.redis.asyncio_address import resolve_asyncio
from flagcache.stores.redis.connection import RedisLink
from flagcache.stores.redis.store import keys_of
from flagcache_posthog.testing import make_definitions
from tests.stores.redis_cluster import SLOTS, Cluster, new_cluster, patient, run_command
from tests.stores.shared_definitions import clients_share, sharing_clients
from tests.support.redis_links import READ, SECRET, WRITE, calls_since, link_to, writes
from tests.support.servers import until


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Cluster]:
    """A cluster that the tests of this module leave whole."""
    with new_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    """The shared cluster, once it is whole."""
    shared_cluster.wait_until_ok()
    return shared_cluster


def test_scripts_run_where_their_keys_are(cluster: Cluster) -> None:
    """Scripts reach the owner of their keys, replies are bytes, and the client handed in is left as it was."""
    with closing(cluster.client()) as client, link_to(client) as link:
        ports = sorted(server.port for server in cluster.servers)
        assert link.address == "redis-cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        assert (link.database, SECRET in repr(link)) == (0, False)
        for index in range(3):
            key = cluster.key_of(index, "where")
            link.run(WRITE, [key], [f"value {index}"])
            assert link.run(READ, [key], []) == f"value {index}".encode()
            assert client.get(key) == f"value {index}"
        assert link.fingerprint == RedisLink(client, timeout=2).fingerprint
        link.close()
        assert client.get(cluster.key_of(0, "where")) == "value 0"


def test_an_asyncio_client_that_has_asked_nothing_yet_leads_to_every_node(cluster: Cluster) -> None:
    """The client knows one node, which knows the others; it opens no connection itself."""
    client = redis.asyncio.RedisCluster("127.0.0.1", cluster.primaries[0].port, password=SECRET)
    with link_to(resolve_asyncio(client)) as link:
        for index in range(3):
            key = cluster.key_of(index, "asyncio")
            link.run(WRITE, [key], [f"value {index}"])
            assert link.run(READ, [key], []) == f"value {index}".encode()
    assert client.get_nodes() == []


def test_a_run_is_one_command_once_the_owner_is_known(cluster: Cluster) -> None:
    """After the first run only the owner of the keys is asked, once a run; no node is asked for the topology."""
    key = cluster.key_of(1, "once")
    with closing(cluster.client()) as client, link_to(client) as link, ExitStack() as stack:
        link.run(WRITE, [key], ["x"])
        admins = [stack.enter_context(closing(server.client(password=SECRET))) for server in cluster.primaries]
        for admin in admins:
            calls_since(admin)
        for _ in range(5):
            link.run(WRITE, [key], ["x"])
        calls = [calls_since(admin) for admin in admins]
        assert calls[1] == {"evalsha": 5, "set": 5}
        assert not any(name.startswith(("eval", "cluster")) for each in (calls[0], calls[2]) for name in each)


def test_a_slot_that_moves_is_followed(cluster: Cluster) -> None:
    """While a slot moves its new owner is asked (ASK), and afterwards first (MOVED), without a failure."""
    key = cluster.key_of(0, "moving")
    slot = key_slot(key.encode())
    source, target = cluster.primaries[0], cluster.primaries[2]
    source_id, target_id = (cast("bytes", run_command(server, "CLUSTER", "MYID")) for server in (source, target))
    with closing(cluster.client()) as client, link_to(client) as link:
        assert link.run(READ, [key], []) is None
        run_command(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        run_command(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        link.run(WRITE, [key], ["moved"])
        assert link.run(READ, [key], []) == b"moved"
        run_command(target, "CLUSTER", "SETSLOT", slot, "NODE", target_id)
        run_command(source, "CLUSTER", "SETSLOT", slot, "NODE", target_id)
        assert link.run(READ, [key], []) == b"moved"
        assert run_command(target, "GET", key) == b"moved"


def test_a_subscription_hears_what_any_node_publishes(cluster: Cluster) -> None:
    """A message arrives from whichever node it was published on."""
    with closing(cluster.client()) as client, link_to(client) as link, closing(link.subscribe("news")) as channel:
        for server in cluster.servers:
            run_command(server, "PUBLISH", "news", b"\xff%d" % server.port)
            assert channel.get(5) == b"\xff%d" % server.port


def test_a_frozen_node_costs_one_timeout(cluster: Cluster) -> None:
    """A frozen owner costs each run about one timeout; the keys of other nodes are served as ever."""
    with closing(cluster.client()) as client, link_to(client, timeout=0.7) as link, patient(cluster):
        for index in range(3):
            link.run(WRITE, [cluster.key_of(index, "frozen")], ["x"])
        cluster.primaries[1].freeze()
        try:
            for _ in range(2):
                began = time.monotonic()
                with pytest.raises(StoreError):
                    link.run(WRITE, [cluster.key_of(1, "frozen")], ["y"])
                assert time.monotonic() - began < 1.4
            assert link.run(READ, [cluster.key_of(2, "frozen")], []) == b"x"
        finally:
            cluster.primaries[1].thaw()


def test_runs_succeed_again_after_a_primary_died() -> None:
    """A run on a dead primary fails at once, without retries; when its replica took over, runs succeed again."""
    with new_cluster() as cluster, closing(cluster.client()) as client, link_to(client, timeout=4) as link:
        key = cluster.key_of(0)
        link.run(WRITE, [key], ["before"])
        until(lambda: run_command(cluster.replica, "DBSIZE") == 1, what="the replica to have the key")
        cluster.primaries[0].kill()
        began = time.monotonic()
        with pytest.raises(StoreError, match="redis-cluster://"):
            link.run(WRITE, [key], ["after"])
        assert time.monotonic() - began < 2
        until(lambda: writes(link, key), 15.0, what="the replica to take over")
        assert run_command(cluster.replica, "GET", key) == b"written"


def test_a_fleet_shares_on_a_cluster(cluster: Cluster, namespace: str) -> None:
    """One fetch serves three attached clients, and a change is pushed, whichever node has the namespace's slot."""
    with closing(cluster.client()) as client:
        clients_share(client, namespace)
        assert client.ping()


def test_a_fleet_gets_over_the_death_of_its_primary() -> None:
    """The workers keep their flags, follow changes meanwhile, and are one fleet again on the replica."""
    spaces = (f"space {number}" for number in range(100))
    namespace = next(each for each in spaces if key_slot(keys_of(each, 0).hash.encode()) * 3 // SLOTS == 0)
    with new_cluster() as cluster, closing(cluster.client()) as client, sharing_clients(client, namespace) as made:
        until(lambda: run_command(cluster.replica, "DBSIZE") == 2, what="the replica to have hash and lease")
        cluster.primaries[0].kill()
        made.posthog.serve(make_definitions(5, revision=2))
        made.wait_until_all_hold(2, within=30.0)
        until(lambda: made.one_fleet, 20.0, what="the fleet to be one again")
        assert made.none_went_back()
        before = made.posthog.full_fetches
        made.change(3)
        assert made.posthog.full_fetches == before + 1
