"""Routes commands to the node of a cluster that owns the key's slot, also after the slot moved."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import cast

import redis
from redis.connection import ConnectionPool
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from flagcache.runtime.clock import monotonic
from flagcache.stores.redis.cluster_nodes import KnownNodes
from flagcache.stores.redis.commands import PoolRoute
from flagcache.stores.redis.deadline import remaining
from flagcache.stores.redis.pools import Address, ClusterNodes, Word

__all__ = ["ClusterRoute", "says_try_again"]

_MAX_REDIRECTS = 4  # one is usual; during a resharding MOVED and ASK may follow each other

_PAUSES = (0.01, 0.03, 0.06)
"""Seconds between the tries of a command whose keys are on different nodes during a migration."""


class ClusterRoute:
    """Routes commands to the nodes of a cluster.

    The nodes themselves say where a slot is: any of them replies MOVED with the owner's address. That only costs two
    more round trips at the first command and after a failover. redis-py's own cluster client reads the topology before
    its first command, and after a failure it tries one node after the other, which may be frozen too.
    """

    def __init__(self, nodes: ClusterNodes, timeout: float) -> None:
        self._nodes = nodes
        self._timeout = timeout
        self._lock = threading.RLock()  # guards _owners and _routes; never held while a server is asked
        self._known = KnownNodes(nodes, lambda: monotonic())  # noqa: PLW0108 - tests move this module's clock
        self._listened = False
        self._owners: dict[int, Address] = {}
        self._routes: dict[Address, PoolRoute] = {}

    def execute(self, keys: Sequence[str], *command: Word) -> object:
        """Send one command to the node that owns the slot of the first key, and return its reply."""
        slot = key_slot(keys[0].encode())
        pauses = iter(_PAUSES)
        while True:
            try:
                return self._follow(slot, command)
            except redis.ResponseError as exc:
                if not says_try_again(exc) or (seconds := next(pauses, None)) is None:
                    raise
            pause(remaining(seconds) or 0.0)

    def pool(self) -> ConnectionPool:
        """Return a new pool to one of the nodes; a message that is published on one arrives on all."""
        if self._listened:
            self._known.moved()  # the node of the previous connection may be gone
        self._listened = True
        return self._nodes.server.at(self._known.next()).pool(self._timeout)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            for route in self._routes.values():
                route.close()

    def _route_to(self, address: Address) -> PoolRoute:
        with self._lock:
            route = self._routes.get(address)
            if route is None:
                route = self._routes[address] = PoolRoute(self._nodes.server.at(address), self._timeout)
            return route

    def _follow(self, slot: int, command: Sequence[Word]) -> object:
        address = self._owners.get(slot) or self._known.next()
        asking = False
        for _ in range(_MAX_REDIRECTS):
            if not asking:
                self._owners[slot] = address  # until it says otherwise
            try:
                reply = self._send_to(slot, address, command, asking=asking)
            except redis.ResponseError as exc:
                redirect = _redirect_in(exc)
                if redirect is None:
                    raise
            else:
                if self._known.outdated:
                    self._learn_nodes(address)
                return reply
            # Redis 7 may leave out the host, for "the one you asked".
            address = self._nodes.remap(cast("str", redirect.host) or address[0], redirect.port)
            asking = not isinstance(redirect, MovedError)
            if not asking:
                self._known.moved()
        raise redis.ConnectionError(
            f"redirected {_MAX_REDIRECTS} times: the nodes do not agree on the owner of slot {slot}"
        )

    def _send_to(self, slot: int, address: Address, command: Sequence[Word], *, asking: bool) -> object:
        try:
            reply = self._route_to(address).execute((), *command, asking=asking)
        except Exception as exc:
            if _is_lost(exc):
                self._known.failed(address)
                self._owners.pop(slot, None)  # the next command asks another node where the slot is
            raise
        self._known.answered(address)
        return reply

    def _learn_nodes(self, address: Address) -> None:
        """Ask a node that just answered for all other nodes."""
        self._known.asked()
        with contextlib.suppress(redis.RedisError, OSError, ValueError, TypeError, IndexError):
            slots = self._route_to(address).execute((), "CLUSTER", "SLOTS")
            self._known.learn(_nodes_in(slots, address[0]))
            with self._lock:
                away = [each for each in self._routes if each not in self._known and each != address]
                gone = [self._routes.pop(each) for each in away]
            for route in gone:
                route.close()


def pause(seconds: float) -> None:
    """Wait for a slot that is being migrated."""
    time.sleep(seconds)


def says_try_again(exc: BaseException | None) -> bool:
    """Whether a node has only one of a command's keys, because their slot is being migrated."""
    return isinstance(exc, TryAgainError) or str(exc).startswith("TRYAGAIN")


def _redirect_in(exc: redis.ResponseError) -> AskError | None:
    """Return the target of a redirection, if the node's error is one."""
    if isinstance(exc, AskError):
        return exc
    code, _, rest = str(exc).partition(" ")  # redis-py 5 knows these errors only in its cluster client
    kinds: dict[str, type[AskError]] = {"MOVED": MovedError, "ASK": AskError}
    return kinds[code](rest) if code in kinds else None


def _is_lost(exc: Exception) -> bool:
    """Whether to ask another node, because this one is gone, frozen, or cut off from the rest."""
    if isinstance(exc, redis.ResponseError):
        return isinstance(exc, ClusterDownError) or str(exc).startswith("CLUSTERDOWN")
    return True


def _nodes_in(slots: object, asked_host: str) -> list[Address]:
    """Return all nodes named in a reply to CLUSTER SLOTS: `[[first, last, [host, port, ...], ...], ...]`."""
    ranges = cast("list[list[list[bytes | int]]]", slots)
    nodes = [node for each in ranges for node in each[2:]]
    return [(_text(node[0]) or asked_host, int(node[1])) for node in nodes]


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else ""
