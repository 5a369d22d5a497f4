"""The encoded payload of what a process holds, kept until the fallback file has it; or why no store accepts it.

Encoding 20,000 flags takes most of a second and blocks the interpreter meanwhile. The file gets the same bytes as
Redis, because a payload is bound to namespace, version and protection, not to a store. Invariant: all bytes that are
returned are protected with the first key.
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
    """The latest payload of one process; none if there is no fallback file, or if the file already has it.

    Args:
        config: what all processes of the cache have in common.
        troubles: records what was reported about it.
    """

    def __init__(self, config: CacheConfig, troubles: Troubles) -> None:
        self._config = config
        self._troubles = troubles
        self._codec = config.codec
        self._wanted = any(spec.fallback for spec in config.stores)
        self._payload: tuple[str, bytes] | None = None
        """Version and bytes; swapped by one assignment."""
        self._refused = "", ""
        """The latest version that every reader would refuse, and why; swapped by one assignment."""

    @property
    def unshareable(self) -> str:
        """The latest version that every reader would refuse; empty: none."""
        return self._refused[0]

    def received(self, version: str, payload: bytes) -> None:
        """Keep these bytes: a store sent them, and this process now holds the definitions in them."""
        if self._wanted and self._codec.is_current_payload(payload):
            self._payload = version, payload

    def accepted(self, version: str) -> None:
        """A store accepted this version: end the failure of an earlier one, if there was one."""
        if self._troubles.active and version != self.unshareable:
            accepted = partial(PublicationAccepted, self._config.namespace)
            self._emit(self._troubles.end(UNSHAREABLE, accepted, version))

    def envelope(self, held: Held, meta: Meta) -> Envelope | None:
        """Return the envelope to publish; None, reported once, if every reader would refuse it."""
        if meta.version != self.unshareable:
            try:
                return self._envelope(held, meta)
            except EnvelopeError as exc:
                self._refused = meta.version, str(exc)
        refused = partial(PublicationRefused, self._config.namespace, meta.version, self._refused[1])
        self._emit(self._troubles.begin(UNSHAREABLE, "unshareable", refused))
        return None

    def _envelope(self, held: Held, meta: Meta) -> Envelope:
        """Make the envelope, from the kept bytes if they are of this version."""
        found = self._payload
        if found is not None and found[0] == meta.version:
            return self._codec.envelope(meta, found[1])
        envelope = self._codec.write(self._config.vendor.shared(held.definitions), meta)
        if self._wanted:
            self._payload = meta.version, envelope.payload
        return envelope

    def drop(self) -> None:
        """The fallback file has what is held, so drop the bytes."""
        self._payload = None

    def _emit(self, event: Event | None) -> None:
        if event is not None:
            self._config.events.emit(event)
