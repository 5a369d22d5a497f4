"""The pace of the background: even if something is stuck, it doesn't spin."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from flagcache.clients import Client
from flagcache.core.knowledge import Knowledge
from flagcache.core.schedule import Schedule
from flagcache.worker.background import Background, PollsOnce
from flagcache.worker.last_known_good import LastKnownGood
from flagcache.worker.poll import StorePoller
from flagcache.worker.state import ProcessState
from tests.support.in_process_cache import InProcessCache
from tests.support.in_process_fleet import Fleet

FLOOR, LATER = 0.02, 0.5
STUCK, NEVER = -1.0, 1e9


@pytest.mark.parametrize("polling", [None, False], ids=["no poller", "poller ended"])
@pytest.mark.parametrize("stuck", ["renew", "contend", "end of the lease", "fallback", "probe"])
def test_no_stuck_duty_makes_it_busy(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, stuck: str, polling: bool | None
) -> None:
    """A duty that is due each time, because doing it changes nothing, is done ever more rarely, from every 20 ms on."""
    background, set_due = paced(fleet, monkeypatch, polling=polling)
    set_due(stuck, STUCK)
    pauses = [background.run_due() for _ in range(10)]
    assert min(pauses) >= FLOOR
    assert pauses[-1] >= LATER


@pytest.mark.parametrize("due_in", [0.1, 0.9])
def test_what_is_due_soon_is_in_time_once_nothing_is_stuck(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, due_in: float
) -> None:
    """The slower pace ends with its cause: a check, or the heartbeat of a fetch, does not wait for it."""
    background, set_due = paced(fleet, monkeypatch, polling=None)
    set_due("renew", STUCK)
    for _ in range(10):
        background.run_due()
    set_due("renew", fleet.clock() + due_in)
    assert [background.run_due() for _ in range(2)] == pytest.approx([due_in] * 2)
    set_due("renew", STUCK)
    assert background.run_due() == FLOOR


def test_a_store_that_is_probed_all_the_time_holds_no_other_duty_up(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time that a probe is due, whatever else is due is done after it: the lease is renewed."""
    renewed: list[None] = []
    background, set_due = paced(fleet, monkeypatch, polling=None, renew=lambda: renewed.append(None))
    set_due("renew", STUCK)
    set_due("probe", STUCK)
    for _ in range(3):
        background.run_due()
    assert len(renewed) == 3


def paced(
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
    *,
    polling: bool | None,
    renew: Callable[[], None] = lambda: None,
) -> tuple[Background, Callable[[str, float], None]]:
    """A background with one client whose duties do nothing, and a way to say when which of them is due."""
    config = InProcessCache(fleet).config
    state = ProcessState(config, Knowledge())
    client = SimpleNamespace(
        listening=True, gone=False, polling=polling, can_fetch=False, poll_interval=30.0, asking=False
    )
    client.poll = client.close = lambda: None
    config.clients.add(cast("Client", client))
    poller = cast("StorePoller", SimpleNamespace(renew=renew, subscribe=lambda: None))
    kept = SimpleNamespace(due_at=NEVER, save=lambda: None)
    schedule = Schedule()

    def next_duty(*_: object) -> Schedule:
        return schedule

    def set_due(what: str, at: float) -> None:
        nonlocal schedule
        if what == "fallback":
            kept.due_at = at
        elif what == "probe":
            monkeypatch.setattr(type(state.stores), "probe_at", at)
        else:
            schedule = {
                "renew": Schedule(renew_at=at),
                "contend": Schedule(contend_at=at),
                "end of the lease": Schedule(over_at=at),
            }[what]

    monkeypatch.setattr("flagcache.core.schedule.next_duty", next_duty)
    asks = cast("PollsOnce", SimpleNamespace(poll_once=lambda: None, fetching=False))
    return Background(config, state, poller, cast("LastKnownGood", kept), asks), set_due
