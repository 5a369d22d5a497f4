"""What time does to definitions."""

from __future__ import annotations

from flagcache.core.ageing import is_stale, outranking, settled
from flagcache.core.knowledge import Knowledge, StoreView
from flagcache.core.order import UNKNOWN_AGE, Held
from flagcache.stores.base import Meta


def meta(as_of: int, *, epoch: int = 0) -> Meta:
    """Of definitions whose fetch was granted then."""
    return Meta("v", epoch, as_of, changed_at=as_of, confirmed_at=as_of)


def knowing(*, born: float = 0.0, unsettled: float | None = None) -> Knowledge:
    """A process that holds definitions since then."""
    return Knowledge(held=Held(meta(10, epoch=3), {"flags": []}, "redis://a/0", born, unsettled=unsettled))


def test_an_unsettled_order_is_settled_in_time() -> None:
    """Then the definitions order before all others, so that the store's replace them."""
    know = knowing(born=50.0, unsettled=100.0)
    assert settled(know, 60.0, 160.0) is know
    given_up = settled(know, 60.0, 160.1).held
    assert given_up is not None
    assert given_up.unsettled is None
    assert (given_up.meta.order, given_up.born) == ((0, 1), 50.0 - UNKNOWN_AGE)


def test_what_no_store_refused_stays_as_it_is() -> None:
    """However old it is; and a process with nothing has nothing to settle."""
    for know in (knowing(born=0.0), Knowledge()):
        assert settled(know, 60.0, 1e6) is know


def test_what_outranks_the_stored_definitions_keeps_its_place() -> None:
    """What doesn't is ordered just after them, in their epoch."""
    assert outranking(meta(20), meta(10)) == meta(20)
    assert outranking(meta(20), meta(10, epoch=2)).order == (2, 20)
    assert outranking(meta(5), meta(10, epoch=2)).order == (2, 11)
    assert outranking(meta(10), meta(10)).order == (0, 11)


def test_definitions_are_stale_once_nothing_confirmed_them_for_long() -> None:
    """Nothing is stale before that, and nothing if nothing is held."""
    assert not is_stale(knowing(born=0.0), stale_after=90.0, polls_every=30.0, now=90.0)
    assert is_stale(knowing(born=0.0), stale_after=90.0, polls_every=30.0, now=90.1)
    assert not is_stale(Knowledge(), stale_after=90.0, polls_every=30.0, now=1e6)


def test_a_follower_counts_the_age_at_its_latest_reply() -> None:
    """Another worker's confirmation arrives with the next poll; a reply that is overdue counts no more."""
    know = knowing(born=0.0).with_view("redis://a/0", StoreView(replied_at=80.0))
    assert not is_stale(know, stale_after=90.0, polls_every=30.0, now=125.0)
    assert is_stale(know, stale_after=90.0, polls_every=30.0, now=125.1)
    later = know.with_view("sqlite:///b", StoreView(replied_at=90.1))
    assert is_stale(later, stale_after=90.0, polls_every=30.0, now=100.0)
