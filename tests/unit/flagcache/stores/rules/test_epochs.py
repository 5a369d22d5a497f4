"""How an epoch is raised, and how a store gets back one that it has lost."""

from __future__ import annotations

from flagcache.stores.base import Ask, Meta, Notice, Order
from flagcache.stores.rules.epochs import clear, with_epoch_of
from flagcache.stores.rules.state import Outcome, State

CLOCK = 1_700_000_000_000
ASK = Ask("me", interval=30_000, lease=60_000, cold_lease=4_000, challenge=120_000)


def meta(as_of: int, *, epoch: int = 0) -> Meta:
    """Of definitions whose fetch was granted then."""
    return Meta("v", epoch, as_of, changed_at=as_of, confirmed_at=as_of)


FULL = State(
    meta=meta(70, epoch=2),
    epoch=2,
    highest=80,
    grant=80,
    granted=(80, 70, 60),
    holder="me",
    outcome=Outcome.OPEN,
    failures=2,
    owner="me",
    lease_until=CLOCK + 50_000,
    lease_length=60_000,
    deputy="other",
)


def test_clear_forgets_all_but_lease_and_order() -> None:
    """The next epoch, a notice, and a lease that ends soon unless its holder renews it."""
    state, notice = clear(FULL, CLOCK, "stamp")
    assert notice == Notice("clear", 3, "")
    assert (state.epoch, state.epoch_stamp) == (3, "stamp")
    assert (state.meta, state.grant, state.granted, state.holder, state.failures) == (None, 0, (0, 0, 0), "", 0)
    assert (state.owner, state.deputy, state.highest) == ("me", "other", 80)
    assert state.lease_until == CLOCK + 2_000


def test_clear_of_a_forged_epoch_takes_the_clock() -> None:
    """No epoch of a worker reaches it by counting, and the next `clear` counts on from it."""
    state, notice = clear(FULL._replace(epoch=0, invalid_epoch=True), CLOCK)
    assert state.epoch == notice.epoch == CLOCK
    assert not state.invalid_epoch
    assert clear(state, CLOCK)[0].epoch == CLOCK + 1


def test_a_store_gets_back_the_epoch_that_it_lost() -> None:
    """A store gets its lost epoch back with the asker's stamp; what was fetched since gets that epoch."""
    state = with_epoch_of(State(meta=meta(70), epoch=0), Order(2, 60), ASK._replace(epoch_stamp="stamp"))
    assert (state.epoch, state.epoch_stamp, state.meta) == (2, "stamp", meta(70, epoch=2))


def test_definitions_from_before_the_lost_epoch_go() -> None:
    """They may be what people cleared, so the asker is asked at once to bring back its own."""
    state = with_epoch_of(State(meta=meta(50), epoch=0, repair_asked=CLOCK), Order(2, 60), ASK)
    assert (state.epoch, state.meta, state.repair_asked) == (2, None, 0)
    assert with_epoch_of(State(), Order(2, 60), ASK).epoch == 2


def test_a_store_with_a_later_epoch_keeps_it() -> None:
    """The asker holds what people have cleared since."""
    assert with_epoch_of(FULL, Order(1, 900), ASK) is FULL
    assert with_epoch_of(FULL, Order(2, 900), ASK) is FULL
