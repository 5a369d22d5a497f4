"""The border between definitions and envelopes: what is bound together, and what a reader refuses."""

from __future__ import annotations

from typing import cast

import pytest

from flagcache.encoding.codec import Codec, label_of
from flagcache.encoding.payload import FORMAT, digest
from flagcache.encoding.protection import PLAIN, Protection, Sealed, Signed
from flagcache.errors import EnvelopeError
from flagcache.stores.base import Grant, Meta

KEY, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2
DEFINITIONS: dict[str, object] = {"flags": [{"key": "a"}], "group_type_mapping": {}, "cohorts": {}}
META = Meta(digest(DEFINITIONS), 2, 30, 10, 20, 'W/"tag"', "posthog-python/7", "team=1")
KINDS: list[Protection] = [PLAIN, Signed(KEY), Sealed(KEY)]

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
with_a_key = pytest.mark.parametrize("kind", KINDS[1:], ids=lambda kind: kind.name)


def codec(kind: Protection = PLAIN, namespace: str = "shop", limit: int = 1 << 20) -> Codec:
    """Of one namespace."""
    return Codec(namespace, kind, limit=limit)


@every_kind
def test_what_is_written_is_read(kind: Protection) -> None:
    """Definitions and metadata."""
    envelope = codec(kind).write(DEFINITIONS, META)
    assert codec(kind).read(META.version, envelope.payload) == DEFINITIONS
    assert codec(kind).read_meta(envelope.meta) == META
    assert codec(kind).is_current(envelope.meta)
    assert codec(kind).is_current_payload(envelope.payload)


def test_workers_that_cannot_read_each_other_use_other_keys() -> None:
    """The label has the format and the protection."""
    labels = [label_of(kind) for kind in KINDS]
    assert labels[0] == f"{FORMAT}-plain"
    assert len({*labels}) == len(KINDS)


def test_a_payload_belongs_to_its_version() -> None:
    """One that was put under another name is refused."""
    envelope = codec().write(DEFINITIONS, META)
    with pytest.raises(EnvelopeError):
        codec().read("0" * 32, envelope.payload)


@with_a_key
def test_a_payload_belongs_to_its_namespace_and_key(kind: Protection) -> None:
    """Neither a payload nor its metadata pass in another namespace, or with another key."""
    envelope = codec(kind).write(DEFINITIONS, META)
    for reader in (codec(kind, "blog"), codec(type(kind)(OTHER))):  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        with pytest.raises(EnvelopeError):
            reader.read(META.version, envelope.payload)
        with pytest.raises(EnvelopeError):
            reader.read_meta(envelope.meta)


@with_a_key
def test_metadata_belong_together(kind: Protection) -> None:
    """Without the payload too: none can be replaced by one of another envelope."""
    stored = codec(kind).write(DEFINITIONS, META).meta
    for forged in (
        stored._replace(writer="x"),
        stored._replace(project="team=2"),
        stored._replace(etag=META.etag),
        stored._replace(etag=""),
    ):
        with pytest.raises(EnvelopeError):
            codec(kind).read_meta(forged)


def test_a_version_is_a_digest() -> None:
    """Any other text in its place is damage."""
    with pytest.raises(EnvelopeError, match="no digest"):
        codec().read_meta(META._replace(version="latest"))


@with_a_key
def test_only_signed_times_are_believed(kind: Protection) -> None:
    """They replace the ones that stand beside them; without a valid stamp there are none."""
    stored = codec(kind).write(DEFINITIONS, META).meta
    forged = stored._replace(epoch=9, as_of=900, confirmed_at=900)
    believed = codec(kind).believed(forged)
    assert (believed.epoch, believed.as_of, believed.confirmed_at) == (2, 30, 20)
    assert codec(kind).believed(forged._replace(stamp="x")).stamp == ""
    moved = codec(kind).stamp_of(META.version, Grant(2, 70, 60))
    assert codec(kind).believed(stored._replace(stamp=moved)).confirmed_at == 60


def test_without_a_key_nothing_is_signed() -> None:
    """The metadata are as they are stored."""
    assert codec().stamp_of(META.version, Grant(2, 70, 60)) == ""
    assert codec().believed(META) == META


def test_what_readers_would_refuse_is_never_written() -> None:
    """Too large for their limit, or not JSON."""
    with pytest.raises(EnvelopeError):
        codec(limit=100).write(cast("dict[str, object]", {"flags": [{"key": "x" * 1000}]}), META)
    with pytest.raises(EnvelopeError):
        codec().write({"flags": [b"x"]}, META)


def test_a_plain_version_is_checked_against_its_definitions() -> None:
    """With a key, opening the payload has checked it."""
    codec().check_name(META.version, DEFINITIONS)
    with pytest.raises(EnvelopeError):
        codec().check_name("0" * 32, DEFINITIONS)
    codec(Sealed(KEY)).check_name("0" * 32, DEFINITIONS)
