"""The border between definitions and envelopes: what is bound together, and what a reader refuses."""

from __future__ import annotations

from contextlib import suppress
from typing import cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flagcache.encoding import memory_limit, payload
from flagcache.encoding.codec import Codec, label_of
from flagcache.encoding.payload import FORMAT, decode, digest, encode
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
    """Definitions and metadata are read as they were written."""
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
    """Metadata belong together, also without the payload: none can be replaced by another envelope's."""
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
    """Definitions that are too large for readers' limit, or not JSON, are never written."""
    with pytest.raises(EnvelopeError):
        codec(limit=100).write(cast("dict[str, object]", {"flags": [{"key": "x" * 1000}]}), META)
    with pytest.raises(EnvelopeError):
        codec().write({"flags": [b"x"]}, META)


BIG = 2**64
"""With an integer that msgpack cannot hold, definitions are written in JSON."""

ITEMS: st.SearchStrategy[object] = st.one_of(
    st.sampled_from(list[object]([0, -9, BIG, 1.5, None, True, "", "zz", "[[[[", "\ud83d", "é" * 20])),
    st.text(max_size=3),
    st.builds(list[object]),
    st.builds(dict[str, object]),
    st.lists(st.sampled_from(list[object](["zz", 1000])), max_size=3),
)
CROWDS = st.tuples(ITEMS, st.integers(0, 400)).map(lambda drawn: [drawn[0]] * drawn[1])
VALUES: st.SearchStrategy[object] = st.one_of(ITEMS, CROWDS, st.lists(ITEMS, max_size=9))
CONTENTS = st.dictionaries(st.text(max_size=3), VALUES, max_size=5)


def is_accepted(definitions: dict[str, object], limit: int, kind: Protection) -> tuple[bool, bool]:
    """Whether `write` accepts these, and whether a reader takes the payload that is made without a limit."""
    meta = META._replace(version=digest(definitions))
    written = read = False
    with suppress(EnvelopeError):
        envelope = codec(kind, limit=limit).write(definitions, meta)
        written = True
        assert digest(codec(kind, limit=limit).read(meta.version, envelope.payload)) == meta.version
    with suppress(EnvelopeError):
        decode(encode(definitions, meta.version), version=meta.version, limit=limit)
        read = True
    return written, read


@given(CONTENTS, st.one_of(st.integers(-3, 3), st.integers(-600, 2000)), st.sampled_from(KINDS))
@example({"flags": ["zz"] * 400}, 0, PLAIN)
@example({"flags": [[]] * 90}, 0, PLAIN)
@example({"flags": ["[[[[", BIG] * 30}, 0, PLAIN)
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_what_readers_take(definitions: dict[str, object], more: int, kind: Protection) -> None:
    """`write` accepts exactly what `read` accepts, at the limits of size, containers and memory, in both codecs."""
    size = int.from_bytes(encode(definitions, digest(definitions))[2:6], "big")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(payload, "_FEWEST_CONTAINERS", 60)
        patched.setattr(memory_limit, "_LEAST", 0)
        written, read = is_accepted(definitions, max(1, size + more), kind)
    assert written == read


@pytest.mark.parametrize("flags", [1, 2_000])
def test_what_is_written_is_not_decoded(flags: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sizes are known from the encoder. Only what comes near to a limit is read once, and what is in JSON."""

    def read(*_arguments: object, **_options: object) -> object:
        raise EnvelopeError("it was read")

    monkeypatch.setattr(payload, "read_msgpack", read)
    monkeypatch.setattr(payload, "inflate", read)
    definitions: dict[str, object] = {
        "flags": [{"key": f"flag-{n}", "filters": {"groups": [{}]}} for n in range(flags)]
    }
    assert codec().write(definitions, META._replace(version=digest(definitions)))
    for near in ({"flags": [BIG]}, {"flags": ["zz"] * 60_000, "cohorts": ["zz"] * 60_000}):
        with pytest.raises(EnvelopeError, match="it was read"):
            codec().write(cast("dict[str, object]", near), META)


@pytest.mark.parametrize("limit", [100_000, 1 << 20, 2 << 20])
def test_more_containers_than_readers_take_are_not_written(limit: int) -> None:
    """On both sides of the limit, `write` accepts what readers take."""
    most = max(65_536, limit // 16) - 5  # the body, the document and three lists are containers too
    for more in (0, 1):
        lists: list[list[object]] = [[[]] * ((most + more + part) // 3) for part in range(3)]
        definitions = dict[str, object](zip("abc", lists, strict=True))
        assert is_accepted(definitions, limit, PLAIN) == (not more, not more)


def test_a_plain_version_is_checked_against_its_definitions() -> None:
    """With a key, opening the payload has checked it."""
    codec().check_name(META.version, DEFINITIONS)
    with pytest.raises(EnvelopeError):
        codec().check_name("0" * 32, DEFINITIONS)
    codec(Sealed(KEY)).check_name("0" * 32, DEFINITIONS)
