"""What a process writes to a store, and what follows from the store's verdict."""

from __future__ import annotations

import pytest

from flagcache.core.order import Held
from flagcache.core.publication import after_offer, after_repair, kind_of_repair, plan_offer
from flagcache.stores.base import Meta, Published

STORE = "store"


def meta(version: str = "v", *, etag: str = "", project: str = "", as_of: int = 5) -> Meta:
    """Metadata of this version."""
    return Meta(version, 0, as_of, as_of, as_of, etag=etag, project=project)


def held(version: str = "v", *, accepted: bool = False, store_name: str = STORE) -> Held:
    """Definitions of this version."""
    return Held(meta(version), {"flags": []}, store_name, 100.0, accepted=accepted)


def test_another_version_is_published() -> None:
    """So are the first definitions of an empty store, and what has another entity tag now."""
    for stored in (None, meta("w"), meta(etag="old")):
        offer = plan_offer(meta(etag="new"), stored)
        assert (offer.confirm_first, offer.confirm_if_late, offer.meta) == (False, False, meta(etag="new"))


def test_the_stored_version_is_confirmed() -> None:
    """The stored version is confirmed, also if the vendor sent no entity tag this time."""
    assert plan_offer(meta(etag="e"), meta(etag="e")).confirm_first
    assert plan_offer(meta(), meta(etag="e")).confirm_first


def test_news_of_the_project_is_published_with_the_stored_version() -> None:
    """If that is refused as late, a confirmation is still right."""
    offer = plan_offer(meta(project="team=1 key=b"), meta(project="team=1"))
    assert (offer.confirm_first, offer.confirm_if_late, offer.meta.project) == (False, True, "team=1 key=b")
    assert plan_offer(meta(project="team=1"), meta(project="team=1 key=b")).confirm_first


def test_a_project_longer_than_any_store_takes_is_not_joined() -> None:
    """A joined project that is longer than any store takes is not stored; the store's own stays."""
    assert plan_offer(meta(project="team=1"), meta(project=f"key={'b' * 510}")).meta.project == "team=1"


@pytest.mark.parametrize("published", [Published.STORED, Published.CONFIRMED, None])
def test_what_no_store_calls_late_is_held(published: Published | None) -> None:
    """What every reader would refuse is held too: this process may use it."""
    kept = after_offer(held(), published, late=False, now=7.0)
    assert kept is not None
    assert (kept.accepted, kept.unsettled) == (True, None)


def test_what_is_certainly_late_is_dropped() -> None:
    """The store has newer definitions, and the next poll brings them."""
    assert after_offer(held(), Published.STALE, late=True, now=7.0) is None


@pytest.mark.parametrize("published", [Published.STALE, Published.UNSETTLED])
def test_what_may_be_newer_than_the_store_is_held_for_a_while(published: Published) -> None:
    """Its place in the order is open since now."""
    kept = after_offer(held(), published, late=False, now=7.0)
    assert kept is not None
    assert (kept.accepted, kept.unsettled) == (False, 7.0)


@pytest.mark.parametrize("published", [Published.STORED, Published.CONFIRMED])
def test_a_repair_that_the_store_took_counts_as_accepted(published: Published) -> None:
    """It has the store's times then, also in the place of a version whose key is missing."""
    before = held(store_name="elsewhere")._replace(unsettled=3.0)
    kept = after_repair(before, meta(as_of=9), STORE, published, replacing=True, signs=True)
    assert kept == before._replace(meta=meta(as_of=9), store_name=STORE, accepted=True, unsettled=None)


def test_what_no_store_ever_took_is_ordered_last_if_others_moved_on() -> None:
    """Without a key the store's order is believed."""
    kept = after_repair(held(), meta(), STORE, Published.STALE, replacing=False, signs=False)
    assert (kept.meta.epoch, kept.meta.as_of) == (0, 1)
    assert kept.born < held().born


@pytest.mark.parametrize(
    ("before", "published", "replacing", "signs"),
    [
        (held(accepted=True), Published.STALE, False, False),
        (held(), Published.UNSETTLED, False, False),
        (held(), None, False, False),
        (held(), Published.STALE, True, False),
        (held(), Published.STALE, False, True),
    ],
)
def test_other_verdicts_change_nothing(before: Held, published: Published | None, replacing: bool, signs: bool) -> None:
    """The next poll shows more."""
    assert after_repair(before, meta(), STORE, published, replacing=replacing, signs=signs) is before


@pytest.mark.parametrize(
    ("had", "newest", "empty", "kind"),
    [
        (held(accepted=True), "", True, (False, True)),
        (held(), "v", False, (False, True)),
        (held(), "u", False, (True, True)),
        (held(), "", False, (True, False)),
        (held(), "", True, (False, False)),
        (None, "", True, (False, True)),
    ],
)
def test_a_repair_is_reported_as_it_is(had: Held | None, newest: str, empty: bool, kind: tuple[bool, bool]) -> None:
    """The store lost definitions, was away while they changed, or never had any."""
    assert kind_of_repair(had, STORE, newest, empty=empty) == kind
