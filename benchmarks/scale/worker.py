"""One process of a simulated flagcache fleet: the library's pure core, driven by events instead of threads.

`flagcache.core.knowledge`, `flagcache.core.circuit_breaker` and `flagcache.core.schedule` decide what to ask, what
follows from a reply and what is due when. This module does in virtual time what `flagcache.worker.worker`, `poll`,
`publish` and `background` do with threads and sockets. It leaves out forks, and the renewal of ages in the fallback
file.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

from benchmarks.scale.background import Background
from benchmarks.scale.fetching import FetchThread
from benchmarks.scale.stores import HostFile, World, clock_of
from flagcache.core import knowledge
from flagcache.core.circuit_breaker import CircuitBreaker
from flagcache.core.knowledge import Held, Knowledge
from flagcache.errors import StoreError
from flagcache.settings import milliseconds
from flagcache.stores.base import Reply
from flagcache.stores.rules import verbs as rules
from flagcache.worker.last_known_good import _AFTER  # pyright: ignore[reportPrivateUsage] - that it makes no difference is a result

if TYPE_CHECKING:
    from benchmarks.scale.ours import Ours

__all__ = ["Worker"]


class Worker:
    """One process.

    Args:
        fleet: which it belongs to.
        me: its identity.
        host: the fallback store of the host on which it runs.
    """

    def __init__(self, fleet: Ours, me: str, host: HostFile) -> None:
        self._fleet = fleet
        self._world: World = fleet.world
        self.me = me
        self._stores: tuple[HostFile, ...] = (fleet.redis, host)
        self._breakers = {store.store_name: CircuitBreaker() for store in self._stores}
        self._base = knowledge.template(me, fleet.settings, fleet.lease)._replace(
            idle=True, reports=fleet.attached, listens=fleet.attached
        )
        self.know = Knowledge()
        self.over = False
        self._calm = False
        """A poll of it can be quiet: it follows, holds what Redis gave it, and nothing is wrong."""
        self._version = ""
        self._seen = 0
        """`as_of` of what it last saw at Redis."""
        self.last_poll = 0.0
        self._started = 0.0
        self._quiet_at = 0.0
        """When it last made a quiet poll whose answer it has not taken in; 0: none."""
        self._asking = False
        self._fetching = FetchThread(self, fleet)
        self._background = Background(self, fleet) if fleet.attached else None

    # --- the SDK's part ----------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Start, load the flags, and poll from then on."""
        self._started = self.last_poll = now
        if self._background is not None:
            self._background.listen(now)
        self._load(now, 1)

    def _load(self, now: float, attempt: int) -> None:
        """Look for the first definitions in growing pauses, as `flagcache.worker.cold_start` does."""
        if self.over:
            return
        if self.know.held is None and not self._fetching.busy and not self._asking:
            self.ask(now, contend=True)
        if self.know.held is None and now - self._started < self._fleet.settings.cold_start_wait:
            pause = min(0.5, 0.01 * 1.25 ** (attempt - 1)) + self._world.rng.uniform(0, 0.01)
            self._world.timeline.at(now + pause, lambda then: self._load(then, attempt + 1))
        else:
            self._poll_next(now)

    def poll(self, now: float) -> None:
        """The poll of the SDK's own poller."""
        if self.over:
            return
        self.last_poll = now
        if self._calm and (as_of := self._fleet.redis.pass_quietly(now, self._version, self._seen)):
            self._seen, self._quiet_at = as_of, now
            self._world.timeline.poll_at(now + self._world.poll_interval, self)
            return
        self.catch_up()
        self._fetching.sdk_asks_again(now)
        self.ask(now, contend=True)
        self._poll_next(now)

    def end(self, now: float, *, politely: bool) -> None:
        """End; politely, the lease is given up, and else it has to run out."""
        if politely:
            self._keep(now)
        self.over = True
        self._fleet.listeners.pop(self, None)
        if not politely:
            return
        for store in self._stores:
            if self.know.view(store.store_name).leads:
                with contextlib.suppress(StoreError):
                    store.release(now, self.me)

    def _poll_next(self, now: float) -> None:
        spent = self._world.machine.fetch if self._fetching.busy else 0.0
        self._world.timeline.poll_at(now + spent + self._world.poll_interval, self)

    # --- asking ------------------------------------------------------------------------------------------------------

    def ask(self, now: float, *, contend: bool) -> None:
        """Poll the first store that answers."""
        for store in self._stores:
            breaker = self._breakers[store.store_name]
            if not breaker.allows(now):
                continue
            self._breakers[store.store_name] = breaker.probing(now, longest=self._longest_pause)
            try:
                self._poll_store(now, store, contend=contend)
            except StoreError:
                self.lost(now, store)
                continue
            break
        self.settle(now)

    def _poll_store(self, now: float, store: HostFile, *, contend: bool) -> None:
        base, busy = self._base, self._fetching.busy
        if busy or not contend:
            base = base._replace(may_lead=contend and not busy, idle=not busy)
        base = base._replace(watches=contend and self.know.view(store.store_name).deputy)
        reply, at = store.poll(now, knowledge.build_poll(base, self.know, store.store_name, now))
        if reply.payload is None or store.store_name != "redis":
            self._hear(at, store, reply, now)
            return
        self._asking = True
        deadline = max(at, now + self._world.machine.timeout)
        self._world.link.send(
            at, self._world.sizes.envelope, deadline, lambda then, ok: self._arrived(then, store, reply, now, ok=ok)
        )

    def _arrived(self, now: float, store: HostFile, reply: Reply, asked: float, *, ok: bool) -> None:
        """A payload came, or its reader gave up."""
        self._asking = False
        if self.over:
            return
        if ok:
            self._hear(now, store, reply, asked)
        else:
            self._world.tally.timeouts += 1
            self.lost(now, store)
            self.ask(now, contend=False)
        self.settle(now)

    def _hear(self, now: float, store: HostFile, reply: Reply, asked: float) -> None:
        """Take in an answer, and do what follows from it."""
        self._found(now, store)
        if not self._fleet.attached and self.know.held is None and self._is_young(reply):
            reply = reply._replace(grant=None)  # its SDK starts with what is there; the grant is given again
        self.know = knowledge.apply_reply(self.know, store.store_name, reply, now, asked)
        if reply.meta is not None and reply.payload is not None:
            self.take(now, knowledge.from_store(store.store_name, reply.meta, {}, reply.clock, asked))
        elif reply.republish:
            self._fetching.repair(now, store, reply.clock)
        if reply.grant is not None:
            self._fetching.begin(now, store, reply.grant, asked)

    def _is_young(self, reply: Reply) -> bool:
        if reply.meta is None or reply.payload is None:
            return False
        return reply.clock - reply.meta.confirmed_at < milliseconds(self._fleet.settings.challenge_after)

    def take(self, now: float, held: Held) -> None:
        """Hold these, unless newer ones came in meanwhile."""
        before = self.know.held
        self.know = knowledge.adopt(self.know, held)
        if self.know.held is held and (before is None or before.meta.version != held.meta.version):
            self._world.tally.took(now, self._fleet.number_of(held.meta.version), self._started)
            if before is None:
                self._world.tally.has_flags(now, self._started)
            if before is None or self._background is None:
                self._keep(now)
            else:
                self._world.timeline.at(now + self._world.rng.uniform(_AFTER, 2 * _AFTER), self._keep)

    def _keep(self, now: float) -> None:
        """Put another version into the archive, as `flagcache.worker.last_known_good` does."""
        host, held = self._stores[-1], self.know.held
        if self.over or held is None:
            return
        stored = host.state.meta
        meta = knowledge.repair(held, host.store_name, clock_of(now), now)
        if held.store_name != host.store_name and (
            stored is None or (stored.version != meta.version and stored.order < meta.order)
        ):
            host.publish(now, self.me, self._fleet.envelope(meta), fresh=False, lease=milliseconds(self._fleet.lease))

    def lost(self, now: float, store: HostFile) -> None:
        """A store did not answer: it is left alone for a while, and its lease is not counted on."""
        jitter = self._world.rng.random()
        breaker = self._breakers[store.store_name].failed(now, longest=self._longest_pause, jitter=jitter)
        self._breakers[store.store_name] = breaker
        self.forget_leadership(store)

    def forget_leadership(self, store: HostFile) -> None:
        """This process no longer holds the lease of this store."""
        view = self.know.view(store.store_name)
        self.know = self.know.with_view(store.store_name, view._replace(leads=False))

    def extended(self, now: float, store: HostFile) -> None:
        """The lease of this store, if this process has it, was kept from now on."""
        view = self.know.view(store.store_name)
        if view.leads:
            kept = view._replace(renewed=now, lease_ends=now + self._fleet.lease)
            self.know = self.know.with_view(store.store_name, kept)

    def _found(self, now: float, store: HostFile) -> None:
        self._breakers[store.store_name] = CircuitBreaker()
        if self._background is not None and store.store_name == "redis":
            self._background.reconnect(now)

    @property
    def _longest_pause(self) -> float:
        return 0.8 * self._world.poll_interval

    # --- what it knows -----------------------------------------------------------------------------------------------

    @property
    def in_charge(self) -> HostFile:
        """The store that coordinates it now: Redis, or the file of its host while that is in trouble."""
        return next((store for store in self._stores if not self._breakers[store.store_name].open), self._stores[-1])

    @property
    def probe_at(self) -> float:
        """When Redis, if it is in trouble, may be asked again."""
        breaker = self._breakers["redis"]
        return breaker.retry_at if breaker.open else math.inf

    def catch_up(self) -> None:
        """Apply the reply to the latest quiet poll. It contains everything that the earlier ones contained."""
        at, self._quiet_at = self._quiet_at, 0.0
        if not at:
            return
        state = self._fleet.redis.state_at(at)
        after, reply = rules.poll(state, knowledge.build_poll(self._base, self.know, "redis", at), clock_of(at))
        assert after is state
        assert reply.payload is None
        self.know = knowledge.apply_reply(self.know, "redis", reply, at, at)

    def settle(self, now: float) -> None:
        """Plan what its background has to do next, and find out whether its next polls can be quiet."""
        if self._background is not None and not self.over:
            self._background.config(now)
        know, held = self.know, self.know.held
        self._calm = (
            self._fleet.may_be_quiet
            and held is not None
            and held.store_name == "redis"
            and held.accepted
            and not (
                know.view("redis").leads
                or know.view("redis").deputy
                or know.failures
                or know.stay_out_until
                or know.backoff.status
            )
            and not (self._fetching.busy or self._asking or self._breakers["redis"].open)
        )
        if held is not None:
            self._version, self._seen = held.meta.version, held.meta.as_of
