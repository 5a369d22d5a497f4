"""Which node of a cluster is asked next."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from redis.connection import Connection

from flagcache.stores.redis.cluster_nodes import KnownNodes
from flagcache.stores.redis.pools import Address, ClusterNodes, Server


class LearningCluster:
    """A cluster client that learns, and a clock."""

    def __init__(self, *known: str, names: Sequence[str] = (), complete: bool = True) -> None:
        self.now = 0.0
        self.current = at(*known)
        self.broken = False
        nodes = ClusterNodes(
            Server(Connection, {}),
            self.current,
            lambda host, port: (host.upper(), port),
            names=at(*names),
            current=self._look,
            complete=complete,
        )
        self.nodes = KnownNodes(nodes, lambda: self.now)

    def _look(self) -> Sequence[Address]:
        if self.broken:
            raise RuntimeError("dictionary changed size during iteration")
        return self.current

    def next(self, number: int = 20) -> set[str]:
        """Which nodes come next, if none fails."""
        return {self.nodes.next()[0] for _ in range(number)}

    def fail(self, *hosts: str) -> None:
        """Let nodes fail, in this order."""
        for address in at(*hosts):
            self.nodes.failed(address)


def at(*hosts: str) -> tuple[Address, ...]:
    """The addresses of nodes."""
    return tuple((host, 6379) for host in hosts)


def test_each_has_its_turn() -> None:
    """All nodes share the load of a fleet's first commands and of its subscriptions."""
    assert LearningCluster("a", "b", "c").next() == {"a", "b", "c"}


def test_one_that_failed_waits_until_it_answers() -> None:
    """Then the others are asked, and, if all failed, the one whose failure is the oldest."""
    world = LearningCluster("a", "b", "c")
    world.fail("a")
    assert world.next() == {"b", "c"}
    world.fail("c", "b")
    assert world.next() == {"a"}
    world.fail("a")
    assert world.next() == {"c"}
    world.nodes.answered(("b", 6379))
    assert world.next() == {"b"}


def test_what_the_client_learned_goes_first() -> None:
    """The cluster has changed, and no node has reported it to this process."""
    world = LearningCluster("a", "b")
    world.current = at("b", "new")
    assert world.next() == {"new"}
    world.fail("new")
    assert world.next() == {"a", "b"}


def test_a_client_that_rests_is_no_authority() -> None:
    """What the nodes themselves said later goes before what the client still knows."""
    world = LearningCluster("a", "b", names=["name"])
    world.nodes.learn(at("c", "d"))
    assert world.next() == {"C", "D"}
    world.fail("C", "D")
    assert world.next() == {"a", "b", "name"}
    world.current = at("e")
    assert world.next() == {"e"}


def test_a_table_that_changes_under_the_look_is_left_out() -> None:
    """The look takes no lock of the client's: that may be held while a server is asked."""
    world = LearningCluster("a")
    world.broken = True
    assert world.next() == {"a"}
    world.nodes.learn(at("b"))
    assert world.next() == {"B"}


def test_a_node_that_says_nothing_of_others_changes_nothing() -> None:
    """An empty answer is none."""
    world = LearningCluster("a")
    world.nodes.learn([])
    assert world.next() == {"a"}
    assert ("a", 6379) in world.nodes
    assert ("b", 6379) not in world.nodes


@pytest.mark.parametrize("change", ["moved", "failed", "time", "incomplete"])
def test_when_the_nodes_are_learned_anew(change: str) -> None:
    """If one of them says or shows that something changed, after a while in any case, and at first if few are known."""
    world = LearningCluster("a", complete=change != "incomplete")
    assert world.nodes.outdated is (change == "incomplete")
    if change == "moved":
        world.nodes.moved()
    elif change == "failed":
        world.fail("a")
    elif change == "time":
        world.now += 61.0
    assert world.nodes.outdated
    world.nodes.asked()
    assert not world.nodes.outdated
