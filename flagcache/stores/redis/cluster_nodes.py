"""Which nodes of a cluster may be asked where a slot lives.

Nodes move: of pods that are replaced one by one none has its old address in the end. So the addresses come from three
sources: the nodes themselves, asked from time to time; the user's client, which goes on learning; and the names with
which that client, or a URL, started.
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
"""Seconds between two questions for the nodes if nothing says that they change: one round trip more for a poll."""


class KnownNodes:
    """The nodes of one cluster, as far as this process knows. Thread-safe; asks no server.

    Args:
        nodes: what the user said.
    """

    def __init__(self, nodes: ClusterNodes, clock: Callable[[], float] = monotonic) -> None:
        self._nodes = nodes
        self._clock = clock
        self._lock = threading.RLock()
        self._learned = nodes.addresses
        self._seen = frozenset(nodes.addresses)
        """What the user's client knew when the nodes were learned last."""
        self._failed: dict[Address, int] = {}
        """When a node failed last, counted in failures; none that has answered since."""
        self._turn = itertools.count(random.randrange(1 << 16))
        self._failures = itertools.count()
        self._learned_at = clock()
        self._changed = not nodes.complete

    @property
    def outdated(self) -> bool:
        """Whether a node that answers is to be asked for all others."""
        return self._changed or self._clock() - self._learned_at >= _LEARN_EVERY

    def next(self) -> Address:
        """Return the node to ask when no owner is known: each in turn, those that failed when last asked at the end.

        What the user's client has learned since goes first, then what the nodes said, then all others.
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
        """A node could not be asked: the others may know of a change."""
        with self._lock:
            self._failed[address] = next(self._failures)
            self._changed = True

    def answered(self, address: Address) -> None:
        """A node answered."""
        if address in self._failed:
            with self._lock:
                self._failed.pop(address, None)

    def moved(self) -> None:
        """Something says that nodes change: a slot has another owner, or a connection that was to last is gone."""
        self._changed = True

    def asked(self) -> None:
        """A node is being asked for all others; if it does not say, the next one is asked after a while."""
        with self._lock:
            self._changed, self._learned_at = False, self._clock()

    def learn(self, addresses: Sequence[Address]) -> None:
        """Take what a node said."""
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
