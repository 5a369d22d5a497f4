"""What is newer: by a store's order, and by signed times."""

from __future__ import annotations

import pytest

from flagcache.core.order import Held, granted_at, is_newer, is_newer_by_signature
from flagcache.stores.base import Meta

REDIS, FILE = "redis://a/0", "sqlite:///b"
CLOCK = 1_000_000


def held(as_of: int, *, epoch: int = 0, confirmed_at: int | None = None, store: str = REDIS, born: float = 0.0) -> Held:
    """Definitions whose fetch was granted then."""
    at = as_of if confirmed_at is None else confirmed_at
    return Held(Meta("v", epoch, as_of, changed_at=at, confirmed_at=at), {"flags": []}, store, born)


def test_in_one_store_the_later_grant_is_newer() -> None:
    """Whatever this process's own clock says; and of equal ones the arriving one replaces the old."""
    assert is_newer(held(20, born=1.0), held(10, born=9.0), CLOCK)
    assert not is_newer(held(10, born=9.0), held(20, born=1.0), CLOCK)
    assert is_newer(held(20), held(20), CLOCK)


def test_the_epoch_comes_before_the_grant() -> None:
    """What people cleared stays older than anything after it."""
    assert is_newer(held(10, epoch=1), held(20), CLOCK)
    assert not is_newer(held(20), held(10, epoch=1), CLOCK)


def test_between_two_stores_the_age_decides() -> None:
    """Their clocks have nothing to do with each other."""
    assert is_newer(held(10, store=FILE, born=5.0), held(20, born=4.0), CLOCK)
    assert not is_newer(held(20, store=FILE, born=3.0), held(10, born=4.0), CLOCK)


def test_an_order_ahead_of_a_clock_that_was_stepped_back_does_not_hold_for_ever() -> None:
    """Then the age decides, if the new one's grant is not ahead of the clock as well."""
    ahead = held(CLOCK + 50, born=1.0)
    assert is_newer(held(CLOCK - 50, born=2.0), ahead, CLOCK)
    assert not is_newer(held(CLOCK - 50, born=0.5), ahead, CLOCK)
    assert not is_newer(held(CLOCK + 40, born=2.0), ahead, CLOCK)


@pytest.mark.parametrize(
    ("as_of", "confirmed_at", "at"), [(10, 10, 10), (30, 10, 10), (10, 30, 10), (CLOCK + 1, CLOCK + 1, 0), (0, 5, 0)]
)
def test_a_grant_was_no_later_than_its_confirmation(as_of: int, confirmed_at: int, at: int) -> None:
    """The smaller of both, because `as_of` may count on from a forged one; 0 if both are yet to come."""
    assert granted_at(held(as_of, confirmed_at=confirmed_at).meta, CLOCK) == at


def test_by_signature_the_confirmation_decides_first() -> None:
    """A forged highest `as_of`, from which the next ones are counted, makes nothing newer."""
    assert is_newer_by_signature(held(10, confirmed_at=10), held(900, confirmed_at=5), CLOCK)
    assert not is_newer_by_signature(held(900, confirmed_at=5), held(10, confirmed_at=10), CLOCK)
    assert is_newer_by_signature(held(12, confirmed_at=10), held(11, confirmed_at=10), CLOCK)


def test_definitions_without_a_signed_time_never_replace_signed_ones() -> None:
    """Whatever their times say; among those without one the store's order decides."""
    unsigned, later = (held(at)._replace(unproved=True) for at in (500, 600))
    assert not is_newer_by_signature(later, held(10), CLOCK)
    assert is_newer_by_signature(held(10), later, CLOCK)
    assert is_newer_by_signature(later, unsigned, CLOCK)
    assert not is_newer_by_signature(unsigned, later, CLOCK)


def test_signed_times_ahead_of_the_clock_give_way_to_the_age() -> None:
    """They were signed before the store's clock was stepped back; between two stores it is the same."""
    ahead = held(CLOCK + 50, born=1.0)
    assert is_newer_by_signature(held(10, born=2.0), ahead, CLOCK)
    assert not is_newer_by_signature(held(10, born=0.5), ahead, CLOCK)
    assert is_newer_by_signature(held(10, store=FILE, born=2.0), held(20, born=1.0), CLOCK)
