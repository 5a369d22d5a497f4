"""Which entity tag a process sends: never one that is older than its newest from the vendor.

A tag in a store that others can write to may belong to other definitions, or to an earlier response. With the first the
vendor answers "unchanged" although what it serves differs; the second costs a full fetch each time. So the tag that the
vendor itself sent with definitions takes precedence over the store's. Belongs to one process.
"""

from __future__ import annotations

from collections import OrderedDict

from flagcache.stores.base import Meta

__all__ = ["EntityTags"]

_KEPT = 16
"""Versions whose tags are remembered. Flags may change back and forth between a few."""


class EntityTags:
    """The tags that the vendor sent to one process, by version; the newest last."""

    def __init__(self) -> None:
        self._by_version: OrderedDict[str, str] = OrderedDict()

    def received(self, version: str, etag: str) -> None:
        """Remember that the vendor sent this version with this tag, or without one."""
        self._by_version.pop(version, None)
        self._by_version[version] = etag
        while len(self._by_version) > _KEPT:
            self._by_version.popitem(last=False)

    def for_request(self, held: Meta | None, epoch: int) -> str:
        """Return the tag to send; empty for an unconditional request.

        Args:
            held: what the process holds.
            epoch: of the grant. If `clear` has raised it, the request is unconditional.
        """
        if held is None or held.epoch < epoch:
            return ""
        if held.version in self._by_version:
            return self._by_version[held.version]
        return "" if held.etag in self._by_version.values() else held.etag
