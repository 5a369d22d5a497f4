"""How long a process believes, on its own clock, that another one leads a store which stays empty."""

from __future__ import annotations

from flagcache.settings import Settings
from flagcache.stores.base import Ask
from flagcache.stores.rules.state import Outcome, State
from tests.support.in_process_fleet import Fleet, Process, content

YEAR = 366 * 86_400_000


def forge(fleet: Fleet, leader: str = "ghost", *, note: int = 0) -> None:
    """Write that another process leads and was granted a fetch just now."""
    now = fleet.store_clock()
    forged = State(
        owner=leader,
        holder=leader,
        lease_until=now + YEAR,
        lease_length=YEAR,
        led_since=now,
        grant=now,
        granted=(now, now, now),
        outcome=Outcome.OPEN,
        backoff_status=note,
        backoff_until=now + 60_000 if note else 0,
        backoff_length=60_000 if note else 0,
    )
    vars(fleet.store)["_state"] = forged


def longest(process: Process) -> float:
    """Seconds that this process's own longest lease, or fetch, lasts."""
    return max(process.config.lease, process.config.settings.cold_lease, process.config.settings.fetch_total_timeout)


def seconds_until_fetched(fleet: Fleet, process: Process, most: int) -> int:
    """Poll once a second while the forger writes; how long it takes until this process fetches."""
    for second in range(most):
        forge(fleet)
        process.poll()
        if fleet.upstream.requests:
            return second
        fleet.clock.advance(1)
    return most


def test_a_forged_lease_holds_up_a_fetch_for_the_longest_of_our_own(fleet: Fleet) -> None:
    """Even if the lease is forged before each poll, this process then leads, fetches and publishes."""
    process = fleet.process()
    assert longest(process) <= seconds_until_fetched(fleet, process, 1000) <= longest(process) + 3
    assert process.flags == content(1)
    assert fleet.stored is not None


def test_while_the_vendor_refuses_all_nobody_is_doubted(fleet: Fleet) -> None:
    """A leader may keep the lease of an empty store while a note keeps all from fetching."""
    process = fleet.process()
    for _ in range(5 * round(longest(process))):
        forge(fleet, note=503)
        process.poll()
        fleet.clock.advance(1)
    assert not fleet.upstream.requests
    assert not any(ask.doubts_lease for ask in process.link.asks)


def test_a_new_leader_is_given_as_long(fleet: Fleet) -> None:
    """Each has the time for a fetch of its own; of two processes that doubt one leader the second follows the first."""
    process = fleet.process()
    for number in range(10):
        for _ in range(round(longest(process)) // 2):
            forge(fleet, f"worker {number}")  # which renews it
            process.poll()
            fleet.clock.advance(1)
    assert not any(ask.doubts_lease for ask in process.link.asks)


def test_leaders_of_unlike_leases_do_not_take_turns(fleet: Fleet) -> None:
    """On a store that stays empty the lease goes once to the one that asks more often, whose own is short."""
    often = Ask("often", 30_000, lease=10_000, cold_lease=10_000, challenge=300_000, idle=True)
    seldom = Ask("seldom", 30_000, lease=600_000, cold_lease=600_000, challenge=300_000, idle=True)
    leaders: list[str] = []
    for second in range(3600):
        for ask, every in ((seldom, 200), (often, 5)):
            if second % every == 0 and fleet.store.poll(ask).leads and leaders[-1:] != [ask.me]:
                leaders.append(ask.me)
        fleet.clock.advance(1)
    assert leaders == ["seldom", "often"]


def test_a_lease_that_is_forged_once_holds_up_a_fetch_for_a_cold_lease(fleet: Fleet) -> None:
    """No process renews it: whatever it claims, this process leads before its first load ends without flags."""
    fleet.settings = Settings(refresh_interval=30)
    process, began = fleet.process(), fleet.clock()
    forge(fleet)
    while not fleet.upstream.requests:
        process.worker.poll()
        if process.worker.granted:
            process.fetch()
        fleet.clock.advance(0.5)
    assert fleet.clock() - began <= process.config.settings.cold_lease + 2
    assert process.flags == content(1)


def test_a_leader_that_renews_is_believed(fleet: Fleet) -> None:
    """A first fetch may last longer than a cold lease: its holder renews the lease each second."""
    ask = Ask("leader", 30_000, lease=10_000, cold_lease=4_000, challenge=300_000, listens=True, reports=True)
    assert fleet.store.poll(ask).grant is not None
    process = fleet.process()
    for _ in range(round(process.config.settings.fetch_total_timeout) - 2):
        process.poll()
        fleet.clock.advance(1)
        assert fleet.store.renew("leader", 2_000)
    assert not any(ask.doubts_lease for ask in process.link.asks)


def test_who_polls_seldom_believes_a_leader_that_renews(fleet: Fleet) -> None:
    """Between two of its polls it sees no renewal; each reply shows that there was one."""
    ask = Ask("leader", 30_000, lease=60_000, cold_lease=60_000, challenge=300_000, listens=True, reports=True)
    assert fleet.store.poll(ask).grant is not None
    process = fleet.process()
    for _ in range(3):
        process.poll()
        fleet.clock.advance(15)
        assert fleet.store.renew("leader", 60_000)
    assert not any(ask.doubts_lease for ask in process.link.asks)
