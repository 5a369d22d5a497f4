"""The entity tag of a request: the vendor's own for the held version, else the store's, else none."""

from __future__ import annotations

from flagcache.stores.base import Meta
from flagcache.worker.entity_tags import EntityTags


def meta(version: str, etag: str, *, epoch: int = 0) -> Meta:
    """What is held."""
    return Meta(version, epoch, 1, 1, 1, etag)


def test_the_tag_of_what_is_held_is_sent() -> None:
    """A new leader continues the chain with the tag that the store has; with nothing held, or no tag, there is none."""
    assert EntityTags().for_request(meta("a", "1"), 0) == "1"
    assert EntityTags().for_request(meta("a", ""), 0) == ""
    assert EntityTags().for_request(None, 0) == ""


def test_what_the_vendor_sent_goes_before_what_a_store_says() -> None:
    """Another tag beside the same content costs no full fetch, whatever wrote it."""
    tags = EntityTags()
    tags.received("a", "1")
    tags.received("a", "2")
    assert tags.for_request(meta("a", "forged"), 0) == "2"
    assert tags.for_request(meta("a", "1"), 0) == "2"


def test_the_tag_of_another_content_is_not_sent() -> None:
    """The tag of the vendor's content beside another one would make the vendor confirm that one."""
    tags = EntityTags()
    tags.received("a", "1")
    assert tags.for_request(meta("b", "1"), 0) == ""


def test_after_a_raised_epoch_no_tag_is_sent() -> None:
    """After `clear` the vendor's definitions are fetched in full, and held ones aren't confirmed."""
    tags = EntityTags()
    tags.received("a", "1")
    assert tags.for_request(meta("a", "1"), 1) == ""
    assert tags.for_request(meta("a", "1", epoch=1), 1) == "1"


def test_only_the_latest_contents_are_remembered() -> None:
    """However many contents come, memory is bounded."""
    tags = EntityTags()
    for number in range(1000):
        tags.received(f"v{number}", f"e{number}")
    assert tags.for_request(meta("v0", "x"), 0) == "x"
    assert tags.for_request(meta("v999", "x"), 0) == "e999"
