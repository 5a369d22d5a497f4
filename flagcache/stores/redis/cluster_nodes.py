"""The nodes of a cluster that may be asked where a slot is.

Nodes move: after a rolling replacement no pod has its old address. So the addresses come from three sources: the nodes
themselves, asked from time to time; the user's client, which keeps updating its table; and the names with which that
client, or a URL, started.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Sequence

from flagcache.runtime.clock import monotonic
from flagcache.stores.redis.pools import Address, ClusterNodes

__all__ = ["KnownNodes"]

_LEARN_EVERY = 60.0
"""Seconds between two requests for the list of nodes if nothing says that they change; each costs a poll one more round
trip."""


class KnownNodes:
    """The nodes of one cluster, as far as this process knows. Thread-safe; sends no command.

    Args:
        nodes: those that the user named.
        clock: this process's own clock, in seconds.
    """

    def __init__(self, nodes: ClusterNodes, clock: Callable[[], float] = monotonic) -> None:
        self._nodes = nodes
        self._clock = clock
        self._lock = threading.RLock()
        self._learned = nodes.addresses
        self._seen = frozenset(nodes.addresses)
        """The nodes that the user's client knew when we last learned the nodes."""
        self._failed: dict[Address, int] = {}
        """For each node, the number of its latest failure; a node that answered since has none."""
        self._turn = itertools.count(random.randrange(1 << 16))
        self._failures = itertools.count()
        self._learned_at = clock()
        self._changed = not nodes.complete

    @property
    def outdated(self) -> bool:
        """Whether to ask the next node that answers for all others."""
        return self._changed or self._clock() - self._learned_at >= _LEARN_EVERY

    def next(self) -> Address:
        """Return the node to ask if no owner is known: each in turn, with those that failed last at the end.

        New nodes of the user's client come first, then those that the nodes named, then all others.
        """
        current = self._current()
        with self._lock:
            news = [each for each in current if each not in self._seen]
            groups = (news, self._learned, (*current, *self._nodes.names))
            for group in groups:
                sound = [each for each in dict.fromkeys(group) if each not in self._failed]
                if sound:
                    return sound[next(self._turn) % len(sound)]
            return min(dict.fromkeys(each for group in groups for each in group), key=self._failed.__getitem__)

    def failed(self, address: Address) -> None:
        """Record that a node did not answer: the others may know of a change."""
        with self._lock:
            self._failed[address] = next(self._failures)
            self._changed = True

    def answered(self, address: Address) -> None:
        """Record that a node answered."""
        if address in self._failed:
            with self._lock:
                self._failed.pop(address, None)

    def moved(self) -> None:
        """Record that nodes may have changed: a slot has another owner, or a lasting connection was lost."""
        self._changed = True

    def asked(self) -> None:
        """Record that a node is being asked for all others; if it doesn't say, the next is asked after a while."""
        with self._lock:
            self._changed, self._learned_at = False, self._clock()

    def learn(self, addresses: Sequence[Address]) -> None:
        """Take the list of nodes from a node's reply."""
        learned = tuple(dict.fromkeys(self._nodes.remap(*each) for each in addresses))
        current = self._current()
        with self._lock:
            self._learned, self._seen = learned or self._learned, frozenset(current)
            known = {*self._learned, *self._nodes.names, *current}
            self._failed = {address: at for address, at in self._failed.items() if address in known}

    def __contains__(self, address: Address) -> bool:
        return address in self._learned or address in self._nodes.names

    def _current(self) -> Sequence[Address]:
        try:
            return self._nodes.current()
        except RuntimeError:  # the client changed its table while we were reading it
            return ()
