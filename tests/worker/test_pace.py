"""The pace of the background: whatever is stuck, it is never busy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from flagcache.clients import Client
from flagcache.core.knowledge import Knowledge
from flagcache.core.schedule import Duties
from flagcache.worker.background import Asks, Attendant
from flagcache.worker.last_known_good import Archive
from flagcache.worker.poll import Exchange
from flagcache.worker.state import Ledger
from tests.worker.house import House
from tests.worker.processes import Fleet

FLOOR, LATER = 0.02, 0.5
STUCK = -1.0


@pytest.mark.parametrize("polling", [None, False], ids=["no poller", "poller ended"])
@pytest.mark.parametrize("stuck", ["renew", "contend", "end of the lease", "archive", "probe"])
def test_no_stuck_duty_makes_it_busy(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, stuck: str, polling: bool | None
) -> None:
    """A duty that is due each time, because doing it changes nothing, is done ever more rarely, from every 20 ms on."""
    plan = House(fleet).plan
    ledger = Ledger(plan, Knowledge())
    client = SimpleNamespace(
        listening=True, gone=False, polling=polling, fetcher=None, poll_interval=30.0, asking=False
    )
    client.poll = client.close = lambda: None
    plan.clients.add(cast("Client", client))
    exchange = cast("Exchange", SimpleNamespace(renew=lambda: None, subscribe=lambda: None))
    archive = SimpleNamespace(due_at=STUCK if stuck == "archive" else 1e9, keep=lambda: None)
    due = {
        "renew": Duties(renew_at=STUCK),
        "contend": Duties(contend_at=STUCK),
        "end of the lease": Duties(over_at=STUCK),
    }

    def next_duty(*_: object) -> Duties:
        return due.get(stuck, Duties())

    monkeypatch.setattr("flagcache.core.schedule.next_duty", next_duty)
    if stuck == "probe":
        monkeypatch.setattr(type(ledger.tiers), "probe_at", STUCK)
    asks = cast("Asks", SimpleNamespace(ask_once=lambda: None, fetching=False))
    attendant = Attendant(plan, ledger, exchange, cast("Archive", archive), asks)
    pauses = [attendant.attend() for _ in range(10)]
    assert min(pauses) >= FLOOR
    assert pauses[-1] >= LATER
