"""Why the fleet's latest fetch failed: a failure never counts as over before a fetch succeeded."""

from __future__ import annotations

from flagcache.core.notes import Note, latest, longest_backoff
from flagcache.settings import Settings

REDIS, FILE = "redis://a/0", "sqlite:///b"
FAILED = Note(503, 130.0, REDIS, 100.0, 70)


def without(*, store: str = REDIS, at: float = 110.0, as_of: int = 70) -> Note:
    """A store's reply that has no note."""
    return Note(0, 0.0, store, at, as_of)


def test_a_new_note_replaces_what_was_known() -> None:
    """Whatever that was, and from any store."""
    new = Note(402, 170.0, FILE, 110.0, 0)
    assert latest(FAILED, new, None) is new
    assert latest(without(at=90.0), FAILED, None) is FAILED


def test_a_reply_from_before_is_out_of_date() -> None:
    """The poll was under way when this process reported its own fetch."""
    assert latest(FAILED, Note(0, 0.0, REDIS, 99.0, 99), 120.0) is FAILED
    assert latest(without(at=110.0), FAILED, None) == without(at=110.0)


def test_a_store_that_lost_its_note_does_not_end_the_failure() -> None:
    """It is empty, or has what it had; so has the fallback store, which knows nothing of before."""
    assert latest(FAILED, without(as_of=0), None) is FAILED
    assert latest(FAILED, without(), 90.0) is FAILED
    assert latest(FAILED, without(store=FILE, as_of=900), 90.0) is FAILED


def test_a_fetch_that_succeeded_ends_it() -> None:
    """A successful fetch ends a note, by the store's order or because the vendor has confirmed the version since."""
    ordered, confirmed = without(as_of=71), without(store=FILE)
    assert latest(FAILED, ordered, None) is ordered
    assert latest(FAILED, confirmed, 100.5) is confirmed


def test_without_a_failure_there_is_nothing_to_keep() -> None:
    """The latest reply is what is known."""
    known, said = without(at=100.0), without(at=110.0, as_of=0)
    assert latest(known, said, None) is said


def test_a_back_off_has_an_end() -> None:
    """The longest Retry-After that is believed, or the longest back-off of the settings."""
    assert longest_backoff(Settings(backoff_ceiling=60)) == 300.0
    assert longest_backoff(Settings(backoff_ceiling=900)) == 900.0
