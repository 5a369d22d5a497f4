"""Definitions that a process cannot read because it lacks their key."""

from __future__ import annotations

import pytest

from flagcache.stores.base import Envelope, Meta, Notice, Published, Replacing
from flagcache.stores.rules.replacing import may_replace, renew_protection, replaces_payload, report
from flagcache.stores.rules.state import State

CLOCK = 1_700_000_000_000
EVERY = 30_000


def meta(as_of: int, version: str = "v1", *, epoch: int = 0) -> Meta:
    """Of definitions whose fetch was granted then."""
    return Meta(version, epoch, as_of, changed_at=as_of, confirmed_at=as_of, etag="tag", writer="a", project="p")


STORED = State(meta=meta(70), highest=70)


def test_holders_are_asked_once_an_interval() -> None:
    """About the version that is stored, and no other."""
    state, asked, notice = report(STORED, "v1", EVERY, CLOCK)
    assert (asked, notice, state.key_missed_at) == (True, Notice("note", 0, "v1"), CLOCK)
    assert report(state, "v1", EVERY, CLOCK + EVERY - 1) == (state, False, None)
    assert report(state, "v1", EVERY, CLOCK + EVERY)[1]
    assert report(STORED, "v2", EVERY, CLOCK) == (STORED, False, None)
    assert report(State(), "v1", EVERY, CLOCK)[1] is False


def test_a_version_gives_way_once_an_interval() -> None:
    """If it is still that version, and to definitions of the store's epoch or a later one."""
    replacing = Replacing("v1", EVERY)
    assert may_replace(STORED, meta(5, "v2"), replacing, CLOCK)
    assert not may_replace(STORED, meta(5, "v2"), Replacing("v3", EVERY), CLOCK)
    assert not may_replace(STORED._replace(epoch=1), meta(5, "v2"), replacing, CLOCK)
    assert not may_replace(STORED._replace(replaced_at=CLOCK - 1), meta(5, "v2"), replacing, CLOCK)
    assert may_replace(STORED._replace(replaced_at=CLOCK - 1), meta(5, "v2"), Replacing("v1", 0), CLOCK)
    assert not may_replace(State(), meta(5, "v2"), replacing, CLOCK)


@pytest.mark.parametrize(
    ("published", "as_of", "taken"),
    [
        (Published.STORED, 70, True),
        (Published.CONFIRMED, 70, True),
        (Published.CONFIRMED, 60, False),  # what is stored is newer, and stays
        (Published.STALE, 70, False),
        (Published.UNSETTLED, 70, False),
    ],
)
def test_payload_and_metadata_are_written_together(published: Published, as_of: int, taken: bool) -> None:
    """Also those of the stored version, which may be protected with another key."""
    assert replaces_payload(STORED, Envelope(meta(as_of), b""), published) is taken


def test_the_same_content_may_be_protected_anew() -> None:
    """Its order and its ages stay; an older one changes nothing."""
    anew = meta(70)._replace(etag="sealed", writer="b", project="q", stamp="s", changed_at=1)
    state = renew_protection(STORED, anew, meta(70))
    assert state.meta == meta(70)._replace(etag="sealed", writer="b", project="q", stamp="s")
    without = renew_protection(STORED, anew._replace(etag=""), meta(70))
    assert without.meta is not None
    assert without.meta.etag == "tag"
    assert renew_protection(STORED, meta(60), meta(70)) is STORED
