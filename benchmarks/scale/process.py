"""The state of one simulated process: what it knows, and its stores, each behind its circuit breaker.

It stands for `flagcache.worker.state`, `failover` and `last_known_good`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from benchmarks.scale.shared import Shared, number_of
from benchmarks.scale.stores import HostFile, clock_of
from flagcache.core import first_load, knowledge, last_known_good, renewals
from flagcache.core.circuit_breaker import CircuitBreaker, in_charge, longest_pause
from flagcache.core.knowledge import Held, Knowledge
from flagcache.core.last_known_good import Copy, Saved, Write
from flagcache.errors import StoreError
from flagcache.stores.base import Grant, Published, Reply
from flagcache.stores.rules import verbs as rules

__all__ = ["Process"]

_T = TypeVar("_T")


class Process:
    """What one process knows.

    Args:
        shared: what its fleet has in common.
        me: its identity.
        host: the fallback store of the host on which it runs.
    """

    def __init__(self, shared: Shared, me: str, host: HostFile) -> None:
        self._shared = shared
        self._world = shared.world
        self._host = host
        self._longest_pause = longest_pause(shared.world.poll_interval)
        self.stores: tuple[HostFile, ...] = (shared.redis, host)
        self._breakers = {store.store_name: CircuitBreaker() for store in self.stores}
        self.me = me
        self.base = knowledge.template(me, shared.settings, shared.lease_seconds)._replace(
            idle=True, reports=shared.attached, listens=shared.attached
        )
        """What all its polls have in common."""
        self.know = Knowledge()
        self.over = False
        self.started = 0.0
        self.last_poll = 0.0
        self.fetching = False
        """Whether a fetch of this process is under way."""
        self._has_flags = False
        self._saved = Saved()
        self._save_is_due = False
        self.asking = False
        """Whether a store's reply is on its way."""
        self._calm = False
        self._version, self._seen = "", 0
        """The version that it held at its last full poll, and the `as_of` that it last saw at Redis."""
        self._quiet_at = 0.0
        """When Redis answered its last quiet poll, if it has not applied that reply; 0: it has."""
        self._quietly_granted = (0, 0.0)
        """The latest grant that its quiet polls saw: on Redis's clock, and the latest time on its own that follows from
        them."""

    # --- its stores --------------------------------------------------------------------------------------------------

    def admits(self, now: float, store: HostFile) -> bool:
        """Whether this store may be asked now. If its breaker is open, this poll is the probe."""
        breaker = self._breakers[store.store_name].admitted(now, longest=self._longest_pause)
        if breaker is None:
            return False
        self._breakers[store.store_name] = breaker
        return True

    def reach(self, now: float, store: HostFile, call: Callable[[], _T]) -> _T | None:
        """Call a store; None if it may not be asked now, or does not answer."""
        if not self.admits(now, store):
            return None
        try:
            result = call()
        except StoreError:
            self.lost(now, store)
            return None
        self.answered(store)
        return result

    def answered(self, store: HostFile) -> None:
        """The store answered: close its breaker."""
        self._breakers[store.store_name] = CircuitBreaker()

    def lost(self, now: float, store: HostFile) -> None:
        """A store did not answer: it is not asked for a while, and its lease counts as lost."""
        jitter = self._world.rng.random()
        breaker = self._breakers[store.store_name].failed(now, longest=self._longest_pause, jitter=jitter)
        self._breakers[store.store_name] = breaker
        self.lease_lost(store)

    @property
    def in_charge(self) -> HostFile:
        """The store that coordinates it now: Redis, or its host's file while Redis is down."""
        return self.stores[in_charge(list(self._breakers.values()))]

    @property
    def probe_at(self) -> float:
        """When Redis, if it is down, may be asked again."""
        return self._breakers["redis"].probe_at

    def apply(self, store: HostFile, reply: Reply, now: float, asked: float) -> None:
        """Apply what a reply says about lease, grants and ages.

        Args:
            store: the one that replied.
            reply: its reply.
            now: when it was read.
            asked: when it was asked.
        """
        before = self.know.view(store.store_name)
        know = knowledge.apply_reply(self.know, store.store_name, reply, now, asked)
        self.know = renewals.with_last_renewal(know, store.store_name, before)

    # --- its leases --------------------------------------------------------------------------------------------------

    def lease_lost(self, store: HostFile) -> None:
        """This process no longer holds the lease of this store, and is not its deputy until a reply says so."""
        self.know = renewals.lost(self.know, store.store_name)

    def extended(self, now: float, store: HostFile, lease: float | None = None) -> None:
        """The lease of this store, if this process has it, lasts this many seconds from now; None: its whole length."""
        seconds = self._shared.lease_seconds if lease is None else lease
        self.know = renewals.extended(self.know, store.store_name, seconds, now)

    def released(self, now: float, store: HostFile) -> None:
        """This process has just released the lease of this store."""
        self.know = renewals.lost(renewals.released(self.know, store.store_name, now), store.store_name)

    # --- its definitions ---------------------------------------------------------------------------------------------

    def take(self, now: float, held: Held) -> None:
        """Adopt these, unless newer ones were adopted meanwhile."""
        before = self.know.held
        self.know = knowledge.adopt(self.know, held)
        if self.know.held is held and (before is None or before.meta.version != held.meta.version):
            self._world.tally.took(now, number_of(held.meta.version), self.started)
            self._save_soon(now)

    def _save_soon(self, now: float) -> None:
        if last_known_good.saves_at_once(self._saved, later=self._shared.attached):
            self._save(now)
        elif not self._save_is_due:
            self._save_is_due = True
            self._world.timeline.at(now + last_known_good.delay(self._world.rng.random()), self.save_due)

    def save_due(self, now: float) -> None:
        """Put into the fallback file what is due."""
        if self._save_is_due and not self.over:
            self.catch_up()
            self._save(now)

    def _save(self, now: float) -> None:
        self._save_is_due = False
        host, held, stale_after = self._host, self.know.held, self._shared.stale_after
        if held is None or held.store_name == host.store_name:
            return
        if last_known_good.is_saved(self._saved, held, stale_after):
            return
        clock, stored = clock_of(now), host.state.meta
        copy = None
        if stored is not None:
            copy = Copy(stored, knowledge.from_store(host.store_name, stored, {}, clock, now).born)
        meta = knowledge.meta_for_store(held, host.store_name, clock, now)
        write = last_known_good.next_write(held, meta, copy, stale_after)
        self._saved = self._saved._replace(tried=True)
        if write.born is not None and self._write(now, write):
            self._saved = Saved(held.meta.version, write.born, tried=True)

    def _write(self, now: float, write: Write) -> bool:
        host, meta, lease = self._host, write.meta, self._shared.lease
        if meta is None:
            return True
        if write.times_only:
            times = Grant(meta.epoch, meta.as_of, meta.confirmed_at)
            return host.confirm(now, self.me, meta.version, times, lease)
        published = host.publish(now, self.me, self._shared.envelope(meta), fresh=False, lease=lease)
        return published is not Published.STALE

    # --- its first load ----------------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Note when the first load is over, and when there are flags."""
        if not (self.know.loaded or self._waits(now)):
            self.know = self.know._replace(loaded=True)
        if self.know.loaded and self.know.held is not None and not self._has_flags:
            self._has_flags = True
            self._world.tally.has_flags(now, self.started)

    def _waits(self, now: float) -> bool:
        know, settings, store_name = self.know, self._shared.settings, self.in_charge.store_name
        until = first_load.ends_at(know, settings, self.started)
        if now >= until:
            return False
        if know.held is None:
            return not first_load.nothing_to_wait_for(know, store_name, now, until)
        if self.fetching and not self._shared.attached:
            return True  # its SDK fetches instead of using what is held
        if first_load.may_start_with(know, settings.first_load_max_age, now, asked_at=self.started):
            return False
        return first_load.waits_for_newer(know, store_name, fetching=self.fetching)

    # --- quiet polls -------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Determine whether the next polls can be quiet: it only follows, holds what Redis sent, nothing is wrong."""
        know, held, view = self.know, self.know.held, self.know.view("redis")
        if held is None:
            return
        self._version, self._seen = held.meta.version, held.meta.as_of
        busy = self.fetching or self.asking or self._breakers["redis"].open
        troubled = know.failures or know.stay_out_until or know.backoff.status
        follows = held.store_name == "redis" and held.accepted and not (view.leads or view.deputy)
        self._calm = self._shared.may_be_quiet and follows and not (busy or troubled)

    def polls_quietly(self, now: float) -> bool:
        """Poll quietly, if the poll can't change anything. False: a full poll is needed."""
        redis = self._shared.redis
        if not self._calm or not (as_of := redis.pass_quietly(now, self._version, self._seen)):
            return False
        self._seen, self._quiet_at = as_of, now + self._world.machine.round_trip / 2
        granted_at = redis.state.granted[0]
        known = self._quiet_at - (clock_of(self._quiet_at) - granted_at) / 1000
        at, before = self._quietly_granted
        self._quietly_granted = granted_at, max(known, before) if at == granted_at else known
        return True

    def catch_up(self) -> None:
        """Apply the reply to the latest quiet poll. It contains everything that the earlier ones contained.

        Only the time of the latest grant, which each poll rounds to a millisecond, is the latest of all replies.
        """
        at, self._quiet_at = self._quiet_at, 0.0
        if not at:
            return
        state = self._shared.redis.state_at(at)
        after, reply = rules.poll(state, knowledge.build_poll(self.base, self.know, "redis", at), clock_of(at))
        assert after is state
        assert reply.payload is None
        self.apply(self._shared.redis, reply, at, at)
        granted_at, known = self._quietly_granted
        if granted_at == reply.granted_at and self.know.granted is not None:
            self.know = self.know._replace(granted=max(self.know.granted, known))
