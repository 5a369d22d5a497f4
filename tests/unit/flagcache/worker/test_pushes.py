"""Any client of the store that may publish can ask for a push: how many a process makes, and that none is lost."""

from __future__ import annotations

import math

from flagcache.core.knowledge import Knowledge, StoreView
from flagcache.core.renewals import with_last_renewal
from flagcache.core.token_bucket import TokenBucket
from flagcache.worker.pushes import Pushes
from tests.support.in_process_fleet import Clock

INTERVAL = 30.0
HOME = "redis"


class PushCounter:
    """Counts pushes, and remembers which contended."""

    def __init__(self) -> None:
        self.contended: list[bool] = []

    def __call__(self, *, contend: bool) -> None:
        """Push."""
        self.contended.append(contend)


def test_a_full_bucket_lets_a_burst_pass() -> None:
    """A token comes back each period, and never more than the burst."""
    bucket = TokenBucket(burst=3, period=2.0)
    for _ in range(3):
        assert bucket.ready_at <= 100.0
        bucket = bucket.taken(100.0)
    assert bucket.ready_at == 102.0
    bucket = bucket.taken(102.0)
    assert bucket.ready_at == 104.0
    for _ in range(3):
        assert bucket.ready_at <= 1000.0
        bucket = bucket.taken(1000.0)
    assert bucket.ready_at == 1002.0


def test_changes_in_quick_succession_are_pushed_at_once() -> None:
    """As many as the burst has."""
    pushes, pushed = Pushes(INTERVAL, Clock()), PushCounter()
    for _ in range(5):
        pushes.ask(pushed, contend=False)
    assert len(pushed.contended) == 5
    assert pushes.due_at == math.inf


def test_a_flood_is_a_push_a_second() -> None:
    """Forty requests a second for ten seconds are the burst, and one push more each second."""
    clock, pushed = Clock(), PushCounter()
    pushes = Pushes(INTERVAL, clock)
    for _ in range(400):
        pushes.ask(pushed, contend=False)
        clock.advance(1 / 40)
    assert 5 + 9 <= len(pushed.contended) <= 5 + 10


def test_the_last_request_of_a_flood_is_not_lost() -> None:
    """It is acted on when a token is back, and contends if any of those that it stands for would have."""
    clock, pushed = Clock(), PushCounter()
    pushes = Pushes(INTERVAL, clock)
    for contend in (*[False] * 5, False, True, False):
        pushes.ask(pushed, contend=contend)
    assert pushed.contended == [False] * 5
    assert pushes.due_at == clock.now + 1.0
    clock.advance(0.9)
    pushes.make(pushed)
    assert len(pushed.contended) == 5
    clock.advance(0.1)
    pushes.make(pushed)
    assert pushed.contended == [*[False] * 5, True]
    pushes.make(pushed)
    assert len(pushed.contended) == 6


def test_a_fleet_that_fetches_often_pushes_as_often() -> None:
    """A token comes back twice in a refresh interval that is short."""
    clock, pushed = Clock(), PushCounter()
    pushes = Pushes(0.4, clock)
    for _ in range(5 + 10):
        pushes.ask(pushed, contend=False)
        clock.advance(0.2)
    assert len(pushed.contended) == 15


def test_a_poll_that_renews_nothing_is_no_renewal() -> None:
    """The lease's end doesn't move, nor does the time from which the next renewal counts."""
    before = StoreView(leads=True, renewed=100.0, lease_ends=145.0)
    know = Knowledge().with_view(HOME, StoreView(leads=True, renewed=110.0, lease_ends=145.004))
    assert with_last_renewal(know, HOME, before).view(HOME).renewed == 100.0


def test_a_poll_that_renews_is_a_renewal() -> None:
    """The lease's end has moved, or the lease was taken."""
    for before in (StoreView(leads=True, renewed=100.0, lease_ends=145.0), StoreView(lease_ends=155.0)):
        know = Knowledge().with_view(HOME, StoreView(leads=True, renewed=110.0, lease_ends=155.0))
        assert with_last_renewal(know, HOME, before).view(HOME).renewed == 110.0


def test_a_lost_lease_has_no_renewal() -> None:
    """A process that no longer leads has no renewal to keep."""
    before = StoreView(leads=True, renewed=100.0, lease_ends=145.0)
    know = Knowledge().with_view(HOME, StoreView(lease_ends=145.0))
    assert with_last_renewal(know, HOME, before).view(HOME).renewed == 0.0
