from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import pytest

from flagcache.encoding.codec import Codec
from flagcache.encoding.payload import digest
from flagcache.encoding.protection import PLAIN, Protection, Sealed, SealedAndSigned, Signed, protection_of
from flagcache.errors import EnvelopeError, MissingExtraError
from flagcache.stores.base import Envelope, Meta
from flagcache_posthog.testing import make_definitions

A, B = "0123456789abcdef" * 2, "fedcba9876543210" * 2
LIMIT = 1 << 20


def both(keys: str | Sequence[str]) -> SealedAndSigned:
    """Both, with the same keys."""
    return SealedAndSigned(Sealed(keys), Signed(keys))


KINDS: Sequence[Callable[[str | Sequence[str]], Protection]] = (Signed, Sealed, both)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=["signed", "sealed", "both"])


# --- protections -----------------------------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("payload", [b"", b"x", bytes(100_000)], ids=["empty", "short", "long"])
def test_what_was_protected_opens(kind: Callable[[str], Protection], payload: bytes) -> None:
    """A payload comes back as it was, from another object with the same key."""
    assert kind(A).open(kind(A).protect(payload, b"here"), b"here") == payload


@each_kind
def test_no_altered_byte_passes(kind: Callable[[str], Protection]) -> None:
    """Whichever single bit is turned, and wherever it is cut off or lengthened, it does not open."""
    protected = kind(A).protect(b"definitions", b"here")
    altered = [
        protected[:place] + bytes([protected[place] ^ 1 << bit]) + protected[place + 1 :]
        for place in range(len(protected))
        for bit in range(8)
    ]
    for wrong in (
        *altered,
        *(protected[:end] for end in range(len(protected))),
        protected + b"\0",
        b"",
        b"definitions",
    ):
        with pytest.raises(EnvelopeError):
            kind(A).open(wrong, b"here")


@each_kind
def test_it_opens_only_where_it_belongs(kind: Callable[[str], Protection]) -> None:
    """What it is bound to is not part of it, and nothing can be moved from one to the other."""
    protected = kind(A).protect(b"definitions", b"here")
    for elsewhere in (b"", b"her", b"here ", b"there"):
        with pytest.raises(EnvelopeError):
            kind(A).open(protected, elsewhere)
    with pytest.raises(EnvelopeError):
        kind(A).open(kind(A).protect(b"efinitions", b"hered"), b"here")


@each_kind
def test_another_key_does_not_open(kind: Callable[[str], Protection]) -> None:
    """Without the key that protected it nothing opens, and the message shows none."""
    with pytest.raises(EnvelopeError, match="not protected with a key that this process has") as refused:
        kind(B).open(kind(A).protect(b"definitions", b"here"), b"here")
    assert A not in str(refused.value)
    assert B not in str(refused.value)


@each_kind
def test_rotation(kind: Callable[[str | Sequence[str]], Protection]) -> None:
    """All keys open and the first protects, so no worker is left behind between two steps of a rotation."""
    first, between, swapped, last = kind(A), kind([A, B]), kind([B, A]), kind([B])
    for writer, reader in ((first, between), (between, first), (between, swapped), (swapped, between), (swapped, last)):
        assert reader.open(writer.protect(b"definitions", b"here"), b"here") == b"definitions"
    with pytest.raises(EnvelopeError):
        first.open(swapped.protect(b"definitions", b"here"), b"here")


def test_sealed_shows_nothing() -> None:
    """Sealed twice, the same content looks different, and no word of it is visible."""
    first, second = (Sealed(A).protect(b"a secret flag", b"") for _ in range(2))
    assert first != second
    assert b"secret" not in first


def test_signing_and_encryption_do_not_share_a_key() -> None:
    """The same key may be given for both: what is derived from it differs."""
    signed, sealed = Signed(A).protect(b"", b""), Sealed(A).protect(b"", b"")
    assert signed[:8] != sealed[:8]


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signing", "encryption", "name"),
    [(None, None, "plain"), (A, None, "signed"), (None, A.encode(), "sealed"), ([A, B], (B,), "sealed-signed")],
)
def test_the_keys_given_choose_the_protection(signing: str | None, encryption: str | None, name: str) -> None:
    """Without a key there is no protection; with both keys there are both."""
    assert protection_of(signing, encryption).name == name


def test_encryption_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `cryptography` is not installed the error holds the line to install it; signing needs nothing."""
    real = builtins.__import__

    def fail(name: str, *args: object) -> object:
        if name.partition(".")[0] == "cryptography":
            raise ImportError(name)
        return real(name, *args)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(MissingExtraError, match=r'pip install "flagcache\[encryption\]"'):
        protection_of(None, A)
    assert protection_of(A, None).name == "signed"


# --- envelopes -------------------------------------------------------------------------------------------------------

META = Meta(digest(make_definitions(3)), 1, 30, 10, 20, 'W/"tag"', "posthog-python/7.91.1", "team=1")


def definitions(flags: int = 3, revision: int = 1) -> dict[str, object]:
    """Some definitions."""
    return cast("dict[str, object]", make_definitions(flags, revision=revision))


def codec(protection: Protection = PLAIN, namespace: str = "n", *, limit: int = LIMIT) -> Codec:
    """A codec, by default plain."""
    return Codec(namespace, protection, limit=limit)


def stored(kind: Callable[[str], Protection], meta: Meta = META) -> Envelope:
    """What a store is given."""
    return codec(kind(A)).write(definitions(), meta)


@each_kind
def test_an_envelope_comes_back(kind: Callable[[str], Protection]) -> None:
    """Definitions and metadata, an empty entity tag too, come back as they were written."""
    for meta in (META, META._replace(etag="", project="")):
        envelope = stored(kind, meta)
        assert codec(kind(A)).read_meta(envelope.meta) == meta
        assert codec(kind(A)).read(meta.version, envelope.payload) == definitions()


@each_kind
@pytest.mark.parametrize(
    "forged",
    [
        {"etag": ""},
        {"etag": "W/other"},
        {"etag": "é"},
        {"project": "team=2"},
        {"writer": "me/1"},
        {"version": "f" * 32},
    ],
    ids=str,
)
def test_no_part_of_the_metadata_can_be_exchanged(kind: Callable[[str], Protection], forged: Mapping[str, str]) -> None:
    """Entity tag, project, writer and version hold together."""
    with pytest.raises(EnvelopeError):
        codec(kind(A)).read_meta(stored(kind).meta._replace(**forged))  # type: ignore[arg-type]


@each_kind
def test_an_entity_tag_of_another_version_is_refused(kind: Callable[[str], Protection]) -> None:
    """A stamp that we made for other definitions does not fit these: "unchanged" would be said of the wrong ones."""
    other = definitions(revision=2)
    theirs = codec(kind(A)).write(other, META._replace(version=digest(other), etag="other")).meta
    with pytest.raises(EnvelopeError):
        codec(kind(A)).read_meta(stored(kind).meta._replace(etag=theirs.etag))


@each_kind
def test_ages_move_without_the_payload(kind: Callable[[str], Protection]) -> None:
    """A confirmation moves the times of a protected envelope, which needs nothing to be protected again."""
    moved = stored(kind).meta._replace(as_of=99, confirmed_at=98)
    assert codec(kind(A)).read_meta(moved) == META._replace(as_of=99, confirmed_at=98)


@each_kind
def test_an_envelope_of_another_namespace_is_refused(kind: Callable[[str], Protection]) -> None:
    """One key may serve two namespaces: nothing of the one is read in the other."""
    envelope = codec(kind(A), "other").write(definitions(), META)
    with pytest.raises(EnvelopeError):
        codec(kind(A)).read(META.version, envelope.payload)
    with pytest.raises(EnvelopeError):
        codec(kind(A)).read_meta(envelope.meta)


@each_kind
def test_a_plain_envelope_is_refused(kind: Callable[[str], Protection]) -> None:
    """With a key, what was stored without protection is not read."""
    envelope = codec().write(definitions(), META)
    with pytest.raises(EnvelopeError):
        codec(kind(A)).read(META.version, envelope.payload)
    with pytest.raises(EnvelopeError):
        codec(kind(A)).read_meta(envelope.meta)


def plain(_key: str) -> Protection:
    """None."""
    return PLAIN


@pytest.mark.parametrize("kind", [plain, *KINDS], ids=["plain", "signed", "sealed", "both"])
def test_what_readers_would_refuse_is_not_written(kind: Callable[[str], Protection]) -> None:
    """Definitions above the limit are refused when they are written, not only when they are read."""
    with pytest.raises(EnvelopeError, match="limit is 1024"):
        codec(kind(A), limit=1024).write(definitions(50), META)
