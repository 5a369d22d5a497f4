"""The way to the nodes of a cluster: whoever owns the slot of a key, wherever that moves to."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
from collections.abc import Iterable, Sequence
from typing import cast

import redis
from redis.connection import ConnectionPool
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError

from flagcache.stores.redis.commands import send
from flagcache.stores.redis.pools import Address, ClusterNodes, Word

__all__ = ["ClusterRoute"]

_MAX_REDIRECTS = 4  # one is usual; during a resharding MOVED and ASK may follow each other


class ClusterRoute:
    """The way to the nodes of a cluster.

    Where a slot lives is learned from the nodes themselves: any of them answers MOVED with the owner's address. That
    costs two round trips more at the first command and after a failover, and that is all. redis-py's own cluster client
    looks at the topology before its first command, and after a failure walks through nodes that may be frozen too.
    """

    def __init__(self, nodes: ClusterNodes, timeout: float) -> None:
        self._nodes = nodes
        self._timeout = timeout
        self._lock = threading.RLock()  # guards _known, _owners and _pools; never held while a server is asked
        self._known: tuple[Address, ...] = nodes.addresses
        self._nodes_changed = False
        self._turn = itertools.count(random.randrange(len(nodes.addresses)))
        self._owners: dict[int, Address] = {}
        self._pools: dict[Address, ConnectionPool] = {}

    def execute(self, keys: Sequence[str], *command: Word) -> object:
        """Send one command to the node that owns the slot of the first key, wherever it moved to; return its reply."""
        slot = key_slot(keys[0].encode())
        try:
            return self._follow(slot, command)
        except (redis.RedisError, OSError) as exc:
            if _owner_is_lost(exc):
                self._owners.pop(slot, None)  # the next command asks another node where the slot is
            raise

    def pool(self) -> ConnectionPool:
        """Return a new pool to one of the nodes: what is published on one is heard on all."""
        return self._nodes.server.at(self._next_known()).pool(self._timeout)

    def close(self) -> None:
        """Close the connections that are idle."""
        with self._lock:
            _disconnect(self._pools.values())

    def _next_known(self) -> Address:
        known = self._known
        return known[next(self._turn) % len(known)]

    def _pool_at(self, address: Address) -> ConnectionPool:
        with self._lock:
            pool = self._pools.get(address)
            if pool is None:
                pool = self._pools[address] = self._nodes.server.at(address).pool(self._timeout)
            return pool

    def _follow(self, slot: int, command: Sequence[Word]) -> object:
        address = self._owners.get(slot) or self._next_known()
        asking = False
        for _ in range(_MAX_REDIRECTS):
            if not asking:
                self._owners[slot] = address  # until it says otherwise
            try:
                reply = send(self._pool_at(address), *([("ASKING",)] if asking else []), command)
            except redis.ResponseError as exc:
                redirect = _redirect_in(exc)
                if redirect is None:
                    raise
            else:
                if self._nodes_changed:
                    self._learn_nodes(address)
                return reply
            # Redis 7 may leave out the host, for "the one you asked".
            address = self._nodes.remap(cast("str", redirect.host) or address[0], redirect.port)
            asking = not isinstance(redirect, MovedError)
            self._nodes_changed = self._nodes_changed or not asking
        raise redis.ConnectionError(
            f"redirected {_MAX_REDIRECTS} times: the nodes do not agree on the owner of slot {slot}"
        )

    def _learn_nodes(self, address: Address) -> None:
        """Ask a node that just answered which others there are: those known at first may all be replaced in time."""
        self._nodes_changed = False
        with contextlib.suppress(redis.RedisError, OSError):
            known = _nodes_in(send(self._pool_at(address), ("CLUSTER", "SLOTS")), address[0])
            with self._lock:
                self._known = tuple(dict.fromkeys(self._nodes.remap(*each) for each in known)) or self._known
                gone = [self._pools.pop(each) for each in [*self._pools] if each not in {*self._known, address}]
            _disconnect(gone)


def _redirect_in(exc: redis.ResponseError) -> AskError | None:
    """Return where the node sends us, if that is what its error says."""
    if isinstance(exc, AskError):
        return exc
    code, _, rest = str(exc).partition(" ")  # redis-py 5 knows these errors in its cluster client alone
    kinds: dict[str, type[AskError]] = {"MOVED": MovedError, "ASK": AskError}
    return kinds[code](rest) if code in kinds else None


def _owner_is_lost(exc: Exception) -> bool:
    """Whether another node may know better: this one is gone, frozen, or cut off from the rest."""
    if isinstance(exc, redis.ResponseError):
        return isinstance(exc, ClusterDownError) or str(exc).startswith("CLUSTERDOWN")
    return True


def _nodes_in(slots: object, asked_host: str) -> list[Address]:
    """Return all nodes named in a reply to CLUSTER SLOTS: `[[first, last, [host, port, ...], ...], ...]`."""
    ranges = cast("list[list[list[bytes | int]]]", slots)
    nodes = [node for each in ranges for node in each[2:]]
    return [(_text(node[0]) or asked_host, int(node[1])) for node in nodes]


def _disconnect(pools: Iterable[ConnectionPool]) -> None:
    for pool in pools:
        pool.disconnect(inuse_connections=False)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else ""
