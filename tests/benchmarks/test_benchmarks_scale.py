from __future__ import annotations

import asyncio
import random
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from typing_extensions import override

from benchmarks import cost
from benchmarks.load import __main__ as load
from benchmarks.load import report as load_report
from benchmarks.load.measurements import LoadedRedis
from benchmarks.scale import __main__ as scale
from benchmarks.scale import report
from benchmarks.scale.day import CONTESTANTS, Day, live
from benchmarks.scale.ours import Ours
from benchmarks.scale.plot import DARK, LIGHT, Line, Panel, svg
from benchmarks.scale.stores import Sizes
from benchmarks.scale.tally import Summary, Tally
from benchmarks.scale.wire import poll_size, reply_size
from benchmarks.scale.world import Down, Link, Machine, PostHog, Timeline
from flagcache.core import knowledge
from flagcache.core.knowledge import Knowledge
from flagcache.errors import StoreError
from flagcache.settings import Settings
from flagcache.stores.base import Envelope, Meta
from flagcache.stores.redis.store import RedisStore
from tests.simulation import posthog as simulated_posthog
from tests.simulation.oracle import Oracle
from tests.simulation.scheduler import Scheduler
from tests.simulation.simulated_fleet import Fleet
from tests.simulation.stores import Network, SharedStore
from tests.simulation.threads import simulated
from tests.simulation.world import ProcessKind, World
from tests.support.servers import MakeRedis, RedisServer, until

SIZES = Sizes(json=150_000, envelope=10_000)

QUIET = Day(redis_down=Down(), posthog_down=Down(), crashes=(), start=30.0)
"""A whole day without crashes and outages, in which the fleet's first processes do not start all at once."""

BUSY = Day(
    length=7200.0,
    deploys=(1000.0, 4000.0),
    changes=(500.0, 1100.0, 2500.0, 5000.0, 6000.0),
    crashes=(700.0, 2000.0, 3000.0),
    redis_down=Down(2400.0, 2700.0),
    posthog_down=Down(5900.0, 6200.0),
)
"""Two hours with every kind of event."""


def _day(name: str, workers: int, day: Day) -> Summary:
    return live(CONTESTANTS[name], workers, SIZES, day)


# --- the simulation against the real thing ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 3])
@pytest.mark.parametrize("attached", [True, False])
def test_polls_that_are_only_counted_are_those_that_change_nothing(attached: bool, seed: int) -> None:
    """A day in which every poll is made in full counts the same as one in which quiet polls are only counted."""
    day = replace(BUSY, seed=seed)
    quick = live(lambda world: Ours(world, attached=attached), 12, SIZES, day)
    full = live(lambda world: Ours(world, attached=attached, may_be_quiet=False), 12, SIZES, day)
    for name in ("bytes_to_store", "bytes_from_store"):  # the digits of some ages differ
        assert quick[name] == pytest.approx(full[name], rel=0.02)
    apart = ("bytes_to_store", "bytes_from_store", "bytes_a_second")
    assert {**quick, **dict.fromkeys(apart, 0)} == {**full, **dict.fromkeys(apart, 0)}


class _CountedStore(SharedStore):
    received = 0

    @override
    def receive(self, request: Callable[[], None]) -> None:
        self.received += 1
        super().receive(request)


@dataclass(slots=True)
class _CountedPostHog(simulated_posthog.PostHog):
    statuses: Counter[int] = field(default_factory=Counter[int])

    @override
    def request(self, who: str, etag: str, timeout: float) -> simulated_posthog.Response | None:
        response = simulated_posthog.PostHog.request(self, who, etag, timeout)
        assert response is not None
        self.statuses[response.status] += 1
        return response


def _engine(day: Day, workers: int, *, attached: bool) -> tuple[Counter[int], int]:
    """Return what the real engine asks PostHog and its store, on the scheduler of the project's own simulation."""
    scheduler, rng = Scheduler(), random.Random(3)
    posthog = _CountedPostHog(scheduler, rng, slowness=0.3)
    network = Network(rng, latency=0.0003)
    store = _CountedStore("fleet", scheduler, network)
    oracle = Oracle(scheduler, posthog)
    world = World(scheduler, posthog, network, oracle, store, (), lambda _: None)
    oracle.confused, oracle.disordered, oracle.note = world.confused, world.disordered, lambda _: None
    settings = Settings(refresh_interval=30.0, poll_interval=0.0 if attached else 30.0)
    kind, fleet = ProcessKind(settings, 30.0, attached=attached), Fleet(world)
    first = [fleet.add(kind, delay=rng.uniform(0, day.start)) for _ in range(workers)]
    for at in day.changes:
        scheduler.at(at, lambda: posthog.change(posthog.newest + 1))
    for begins in day.deploys:
        for old in first:
            at = begins + rng.uniform(0, day.deploy)
            scheduler.at(at, lambda: fleet.add(kind))
            scheduler.at(at + day.overlap, old.shut_down)
    with simulated(now=lambda: scheduler.now, report=oracle.report, on_fetched=oracle.on_fetched):
        scheduler.run(day.length, lambda: False)
        scheduler.close()
    assert not oracle.faults
    return posthog.statuses, store.received


@pytest.mark.parametrize("attached", [True, False])
def test_the_event_driven_fleet_asks_what_the_real_engine_asks(attached: bool) -> None:
    """Over a start, changes and a deploy, requests and store operations agree with those of the engine itself."""
    day = replace(QUIET, length=1800.0, changes=(200.0, 400.0, 1500.0), deploys=(700.0,))
    statuses, operations = _engine(day, 6, attached=attached)
    counted = live(lambda world: Ours(world, attached=attached), 6, SIZES, day)
    assert counted["api_requests"] == pytest.approx(sum(statuses.values()), abs=3)
    assert counted["full"] == pytest.approx(statuses[200], abs=0 if attached else 4)
    assert counted["store_operations"] == pytest.approx(operations, rel=0.1)


def test_a_cold_start_asks_once_with_flagcache_and_once_a_worker_without() -> None:
    """Twenty processes that start within a tenth of a second: 20 requests with definitions, or 1."""
    day = replace(QUIET, length=20.0, start=0.1, deploys=(), changes=())
    asked = {name: _day(name, 20, day)["full"] for name in CONTESTANTS}
    assert asked == {"none": 20, "example": 20, "republishing": 20, "protocol": 1, "attached": 1}


def test_a_start_by_protocol_waits_for_a_fetch_that_seems_to_be_under_way() -> None:
    """A new leader's SDK doesn't report "unchanged", so a process with old definitions waits up to a cold lease."""
    longest = _day("protocol", 12, QUIET)["start_to_flags"]["max"]
    assert 1 < longest < Settings().cold_lease + 0.31


def test_a_killed_leader_is_followed_when_its_lease_is_over() -> None:
    """After `kill -9` just before a change, attached workers have it after about a lease; the example's much later."""
    day = replace(QUIET, length=900.0, deploys=(), changes=(301.0,), crashes=(100.0, 300.0))
    waits = {name: _day(name, 20, day)["change_to_worker"]["max"] for name in ("example", "attached")}
    assert waits["attached"] < 46
    assert 60 < waits["example"] < 125


def test_ours_asks_once_a_host_while_redis_is_away_and_the_others_once_a_process() -> None:
    """Without Redis each of our two hosts asks once per interval, and so does each of the example's 16 processes."""
    day = replace(QUIET, length=1300.0, deploys=(), changes=(), redis_down=Down(600.0, 1200.0))
    calm = replace(day, redis_down=Down())
    more = {
        name: _day(name, 16, day)["api_requests"] - _day(name, 16, calm)["api_requests"]
        for name in ("example", "attached")
    }
    assert more["example"] >= 15 * 19
    assert 10 <= more["attached"] <= 25  # two hosts instead of one fleet, and a few as Redis goes and returns


def test_new_processes_find_an_empty_redis_filled_where_somebody_republishes() -> None:
    """If five processes are replaced when Redis comes back empty, all five ask, or one if the leader republishes."""
    day = replace(QUIET, length=860.0, deploys=(760.0,), deploy=0.2, changes=(), redis_down=Down(600.0, 690.0))
    calm = replace(day, deploys=())
    more = {name: _day(name, 5, day)["full"] - _day(name, 5, calm)["full"] for name in CONTESTANTS if name != "none"}
    assert more["example"] >= 5
    assert more["republishing"] <= 1
    assert more["protocol"] <= 1
    assert more["attached"] == 0


def test_posthog_refuses_what_exceeds_a_teams_limits() -> None:
    """Beyond a team's limits per minute the answer is 429, which doesn't count as a flag request."""
    tally = Tally(200.0, (), frozenset())
    posthog = PostHog(tally, (), full_limit=2, unchanged_limit=1)
    assert [posthog.request(at, None).status for at in (1.0, 2.0, 3.0, 61.0)] == [200, 200, 429, 200]
    assert [posthog.request(at, 1).status for at in (62.0, 63.0)] == [304, 429]
    assert (tally.summary()["flag_requests"], tally.summary()["limited"]) == (31, 2)


def test_readers_share_the_network_and_give_up_after_their_timeout() -> None:
    """Each of two concurrent reads is half as fast; one that would take too long ends at its deadline."""
    timeline, ends = Timeline(), dict[str, tuple[float, bool]]()
    link = Link(timeline, bandwidth=100.0)

    def read(name: str, size: int, deadline: float) -> Callable[[float], None]:
        return lambda now: link.send(now, size, deadline, lambda then, ok: ends.update({name: (then, ok)}))

    for name, begins, size, deadline in (("a", 0.0, 100, 9.0), ("b", 0.5, 100, 9.0), ("c", 10.0, 500, 11.0)):
        timeline.at(begins, read(name, size, deadline))
    timeline.run(100.0)
    assert ends == {"a": (1.5, True), "b": (2.0, True), "c": (11.0, False)}


def test_bytes_on_the_wire_are_those_that_redis_counts(make_redis: MakeRedis) -> None:
    """The computed sizes of a poll and its answer are what Redis itself counts."""
    server = make_redis()
    client, store = server.client(), RedisStore(server.url, "my-team")
    base = knowledge.template("web-00001:12345:0123456789ab", Settings(), 45.0)
    meta = Meta("0" * 32, 0, 1_700_000_000_000, 1, 1, etag='"e"', writer="posthog-python/7.91.1", project="team=1")
    store.publish("me", Envelope(meta, b"." * 1000), fresh=False, lease=1000)
    asks = [
        knowledge.build_poll(base, Knowledge(), "redis", 0.0),
        base._replace(held=meta.order, held_version=meta.version, grant_age=5),
    ]
    for ask in asks:
        store.poll(ask)
        before = _traffic(server)
        replies = [store.poll(ask) for _ in range(20)]
        after = _traffic(server)
        overhead = tuple(b - a for a, b in zip(after, _traffic(server), strict=True))  # of reading these figures
        received, sent = (after[i] - before[i] - overhead[i] for i in range(2))
        assert received == pytest.approx(20 * poll_size(store.keys, ask), abs=20)
        assert sent == pytest.approx(sum(reply_size(reply, 1000) for reply in replies), rel=0.02)
    client.close()
    store.close()


def _traffic(server: RedisServer) -> tuple[int, int]:
    info = server.client().info("stats")
    return info["total_net_input_bytes"], info["total_net_output_bytes"]


# --- cost ------------------------------------------------------------------------------------------------------------


def test_the_model_of_cost_agrees_with_the_simulated_day() -> None:
    """Requests and flag requests of a day without outages equal the formulas, which are a limit in protocol mode."""
    for name in CONTESTANTS:
        modelled, counted = cost.month(name, cost.Fleet(12)), _day(name, 12, QUIET)
        assert counted["api_requests"] * cost.DAYS == pytest.approx(modelled.requests, rel=0.01)
        if name == "protocol":
            assert modelled.flag_requests * 0.5 < counted["flag_requests"] * cost.DAYS <= modelled.flag_requests
        else:
            assert counted["flag_requests"] * cost.DAYS == pytest.approx(modelled.flag_requests, rel=0.06)


def test_prices_are_those_of_the_tiers() -> None:
    """The first million is free; each tier's price applies to the requests in it."""
    prices = [cost.price(n) for n in (1e6, 1.5e6, 2e6, 10e6, 50e6, 150e6)]
    assert prices == pytest.approx([0, 50, 100, 460, 1460, 2460])


# --- what is committed and reported ----------------------------------------------------------------------------------


def test_the_documented_tables_are_those_of_the_committed_results() -> None:
    """docs/scale.md shows the model's table, and each table of the JSON, exactly."""
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
    assert cost.table([cost.Fleet(n) for n in (10, 100, 1000)]) in page
    simulated, measured = report.tables(report.load(scale.RESULTS)), load_report.tables(load_report.load(load.RESULTS))
    for table in [*simulated.split("\n\n"), *measured.split("\n\n")]:
        assert table in page, f"docs/scale.md does not have this table:\n{table}"


def test_a_run_writes_the_json_and_both_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command simulates, draws, and prints the tables; drawing again changes nothing."""
    out = tmp_path / "scale.json"
    scale.main(["--sizes", "3", "--out", str(out)])
    first = capsys.readouterr().out
    plots = {path.name: path.read_text() for path in tmp_path.glob("*.svg")}
    assert set(plots) == {"scale-light.svg", "scale-dark.svg"}
    for plot in plots.values():
        lines = ET.fromstring(plot).findall("{http://www.w3.org/2000/svg}polyline")
        assert len(lines) == 5 + 4  # all ask PostHog, all but one ask Redis
    scale.main(["--draw", "--out", str(out)])
    assert capsys.readouterr().out == first
    assert plots == {path.name: path.read_text() for path in tmp_path.glob("*.svg")}


def test_a_plot_shows_names_as_they_are() -> None:
    """Characters that are markup in XML are escaped, in both themes."""
    for theme in (LIGHT, DARK):
        drawn = svg([Panel("a < b", (Line("none", "x & y", ((1.0, 5.0), (10.0, 50.0))),))], theme)
        assert "a < b" in "".join(ET.fromstring(drawn).itertext())


def test_a_push_takes_what_the_network_takes() -> None:
    """A change reaches all attached workers, and the last one no sooner than the payloads can be sent."""
    case = scale.push(100, 200, gigabits=0.01, spread=0.05)
    assert case["reached"] == 100
    assert not case["timeouts"]
    assert case["first_to_last"] == pytest.approx(100 * case["payload"] / (0.01 * scale.GIGABIT), rel=0.1)
    assert Machine().timeout == Settings().store_timeout


def test_the_load_generator_measures_a_real_redis(make_redis: MakeRedis) -> None:
    """Small measurements: all subscribers get the notice, all workers read the payload once; Redis's counts agree."""
    server = make_redis()
    loaded = LoadedRedis(str(server.socket_path), flags=20)
    polls = asyncio.run(loaded.polls(2, 0.05))
    offered = asyncio.run(loaded.offered(5, rate=200, seconds=0.1))
    fan_out = asyncio.run(loaded.fan_out(30, rounds=2))
    sent = _traffic(server)[1]
    change = asyncio.run(loaded.change(30, spread=0.01))
    sent = _traffic(server)[1] - sent
    loaded.close()
    assert polls.polls > 0
    assert 200 < polls.bytes_in < 600
    assert polls.bytes_out < 300
    assert 0 < offered.p50 <= offered.p99 <= offered.max
    assert 0 < fan_out.first <= fan_out.last <= fan_out.last_max
    assert change.payload * 30 < sent < change.payload * 30 + 60_000
    assert change.first_to_last > 0


def test_a_replica_takes_readers_and_no_leader(make_redis: MakeRedis) -> None:
    """On a replica the poll of a process that may not lead returns the payload; the poll of the leader fails."""
    primary = make_redis(tcp=True, args=("--repl-diskless-sync-delay", "0"))
    replica = make_redis(args=("--replicaof", "127.0.0.1", str(primary.port)))
    written, read = RedisStore(primary.tcp_url, "my-team"), RedisStore(replica.url, "my-team")
    leader = knowledge.template("leader", Settings(), 45.0)
    assert written.poll(leader).leads
    written.publish("leader", Envelope(Meta("v", 0, 1, 1, 1), b"payload"), fresh=False, lease=45_000)
    reader = leader._replace(me="reader", may_lead=False)
    until(lambda: read.poll(reader).payload == b"payload", what="the replica to have it")
    with pytest.raises(StoreError, match="read only"):
        read.poll(leader)
    written.close()
    read.close()
