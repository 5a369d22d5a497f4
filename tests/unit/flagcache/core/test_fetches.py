"""What the end of a fetch means for the process that made it."""

from __future__ import annotations

import pytest

from flagcache.core.fetches import (
    apply_success,
    confirmed,
    failed_silently,
    failure_of,
    fetched,
    without_note,
)
from flagcache.core.knowledge import Knowledge
from flagcache.core.notes import Note
from flagcache.core.order import Held
from flagcache.stores.base import Grant, Meta, Scope
from flagcache.vendor import Refused, Unchanged

DEFINITIONS: dict[str, object] = {"flags": []}
HELD = Held(Meta("v1", 2, 50, 40, 45, etag="e"), DEFINITIONS, "redis", 100.0)


@pytest.mark.parametrize("held", [HELD, None])
@pytest.mark.parametrize("etag", ["e", ""])
def test_a_refusal_is_the_failure(held: Held | None, etag: str) -> None:
    """Whatever the process held, and however it asked."""
    refused = Refused("unavailable", Scope.EVERYBODY, 503, retry_after=7.0)
    assert failure_of(refused, held, etag) is refused


def test_unchanged_confirms_what_was_held() -> None:
    """The request had its entity tag."""
    assert failure_of(Unchanged(), HELD, "e") is None


@pytest.mark.parametrize(("held", "etag"), [(HELD, ""), (None, "e"), (None, "")])
def test_unchanged_without_a_condition_is_a_failure(held: Held | None, etag: str) -> None:
    """It confirms nothing. Another process may get a proper answer."""
    failure = failure_of(Unchanged(), held, etag)
    assert failure is not None
    assert (failure.scope, failure.status) == (Scope.MINE, 304)


def test_another_version_is_held_as_it_came() -> None:
    """So are the first definitions."""
    brought = Held(Meta("v2", 2, 90, 90, 90), {"flags": [2]}, "redis", 160.0, accepted=False)
    assert fetched(brought, HELD) is brought
    assert fetched(brought, None) is brought


def test_the_same_version_keeps_its_objects() -> None:
    """Clients that have them hash and copy nothing. The content is as old as it was, and the times are new."""
    brought = Held(Meta("v1", 2, 90, 90, 90, etag="f"), {"flags": []}, "file", 160.0, accepted=False)
    kept = fetched(brought, HELD)
    assert kept == brought._replace(meta=brought.meta._replace(changed_at=40))
    assert kept.definitions is DEFINITIONS


def test_a_confirmation_has_the_times_of_its_grant() -> None:
    """The age counts from the poll that brought the grant, on this process's clock. The content stays the same."""
    kept = confirmed(HELD, "file", Grant(3, 90, 80), 160.0)
    assert kept == Held(Meta("v1", 3, 90, 40, 80, etag="e"), DEFINITIONS, "file", 160.0, accepted=False)
    assert kept.definitions is DEFINITIONS


def test_a_silent_fetch_of_a_process_that_never_got_definitions_failed() -> None:
    """Its SDK sent no entity tag, so the vendor can't have answered "unchanged"."""
    grant = Grant(2, 90, 90)
    assert failed_silently(Knowledge(), grant)
    assert failed_silently(Knowledge(held=HELD), grant)  # it has these from the store
    assert not failed_silently(Knowledge(held=HELD, received=True), grant)
    assert not failed_silently(Knowledge(received=True), grant)


def test_a_silent_fetch_after_a_clear_failed() -> None:
    """The answer "unchanged" would not bring back what people cleared."""
    assert failed_silently(Knowledge(held=HELD, received=True), Grant(3, 90, 90))


def test_a_success_ends_the_failures_of_this_process() -> None:
    """It may lead again at once."""
    know = Knowledge(held=HELD, failures=3, failed_at=5.0, stay_out_until=90.0)
    assert apply_success(know, brought=False) == know._replace(failures=0, stay_out_until=0.0)


def test_definitions_from_a_fetch_are_remembered() -> None:
    """From then on the SDK has an entity tag. A later answer "unchanged" doesn't change that."""
    received = apply_success(Knowledge(), brought=True)
    assert received.received
    assert apply_success(received, brought=False).received


def test_after_a_fetch_there_is_no_note() -> None:
    """Of the store that took it, as of now: what was noted before is over."""
    know = Knowledge(held=HELD, backoff=Note(503, 200.0, "redis", 100.0, 40))
    assert without_note(know, "file", 130.0) == know._replace(backoff=Note(store_name="file", at=130.0))
