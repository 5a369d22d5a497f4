"""The encoded payload of what a process holds, kept until the fallback file has it.

Encoding 20,000 flags takes most of a second and holds the interpreter all the while. What Redis sent, or was sent, is
byte for byte what the file is to hold: a payload is bound to namespace, version and protection, not to a store.
Must never hand out bytes that are protected with another than the first key.
"""

from __future__ import annotations

from flagcache.stores.base import Envelope, Meta
from flagcache.vendor import Definitions
from flagcache.worker.config import CacheConfig

__all__ = ["Encoded"]


class Encoded:
    """The latest payload of one process. Empty if there is no fallback file, or once that has it.

    Args:
        config: what all processes of the cache have in common.
    """

    def __init__(self, config: CacheConfig) -> None:
        self._codec = config.codec
        self._wanted = any(spec.archive for spec in config.stores)
        self._payload: tuple[str, bytes] | None = None
        """Version and bytes; swapped by one assignment."""

    def received(self, version: str, payload: bytes) -> None:
        """A store sent these bytes, and the definitions in them are now held."""
        if self._wanted and self._codec.is_current_payload(payload):
            self._payload = version, payload

    def envelope(self, definitions: Definitions, meta: Meta) -> Envelope:
        """Make an envelope, of the bytes that are here if they are of this version.

        Raises:
            EnvelopeError: as of `Codec.write`.
        """
        found = self._payload
        if found is not None and found[0] == meta.version:
            return self._codec.envelope(meta, found[1])
        envelope = self._codec.write(definitions, meta)
        if self._wanted:
            self._payload = meta.version, envelope.payload
        return envelope

    def drop(self) -> None:
        """The fallback file has what is held: these bytes are of no more use."""
        self._payload = None
