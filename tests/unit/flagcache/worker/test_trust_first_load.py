"""A first load with a key: what it does with old definitions that an attacker without a key has put back."""

from __future__ import annotations

import threading
import time
from typing import cast

import pytest

from flagcache.encoding.protection import PLAIN, Protection, Signed
from flagcache.settings import Settings
from flagcache.stores.base import Scope
from flagcache.stores.rules.state import Outcome
from flagcache.vendor import Refused
from tests.support.in_process_attacker import AttachedProcess, RefusingUpstream, StoreWriter, WritableStore, make_fleet
from tests.support.in_process_fleet import Fleet, content
from tests.support.servers import until
from tests.unit.flagcache.worker.test_cold_start import RealClock

KEY = "0123456789abcdef" * 2


def rolled_back(protection: Protection, *, wait: float = 20.0) -> tuple[Fleet, AttachedProcess]:
    """A fleet whose worker holds revision 2, and whose store was made to hold revision 1, as if all were well."""
    fleet, writer = make_fleet(Settings(refresh_interval=30, cold_start_wait=wait))
    fleet.protection, fleet.clock = protection, RealClock()
    fleet.upstream.clock = fleet.clock
    member = AttachedProcess(fleet)
    _lets_fetch(member, 1)
    old = writer.keep()
    fleet.upstream.serves = content(2)
    fleet.clock.advance(1000)
    _lets_fetch(member, 2)
    writer.roll_back(old)
    return fleet, member


def _lets_fetch(member: AttachedProcess, revision: int) -> None:
    def has_it() -> bool:
        member.poll()
        return member.flags == content(revision)

    until(has_it, what=f"revision {revision}")


def _newcomer_that_waits_for(member: AttachedProcess, fleet: Fleet) -> AttachedProcess:
    """Load in a new process, and let the member fetch once the load waits."""
    newcomer = AttachedProcess(fleet)
    loading = threading.Thread(target=newcomer.poll)
    loading.start()
    until(lambda: len(newcomer.link.calls) >= 3, what="it to wait")
    fleet.clock.advance(31)
    member.poll()
    loading.join(10)
    return newcomer


def test_a_first_load_waits_for_what_is_proved() -> None:
    """A process does not start with old definitions of unsigned age while a worker can bring the right ones."""
    fleet, member = rolled_back(Signed(KEY))
    newcomer = _newcomer_that_waits_for(member, fleet)
    assert newcomer.flags == content(2)
    assert newcomer.fresh


def test_forged_failures_do_not_end_the_wait() -> None:
    """A forged record of failed fetches doesn't make a process start with old definitions, or with none."""
    fleet, member = rolled_back(Signed(KEY))
    StoreWriter(cast("WritableStore", fleet.store), fleet.store_clock).state(outcome=Outcome.FAILED, failures=3)
    newcomer = _newcomer_that_waits_for(member, fleet)
    assert newcomer.flags == content(2)


def test_the_wait_for_a_proof_is_bounded() -> None:
    """The wait lasts at most `cold_start_wait`; then the process starts with them, as with stale ones."""
    fleet, _ = rolled_back(Signed(KEY), wait=0.4)
    newcomer = AttachedProcess(fleet)
    began = time.monotonic()
    newcomer.poll()
    assert time.monotonic() - began < 3
    assert newcomer.flags == content(1)
    assert not newcomer.fresh


def test_a_failed_fetch_ends_the_wait_for_a_proof() -> None:
    """The start of a process waits for no fetch while PostHog can't be reached."""
    fleet, member = rolled_back(Signed(KEY))
    member.worker.leave()
    assert isinstance(fleet.upstream, RefusingUpstream)
    fleet.upstream.refuses = Refused("no answer", Scope.MINE)
    fleet.clock.advance(1000)
    newcomer = AttachedProcess(fleet)
    began = time.monotonic()
    newcomer.poll()
    assert time.monotonic() - began < 3
    assert newcomer.flags == content(1)


def test_without_a_key_nothing_is_waited_for() -> None:
    """Stale definitions are started with at once, if no worker is fetching."""
    fleet, writer = make_fleet(Settings(refresh_interval=30, cold_start_wait=20))
    fleet.clock = RealClock()
    _lets_fetch(AttachedProcess(fleet), 1)
    fleet.clock.advance(1000)
    writer.freeze()
    newcomer = AttachedProcess(fleet)
    began = time.monotonic()
    newcomer.poll()
    assert time.monotonic() - began < 3
    assert newcomer.flags == content(1)


@pytest.mark.parametrize("protection", [PLAIN, Signed(KEY)], ids=["plain", "signed"])
def test_what_is_proved_is_started_with_at_once(protection: Protection) -> None:
    """A signature of a moment ago, or a store that only the fleet can write to, needs no wait."""
    fleet, writer = make_fleet(Settings(refresh_interval=30, cold_start_wait=20))
    fleet.protection, fleet.clock = protection, RealClock()
    _lets_fetch(AttachedProcess(fleet), 1)
    writer.freeze()
    newcomer = AttachedProcess(fleet)
    began = time.monotonic()
    newcomer.poll()
    assert time.monotonic() - began < 3
    assert newcomer.flags == content(1)
