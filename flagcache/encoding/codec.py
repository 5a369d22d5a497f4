"""What crosses the border between definitions in memory and envelopes in a store: encoded and protected, and back.

Bound together are namespace, version and payload; and namespace, version, writer, project and entity tag, as one text
that takes the tag's place in the store (its *stamp*), because they also come without the payload. Nothing that was not
verified gets past this module.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode

from flagcache.encoding import payload as envelope
from flagcache.encoding.protection import PLAIN, Protection
from flagcache.encoding.stamps import SignedTimes, Stamps
from flagcache.errors import EnvelopeError
from flagcache.stores.base import LARGEST_PAYLOAD, Envelope, Grant, Meta
from flagcache.vendor import Definitions

__all__ = ["Codec", "label_of"]


def label_of(protection: Protection) -> str:
    """Format and protection, for the keys in a store: workers who cannot read each other's envelopes never meet."""
    return f"{envelope.FORMAT}-{protection.name}"


class Codec:
    """Makes and reads the envelopes of one namespace.

    Args:
        namespace: an envelope of another one is refused, if they are protected.
        protection: how they are protected.
        limit: bytes that definitions may take when unpacked.
    """

    def __init__(self, namespace: str, protection: Protection = PLAIN, *, limit: int) -> None:
        self._namespace = namespace
        self._protection = protection
        self._limit = limit
        # Compressed and protected, a body takes at most an eighth more bytes than it has.
        self.largest = min(LARGEST_PAYLOAD, limit + limit // 8 + 1024)
        """Bytes of the largest payload that can hold definitions of this size."""
        self.stamps = Stamps(self._binding("stamp"), protection.stamp_keys)
        """Of the order, the ages and the notes."""

    def write(self, definitions: Definitions, meta: Meta) -> Envelope:
        """Make the envelope of definitions: what readers would refuse is never published.

        Raises:
            EnvelopeError: readers would refuse it; mostly because it is too large.
        """
        payload = envelope.encode(definitions, meta.version, limit=self._limit)
        protected = self._protection.protect(payload, self._binding("payload", meta.version))
        if len(protected) > self.largest:
            raise EnvelopeError(f"the definitions are stored as {len(protected)} bytes; the limit is {self.largest}")
        return self.envelope(meta, protected)

    def envelope(self, meta: Meta, payload: bytes) -> Envelope:
        """Make the envelope of a payload that is encoded and protected already, and of this version."""
        stamp = self.stamp_of(meta.version, Grant(meta.epoch, meta.as_of, meta.confirmed_at))
        return Envelope(meta._replace(etag=self._stamp(meta), stamp=stamp), payload)

    def read_meta(self, stored: Meta) -> Meta:
        """Return the metadata with the entity tag itself, and without the stamp, which is for `believed`.

        Raises:
            EnvelopeError: they were not written together, or their version is no digest.
        """
        if not envelope.is_digest(stored.version):
            raise EnvelopeError("its version is no digest")
        if self._protection is PLAIN:
            return stored
        etag = self._protection.open(_unstamped(stored), self._binding_of(stored))
        return stored._replace(etag=etag.decode(), stamp="")

    def stamp_of(self, version: str, times: Grant) -> str:
        """Sign that the fetch of this grant brought or confirmed this version; empty without a key."""
        return self.stamps.of_times(version, SignedTimes(times.epoch, times.as_of, times.at))

    def believed(self, meta: Meta) -> Meta:
        """Return the metadata with the times that were signed; with no stamp where none were, or if there is no key."""
        signed = self.stamps.times(meta.version, meta.stamp)
        if signed is None:
            return meta._replace(stamp="")
        return meta._replace(epoch=signed.epoch, as_of=signed.as_of, confirmed_at=signed.confirmed_at)

    def is_current(self, stored: Meta) -> bool:
        """Whether the envelope that these metadata are of, and which was read, was protected with the first key."""
        return self._protection is PLAIN or self._protection.is_current(_unstamped(stored))

    def is_current_payload(self, payload: bytes) -> bool:
        """Whether this payload, which was read, was protected with the first key."""
        return self._protection.is_current(payload)

    def read(self, version: str, payload: bytes) -> Definitions:
        """Return the definitions in a payload.

        Raises:
            EnvelopeError: anything at all is wrong with it.
        """
        opened = self._protection.open(payload, self._binding("payload", version))
        return envelope.decode(opened, version=version, limit=self._limit)

    def names(self, definitions: Definitions) -> tuple[str, ...]:
        """How a store may name these definitions: first as they are named now, then as others named them.

        Raises:
            EnvelopeError: they hold what is not JSON.
        """
        return self._protection.names(envelope.digest(definitions))

    def check_name(self, version: str, definitions: Definitions) -> None:
        """Check that a store's version belongs to these definitions. With a key, opening them has checked it already.

        Raises:
            EnvelopeError: it belongs to other definitions: another program replaced them.
        """
        if self._protection is PLAIN and envelope.digest(definitions) != version:
            raise EnvelopeError("its definitions are not those that its version names")

    def _stamp(self, meta: Meta) -> str:
        if self._protection is PLAIN:
            return meta.etag
        stamp = self._protection.protect(meta.etag.encode(), self._binding_of(meta))
        return urlsafe_b64encode(stamp).decode()

    def _binding_of(self, meta: Meta) -> bytes:
        return self._binding("metadata", meta.version, meta.writer, meta.project)

    def _binding(self, *words: str) -> bytes:
        """All of these words, so that no two lists of words are bound to the same."""
        texts = (label_of(self._protection), self._namespace, *words)
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        return b"".join(len(text).to_bytes(4, "big") + text for text in encoded)


def _unstamped(stored: Meta) -> bytes:
    try:
        return urlsafe_b64decode(stored.etag.encode("ascii"))
    except (UnicodeError, binascii.Error):
        raise EnvelopeError("its metadata are not protected") from None
