# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""The scripts of the Redis store do what `flagcache.stores.rules.verbs` says, step by step, on each server.

Steps are drawn at random, the same in every run. Their numbers lie where decisions are made: at, just before and just
after the times that are stored.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypedDict

from hypothesis import HealthCheck, Phase, example, given, note, settings
from hypothesis import strategies as st
from typing_extensions import override

from flagcache.stores.base import REFRESHER, Ask, Envelope, Grant, Meta, Order, Published, Replacing, Scope
from flagcache.stores.redis.store import RedisStore
from flagcache.stores.rules import verbs as rules
from flagcache.stores.rules.state import State
from tests.stores.redis_beside_rules import LENGTHS, TEXTS, TIMES, ComparedStores
from tests.support.servers import RedisServer

WORKERS = st.sampled_from(["a", "a", "b", "b", "c", f"{REFRESHER}d", f"{REFRESHER}e"])
VERSIONS = st.sampled_from(["v1", "v1", "v2"])
STRIDE = 10_000_000
"""Milliseconds. Leases are half a stride longer than some strides, and time passes in strides or in seconds: no lease
ends within an hour of a step."""

INTERVALS = st.sampled_from([0, 1, 1000, STRIDE])
LEASES = st.sampled_from([STRIDE // 2, STRIDE + STRIDE // 2])
PASSES = st.one_of(
    st.sampled_from([-STRIDE, STRIDE, 2 * STRIDE]),
    st.sampled_from([1, 500, *range(894, 901), *range(994, 1001), *range(1894, 1901), 1999, 2000, 3000]),
)
GARBAGE = st.sampled_from(
    ["", "x", "nan", "inf", "-1", "1.5", "9007199254740992", "a\nb", "\x1b[2J", "x" * 600, "x" * 1025]
)
_serial = itertools.count()


@dataclass(frozen=True)
class Moment:
    """A time near one that is stored."""

    beside: str
    offset: int

    def of(self, compared: ComparedStores, *, real: bool = True) -> int:
        """The time; a real one is in this decade, another may be 0."""
        stored, now = compared.state, compared.now()
        beside = {
            "never": 0,
            "now": now,
            "stored": stored.meta.as_of if stored.meta else 0,
            "grant": stored.grant,
            "highest": stored.highest,
        }[self.beside]
        if beside == 0 and not real:
            return 0
        return (beside or now - STRIDE) + self.offset


PLACES = ["grant", "stored", "now", "highest", "never"]
MOMENTS = st.sampled_from([Moment(place, 0) for place in PLACES]) | st.builds(
    Moment, st.sampled_from(PLACES), st.sampled_from([-STRIDE, -1, 1, 2, STRIDE])
)
GRANTS = st.just(Moment("grant", 0)) | MOMENTS
"""Mostly the latest."""


class Step(ABC):
    """Something that happens to both twins."""

    @abstractmethod
    def take(self, compared: ComparedStores) -> None:
        """Let it happen, and compare."""


@dataclass(frozen=True)
class Poll(Step):
    """A worker asks."""

    ask: Ask
    last_grant: Moment
    held: Moment | None
    held_epoch: int
    """Beside the store's."""

    @override
    def take(self, compared: ComparedStores) -> None:
        held = None
        if self.held is not None:
            held = Order(max(0, compared.state.epoch + self.held_epoch), self.held.of(compared, real=False))
        ask = self.ask._replace(last_grant=self.last_grant.of(compared, real=False), held=held)
        if ask.has_key and held is not None:
            stamp = ask.doubted_stamp or compared.state.epoch_stamp
            ask = ask._replace(
                epoch_stamp=f"epoch-{held.epoch}", unsigned_epoch=compared.state.epoch, doubted_stamp=stamp
            )
        compared.poll(ask)


class _Options(TypedDict):
    fresh: bool
    lease: int
    replacing: Replacing | None


@dataclass(frozen=True)
class Publish(Step):
    """A worker brings definitions."""

    me: str
    version: str
    as_of: Moment
    epoch: int
    """Beside the store's."""
    etag: str
    fresh: bool
    lease: int
    replacing: Replacing | None = None

    @override
    def take(self, compared: ComparedStores) -> None:
        as_of = self.as_of.of(compared)
        meta = Meta(
            self.version,
            max(0, compared.state.epoch + self.epoch),
            as_of,
            as_of - 2,
            as_of - 1,
            self.etag,
            "w",
            "",
            f"stamp of {as_of}",
        )
        content = Envelope(meta, f"{self.version} as of {as_of}".encode())

        options = _Options(fresh=self.fresh, lease=self.lease, replacing=self.replacing)

        def by_rules(state: State, clock: int) -> tuple[State, Published]:
            state, published, _ = rules.publish(state, self.me, content, clock, **options)
            if rules.replaces_payload(state, content, published):
                compared.payload = content.payload
            return state, published

        compared.run(lambda: compared.store.publish(self.me, content, **options), by_rules)


@dataclass(frozen=True)
class Confirm(Step):
    """A worker learns that nothing changed."""

    me: str
    version: str
    as_of: Moment
    lease: int

    @override
    def take(self, compared: ComparedStores) -> None:
        as_of = self.as_of.of(compared)
        grant = Grant(0, as_of, as_of - 1)
        compared.run(
            lambda: compared.store.confirm(self.me, self.version, grant, lease=self.lease, stamp="confirmed"),
            lambda state, clock: rules.confirm(
                state, self.me, self.version, grant, clock, lease=self.lease, stamp="confirmed"
            )[:2],
        )


@dataclass(frozen=True)
class Discard(Step):
    """A worker could not read what is stored."""

    me: str
    version: str

    @override
    def take(self, compared: ComparedStores) -> None:
        compared.run(
            lambda: compared.store.discard(self.me, self.version),
            lambda state, clock: rules.discard(state, self.version, clock)[:2],
        )
        compared.lengthen_lease(STRIDE // 2)


@dataclass(frozen=True)
class Report(Step):
    """A worker lacks the key of what is stored."""

    me: str
    version: str
    interval: int

    @override
    def take(self, compared: ComparedStores) -> None:
        compared.run(
            lambda: compared.store.report(self.me, self.version, self.interval),
            lambda state, clock: rules.report(state, self.version, self.interval, clock)[:2],
        )


@dataclass(frozen=True)
class Fail(Step):
    """A worker's fetch failed."""

    me: str
    as_of: Moment
    scope: Scope
    retry_after: int

    @override
    def take(self, compared: ComparedStores) -> None:
        as_of, options = self.as_of.of(compared, real=False), {"status": 429, "retry_after": self.retry_after}
        stamp = f"noted at {as_of}"
        compared.run(
            lambda: compared.store.fail(self.me, as_of, self.scope, **options, stamp=stamp),
            lambda state, clock: rules.fail(state, self.me, as_of, self.scope, clock, **options, stamp=stamp)[:2],
        )


@dataclass(frozen=True)
class Renew(Step):
    """A worker keeps the lease."""

    me: str
    lease: int

    @override
    def take(self, compared: ComparedStores) -> None:
        compared.run(
            lambda: compared.store.renew(self.me, self.lease),
            lambda state, clock: rules.renew(state, self.me, self.lease, clock),
        )


@dataclass(frozen=True)
class Release(Step):
    """A worker goes."""

    me: str
    idle: bool

    @override
    def take(self, compared: ComparedStores) -> None:
        compared.run(
            lambda: compared.store.release(self.me, idle=self.idle),
            lambda state, clock: rules.release(state, self.me, clock, idle=self.idle)[:2],
        )


@dataclass(frozen=True)
class Clear(Step):
    """People clear the store."""

    @override
    def take(self, compared: ComparedStores) -> None:
        def by_rules(state: State, clock: int) -> tuple[State, int]:
            state, notice = rules.clear(state, clock, "cleared")
            return state, notice.epoch

        compared.run(lambda: compared.store.clear("cleared"), by_rules)
        compared.lengthen_lease(STRIDE // 2)


@dataclass(frozen=True)
class Pass(Step):
    """Time passes."""

    milliseconds: int

    @override
    def take(self, compared: ComparedStores) -> None:
        compared.pass_time(self.milliseconds)


@dataclass(frozen=True)
class Damage(Step):
    """A foreign client writes into the store's keys."""

    field: str
    value: str

    @override
    def take(self, compared: ComparedStores) -> None:
        compared.damage(self.field, self.value)


ASKS = st.builds(
    Ask,
    me=WORKERS,
    interval=INTERVALS,
    lease=LEASES,
    cold_lease=LEASES,
    challenge=INTERVALS,
    may_lead=st.sampled_from([True, True, True, False]),
    idle=st.booleans(),
    grant_age=st.sampled_from([-1, -1, 0, 899, 900, STRIDE]),
    held_age=st.sampled_from([0, 1, 500, STRIDE, 3 * STRIDE]),
    held_version=VERSIONS,
    reports=st.booleans(),
    listens=st.booleans(),
    watches=st.booleans(),
    starts=st.booleans(),
    leader=st.sampled_from(["", "a", "b"]),
    doubts_lease=st.sampled_from([False, False, True]),
    ignores_backoff=st.booleans(),
    has_key=st.booleans(),
    epoch_stamp=st.just(""),
    unsigned_epoch=st.just(0),
    doubted_stamp=st.sampled_from(["", "", "another"]),
)
POLLS = st.builds(Poll, ASKS, GRANTS, st.none() | MOMENTS, st.sampled_from([0, 0, 0, -1, 1]))
PUBLISHES = st.builds(
    *(Publish, WORKERS, VERSIONS, GRANTS, st.sampled_from([0, 0, 0, -1, 1])),
    *(st.sampled_from(["", "e1", "e2"]), st.booleans(), LEASES),
    st.none() | st.builds(Replacing, VERSIONS, INTERVALS),
)
CONFIRMS = st.builds(Confirm, WORKERS, VERSIONS, GRANTS, LEASES)
FAILS = st.builds(Fail, WORKERS, GRANTS, st.sampled_from(Scope), st.sampled_from([0, 1000, STRIDE]))
RELEASES = st.builds(Release, WORKERS, st.booleans())
DISCARDS = st.builds(Discard, WORKERS, VERSIONS)
REPORTS = st.builds(Report, WORKERS, VERSIONS, INTERVALS)
RENEWALS = st.builds(Renew, WORKERS, LEASES)
CLEARS = st.builds(Clear)
DAMAGES = st.builds(Damage, st.sampled_from([*TIMES, *LENGTHS, *TEXTS, "payload", "outcome"]), GARBAGE)
KINDS: list[st.SearchStrategy[Step]] = [
    *[POLLS] * 10,
    *[PUBLISHES] * 4,
    *[st.builds(Pass, PASSES)] * 4,
    *[CONFIRMS] * 2,
    *[FAILS] * 2,
    *(RELEASES, DISCARDS, REPORTS, RENEWALS, CLEARS, DAMAGES),
]
"""The steps, which are drawn at random; a repeated kind is drawn more often, because more can go wrong in it."""
STEPS = st.lists(st.sampled_from(KINDS).flatmap(lambda kind: kind), min_size=20, max_size=60)

AT_GRANT = Moment("grant", 0)
AHEAD = Publish("a", "v1", Moment("now", STRIDE), 0, "", fresh=False, lease=STRIDE // 2)
BROUGHT = Publish("a", "v1", AT_GRANT, 0, "", fresh=True, lease=STRIDE // 2)
ASK = Ask("a", STRIDE, STRIDE // 2, STRIDE // 2, STRIDE, held_version="v1")

EPOCH_LOST: list[Step] = [AHEAD, Poll(ASK, AT_GRANT, Moment("stored", 0), 1)]
"""A worker that holds exactly what is stored, ahead of the clock, with the epoch that the store has lost."""

OUTCOME_SPOILT: list[Step] = [
    *(Poll(ASK, AT_GRANT, None, 0), BROUGHT, Damage("outcome", "x"), Release("a", idle=True)),
    Poll(ASK._replace(me="b"), AT_GRANT, None, 0),
]
"""What became of the latest grant cannot be read: it is over."""

HIGHEST_SPOILT: list[Step] = [AHEAD, Damage("highest", "x"), Discard("a", "v1"), Poll(ASK, AT_GRANT, None, 0)]
"""The highest place cannot be read, and then what was stored there goes."""


@settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # shortening a failing run would take minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@example(steps=EPOCH_LOST)
@example(steps=OUTCOME_SPOILT)
@example(steps=HIGHEST_SPOILT)
@given(steps=STEPS)
def test_scripts_and_rules_agree(redis_server_any: RedisServer, steps: list[Step]) -> None:
    """After any steps in any order scripts and rules give the same answers and store the same."""
    client = redis_server_any.client()
    store = RedisStore(redis_server_any.url, f"twins-{next(_serial)}", timeout=10.0)
    compared = ComparedStores(client, store)
    try:
        for number, step in enumerate(steps):
            note(f"step {number}: {step}")
            step.take(compared)
    finally:
        compared.forget()
        store.close()
        client.close()
