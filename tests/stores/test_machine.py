"""Every store keeps the facts of `tests.stores.store_model`, whatever happens to it in whatever order.

A few workers poll, fetch, fail and die, people clear, servers are flushed and time passes; drawn at random, the same in
every run. What a worker says is what it would know; a reply may be lost, and a fetch may come back at any time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import cast

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from flagcache.stores.base import REFRESHER, Ask, Envelope, Grant, Meta, Published, Scope, Store
from tests.stores.store_model import Model, Worker
from tests.stores.store_record import NEVER
from tests.stores.stores_with_clocks import SPOILT, MemoryWithClock, RedisWithClock, SqliteWithClock, StoreWithClock
from tests.support.servers import RedisServer

INTERVAL = 60_000
LEASES = st.sampled_from([90_000, 40 * INTERVAL])
COLD_LEASE = 30_000
BACKOFF = 4 * INTERVAL
WORKERS = st.integers(0, 2)
GRANTED = st.integers(0, 2)
"""A worker among those who were granted a fetch."""
SELDOM = st.sampled_from([False] * 9 + [True])
WHICH = st.sampled_from([0, 0, 0, 1, 2])
"""A worker's grant, counted back from the latest."""
VERSIONS = st.sampled_from(["v1", "v1", "v2", "v3"])
PASSES = st.sampled_from([1, 500, 1000, 20_000, 45_000, 54_000 - 1, 54_000, INTERVAL, 2 * INTERVAL, 5 * INTERVAL])
"""Milliseconds; 54 s are nine tenths of the interval."""


class StoreMachine(RuleBasedStateMachine):
    """What may happen to a store."""

    def __init__(self, backend: StoreWithClock) -> None:
        super().__init__()
        self.backend = backend
        self.names = (f"{REFRESHER if number % 3 == 0 else ''}worker-{number}" for number in itertools.count())
        self.workers = [Worker(next(self.names)) for _ in range(3)]
        self.model = Model(backend.handles[0].inspect(), backend.tolerance)
        self.turn = itertools.cycle([0, 1])

    def store(self) -> Store:
        """Use the handles in turn, so that what is done with one must be visible with the other."""
        return self.backend.handles[next(self.turn)]

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.backend.close()

    @rule(number=WORKERS, after=PASSES, version=VERSIONS, unchanged=st.booleans(), lease=LEASES)
    def take_turn(self, number: int, after: int, version: str, lease: int, *, unchanged: bool) -> None:
        """After a while a worker asks, and if it is granted a fetch, that comes back at once."""
        self.pass_time(after)
        worker = self.workers[number]
        before = len(worker.grants)
        self._poll(worker, self._ask(worker, lease))
        if len(worker.grants) > before:
            stored = self.model.seen.meta
            if unchanged and stored is not None:
                self.confirm(number, 0, stored.version, lease)
            else:
                self.bring(number, 0, version, lease)

    @rule()
    def all_look(self) -> None:
        """All workers ask and adopt what is stored, and none wants to lead."""
        for worker in self.workers:
            self._poll(worker, self._ask(worker, COLD_LEASE)._replace(may_lead=False))

    @rule(
        number=WORKERS,
        challenge=st.sampled_from([2 * INTERVAL, NEVER]),
        lease=LEASES,
        may_lead=st.sampled_from([True, True, True, False]),
        knows_age=st.booleans(),
        delivered=st.sampled_from([True, True, False]),
        adopt=st.booleans(),
    )
    def poll(  # noqa: PLR0913 - each is drawn
        self, number: int, challenge: int, lease: int, *, may_lead: bool, knows_age: bool, delivered: bool, adopt: bool
    ) -> None:
        """A worker asks; its reply may be lost, and it may hesitate to adopt what comes."""
        worker = self.workers[number]
        ask = self._ask(worker, lease)._replace(challenge=challenge, may_lead=may_lead)
        if not knows_age:
            ask = ask._replace(grant_age=-1)
        self._poll(worker, ask, delivered=delivered, adopt=adopt)

    def _ask(self, worker: Worker, lease: int) -> Ask:
        now = self.model.seen.clock
        return Ask(
            worker.me,
            *(INTERVAL, lease, COLD_LEASE, NEVER, BACKOFF),
            idle=not worker.fetching,
            last_grant=worker.grants[-1].as_of if worker.grants else 0,
            grant_age=now - worker.granted_at if worker.granted_at else -1,
            held=worker.held.order if worker.held else None,
            held_age=max(0, now - worker.held.as_of) if worker.held else 0,
            held_version=worker.held.version if worker.held else "",
            reports=worker.reports,
            listens=worker.reports,
        )

    def _poll(self, worker: Worker, ask: Ask, *, delivered: bool = True, adopt: bool = True) -> None:
        reply = self.store().poll(ask)
        self.model.polled(ask, reply, self.store().inspect())
        if delivered:
            worker.take_reply(reply, adopt=adopt)

    @precondition(lambda self: self.granted())
    @rule(number=GRANTED, which=WHICH, version=VERSIONS, lease=LEASES)
    def bring(self, number: int, which: int, version: str, lease: int) -> None:
        """The fetch of a grant, mostly of the latest, comes back with definitions."""
        self._bring(*self._grant(number, which), version, lease)

    @precondition(lambda self: self.late())
    @rule(number=st.integers(0, 5), version=VERSIONS, lease=LEASES)
    def come_late(self, number: int, version: str, lease: int) -> None:
        """A superseded fetch comes back with definitions that are still newer than the stored ones."""
        self._bring(*self.late()[number % len(self.late())], version, lease)

    def late(self) -> list[tuple[Worker, Grant]]:
        """Tell which grants are not the latest any more, and newer than what is stored."""
        stored, latest = self.model.seen.meta, self.model.latest
        first, last = stored.as_of if stored else 0, latest.grant.as_of if latest else 0
        return [(w, grant) for w in self.workers for grant in w.grants if first < grant.as_of < last]

    def _bring(self, worker: Worker, grant: Grant, version: str, lease: int) -> None:
        meta = Meta(version, grant.epoch, grant.as_of, changed_at=grant.at, confirmed_at=grant.at, etag=version)
        content = Envelope(meta, f"{version} as of {grant.as_of}".encode() * (1 + len(worker.grants) % 3))
        self._publish(worker, content, lease, fresh=True)
        worker.came_back(grant)

    @precondition(lambda self: any(worker.held for worker in self.workers))
    @rule(number=WORKERS, lease=LEASES)
    def repair(self, number: int, lease: int) -> None:
        """A worker publishes what it holds."""
        holders = [worker for worker in self.workers if worker.held]
        worker = holders[number % len(holders)]
        assert worker.held is not None
        self._publish(worker, Envelope(worker.held, worker.payload), lease, fresh=False)

    def _publish(self, worker: Worker, content: Envelope, lease: int, *, fresh: bool) -> None:
        result = self.store().publish(worker.me, content, fresh=fresh, lease=lease)
        after = self.store().inspect()
        if result in (Published.STORED, Published.CONFIRMED):
            self.model.extended(worker.me, lease, after)
            worker.held, worker.payload = after.meta, content.payload
        self.model.published(worker.me, content, fresh=fresh, result=result, after=after)

    @precondition(lambda self: self.granted())
    @rule(number=GRANTED, which=WHICH, version=VERSIONS, lease=LEASES)
    def confirm(self, number: int, which: int, version: str, lease: int) -> None:
        """The fetch of a grant comes back with: nothing has changed."""
        worker, grant = self._grant(number, which)
        result = self.store().confirm(worker.me, version, grant, lease=lease)
        after = self.store().inspect()
        if result:
            self.model.extended(worker.me, lease, after)
        self.model.confirmed(worker.me, version, grant, result=result, after=after)
        worker.came_back(grant)

    @precondition(lambda self: self.granted())
    @rule(
        number=GRANTED,
        which=WHICH,
        scope=st.sampled_from(Scope),
        retry_after=st.sampled_from([0, INTERVAL, 3 * INTERVAL]),
    )
    def fail(self, number: int, which: int, scope: Scope, retry_after: int) -> None:
        """The fetch of a grant fails."""
        worker, grant = self._grant(number, which)
        result = self.store().fail(worker.me, grant.as_of, scope, status=429, retry_after=retry_after)
        self.model.failed(worker.me, grant, scope, result=result, after=self.store().inspect())
        worker.came_back(grant)

    def granted(self) -> list[Worker]:
        """Tell who was ever granted a fetch."""
        return [worker for worker in self.workers if worker.grants]

    def _grant(self, number: int, which: int) -> tuple[Worker, Grant]:
        worker = self.granted()[number % len(self.granted())]
        return worker, worker.grants[-1 - which % len(worker.grants)]

    @precondition(lambda self: self.model.seen.meta is not None)
    @rule(number=WORKERS, version=VERSIONS)
    def discard(self, number: int, version: str) -> None:
        """A worker cannot read a version, which may be stored or not."""
        result = self.store().discard(self.workers[number].me, version)
        self.model.discarded(version, result=result, after=self.store().inspect())

    @precondition(lambda self: bool(self.model.leader))
    @rule(number=WORKERS, lease=LEASES)
    def renew(self, number: int, lease: int) -> None:
        """A worker wants to keep the lease, which it may have or not."""
        me = self.workers[number].me
        result = self.store().renew(me, lease)
        self.model.renewed(me, lease, result=result, after=self.store().inspect())

    @precondition(lambda self: bool(self.model.leader))
    @rule(number=WORKERS)
    def release(self, number: int) -> None:
        """A worker gives up the lease, and polls on."""
        worker = self.workers[number]
        idle = not worker.fetching
        result = self.store().release(worker.me, idle=idle)
        self.model.released(worker.me, idle=idle, result=result, after=self.store().inspect())

    @rule(number=WORKERS, sure=SELDOM)
    def die(self, number: int, *, sure: bool) -> None:
        """A worker is killed, and another process takes its place."""
        if sure:
            self.workers[number] = Worker(next(self.names))

    @rule(milliseconds=PASSES)
    def pass_time(self, milliseconds: int) -> None:
        """Time passes, and changes nothing but a lease that ends."""
        self.backend.pass_time(milliseconds)
        seen, after = self.model.seen, self.store().inspect()
        assert after.clock >= seen.clock + milliseconds
        self.model.look(after)

    @rule(sure=SELDOM)
    def clear(self, *, sure: bool) -> None:
        """People empty the store."""
        if sure:
            epoch = self.store().clear()
            self.model.emptied(epoch, self.store().inspect())

    @rule(sure=SELDOM)
    def flush(self, *, sure: bool) -> None:
        """The server loses everything."""
        if sure:
            self.backend.flush()
            self.model.lost(self.store().inspect())

    @precondition(lambda self: self.backend.damageable and self.model.seen.meta is not None)
    @rule(name=st.sampled_from(sorted(SPOILT)))
    def damage(self, name: str) -> None:
        """A foreign client writes into the store's keys."""
        self.backend.damage(name)
        self.model.damaged(self.store().inspect())


def run(make: Callable[[], StoreWithClock], *, examples: int) -> None:
    """Run machines, the same in every run."""
    run_state_machine_as_test(
        cast("type[RuleBasedStateMachine]", lambda: StoreMachine(make())),  # anything that makes one will do
        settings=settings(
            max_examples=examples,
            stateful_step_count=60,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],  # shortening a failing run would take minutes
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )


def test_memory() -> None:
    """In memory every fact holds."""
    run(MemoryWithClock, examples=300)


def test_sqlite(tmp_path: Path) -> None:
    """In a file every fact holds."""
    run(lambda: SqliteWithClock(tmp_path / "flags.db"), examples=120)


def test_redis(redis_server_any: RedisServer) -> None:
    """On each server every fact holds."""
    run(lambda: RedisWithClock(redis_server_any), examples=60)
