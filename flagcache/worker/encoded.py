"""The encoded payload of what a process holds, kept until the fallback file has it; or why it cannot be shared.

Encoding 20,000 flags takes most of a second and holds the interpreter all the while. What Redis sent, or was sent, is
byte for byte what the file is to hold: a payload is bound to namespace, version and protection, not to a store.
Must never hand out bytes that are protected with another than the first key.
"""

from __future__ import annotations

from functools import partial

from flagcache.core.order import Held
from flagcache.errors import EnvelopeError
from flagcache.events import Event, PublicationAccepted, PublicationRefused
from flagcache.stores.base import Envelope, Meta
from flagcache.worker.config import CacheConfig
from flagcache.worker.troubles import UNSHAREABLE, Troubles

__all__ = ["Encoded"]


class Encoded:
    """The latest payload of one process. Empty if there is no fallback file, or once that has it.

    Args:
        config: what all processes of the cache have in common.
        troubles: records what was reported about it.
    """

    def __init__(self, config: CacheConfig, troubles: Troubles) -> None:
        self._config = config
        self._troubles = troubles
        self._codec = config.codec
        self._wanted = any(spec.archive for spec in config.stores)
        self._payload: tuple[str, bytes] | None = None
        """Version and bytes; swapped by one assignment."""
        self._refused = "", ""
        """The version that was last found to be one that no reader takes, and why; swapped by one assignment."""

    @property
    def unshareable(self) -> str:
        """The version that every reader would refuse; empty if none was found."""
        return self._refused[0]

    def received(self, version: str, payload: bytes) -> None:
        """A store sent these bytes, and the definitions in them are now held."""
        if self._wanted and self._codec.is_current_payload(payload):
            self._payload = version, payload

    def accepted(self, version: str) -> None:
        """A store has this version, so it can be shared."""
        if self._troubles.known and version != self.unshareable:
            accepted = partial(PublicationAccepted, self._config.namespace)
            self._emit(self._troubles.found(UNSHAREABLE, accepted, version))

    def envelope(self, held: Held, meta: Meta) -> Envelope | None:
        """Return what is to be published of what is held; None, reported once, if every reader would refuse it."""
        if meta.version != self.unshareable:
            try:
                return self._envelope(held, meta)
            except EnvelopeError as exc:
                self._refused = meta.version, str(exc)
        refused = partial(PublicationRefused, self._config.namespace, meta.version, self._refused[1])
        self._emit(self._troubles.lost(UNSHAREABLE, "unshareable", refused))
        return None

    def _envelope(self, held: Held, meta: Meta) -> Envelope:
        """Make an envelope, of the bytes that are here if they are of this version."""
        found = self._payload
        if found is not None and found[0] == meta.version:
            return self._codec.envelope(meta, found[1])
        envelope = self._codec.write(self._config.vendor.shared(held.definitions), meta)
        if self._wanted:
            self._payload = meta.version, envelope.payload
        return envelope

    def drop(self) -> None:
        """The fallback file has what is held: these bytes are of no more use."""
        self._payload = None

    def _emit(self, event: Event | None) -> None:
        if event is not None:
            self._config.events.emit(event)
