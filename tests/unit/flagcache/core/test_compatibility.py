"""The three rules for old and new SDKs in one fleet."""

from __future__ import annotations

import pytest

from flagcache.core.compatibility import (
    Lacking,
    as_held,
    ask_for_turn,
    drops_keys,
    is_emptied,
    keeps_held,
    missing_keys,
    still_lacking,
)
from flagcache.core.knowledge import StoreView, template
from flagcache.core.order import Held
from flagcache.settings import Settings
from flagcache.stores.base import Meta, Order, Reply

OLD, NEW = "sdk/1", "sdk/2"
OLD_KEYS, NEW_KEYS = frozenset({"flags"}), frozenset({"flags", "matching"})
ASK = template("me", Settings(refresh_interval=30), 40)


def meta(writer: str = NEW, *, epoch: int = 0, as_of: int = 5, version: str = "v") -> Meta:
    """Metadata as this SDK writes them."""
    return Meta(version, epoch, as_of, as_of, as_of, writer=writer)


def held(*keys: str, writer: str = NEW, epoch: int = 0) -> Held:
    """Definitions with these keys."""
    return Held(meta(writer, epoch=epoch), dict.fromkeys(keys, 1), "store", 0.0)


def reply(*, unchanged: bool = False, found: Meta | None = None) -> Reply:
    """A reply to a poll."""
    return Reply(clock=10, leads=False, lease_left=1, granted_at=0, unchanged=unchanged, meta=found)


@pytest.mark.parametrize(
    ("holds", "drops"),
    [
        (None, False),
        (held("flags", "matching"), True),
        (held("flags"), False),
        (held("flags", "matching", writer=OLD), False),
    ],
)
def test_an_older_sdk_would_drop_what_it_does_not_know(holds: Held | None, drops: bool) -> None:
    """Rule 1: an older SDK would drop a newer one's keys. What it wrote itself lacks nothing for it."""
    assert drops_keys(holds, OLD, OLD_KEYS) is drops


def test_a_store_that_was_never_polled_is_not_emptied() -> None:
    """Nothing is known of it yet."""
    assert not is_emptied(StoreView())
    assert is_emptied(StoreView(replied_at=1.0))
    assert not is_emptied(StoreView(replied_at=1.0, stored=meta()))


def test_what_another_sdk_left_out_is_missing() -> None:
    """What the same SDK left out, the vendor did not send."""
    assert missing_keys(meta(OLD), {"flags": []}, NEW, NEW_KEYS) == ("matching",)
    assert missing_keys(meta(NEW), {"flags": []}, NEW, NEW_KEYS) == ()
    assert missing_keys(meta(OLD), {"flags": [], "matching": 1}, NEW, NEW_KEYS) == ()


def test_what_is_held_is_kept_for_its_key_until_people_clear() -> None:
    """Rule 3: held definitions with a key that the stored ones lack are kept until people clear."""
    assert keeps_held(held("flags", "matching"), meta(OLD), ("matching",))
    assert not keeps_held(held("flags"), meta(OLD), ("matching",))
    assert not keeps_held(held("flags", "matching"), meta(OLD, epoch=1), ("matching",))
    assert not keeps_held(None, meta(OLD), ("matching",))


def test_a_turn_is_asked_for_once() -> None:
    """Rule 2: a turn is asked for once, not by the leader, and not after a later grant."""
    lacking = Lacking(meta(OLD, as_of=5), kept=False)
    asked = ask_for_turn(ASK, StoreView(), lacking)
    assert (asked.interval, asked.challenge) == (3000, min(ASK.challenge, 15_000))
    assert ask_for_turn(ASK, StoreView(leads=True), lacking) == ASK
    assert ask_for_turn(ASK, StoreView(last_grant=6), lacking) == ASK
    assert asked.held is None


def test_what_was_refused_for_its_keys_is_not_sent_again() -> None:
    """The poll names it as held."""
    lacking = Lacking(meta(OLD, epoch=1, as_of=5, version="w"), kept=True)
    asked = ask_for_turn(ASK, StoreView(leads=True), lacking)
    assert (asked.held, asked.held_version) == (Order(1, 5), "w")


def test_a_reply_is_read_in_terms_of_what_is_held() -> None:
    """The word "unchanged" speaks of what the poll named, which this process does not hold."""
    kept, used = Lacking(meta(OLD), kept=True), Lacking(meta(OLD), kept=False)
    assert as_held(reply(unchanged=True), kept) == reply(found=meta(OLD))
    assert as_held(reply(unchanged=True), used) == reply(unchanged=True)
    assert as_held(reply(found=meta()), kept) == reply(found=meta())


def test_the_record_ends_with_other_definitions() -> None:
    """A later confirmation of the same definitions moves its times."""
    lacking = Lacking(meta(OLD), kept=True)
    later = meta(OLD, as_of=9)
    assert still_lacking(reply(found=later), lacking) == Lacking(later, kept=True)
    assert still_lacking(reply(unchanged=True), lacking) == lacking
    assert still_lacking(reply(found=meta(version="x")), lacking) is None
    assert still_lacking(reply(), lacking) is None
