"""The cache `durable` of a Django project: values that PostHog returned, kept for the cache's `TIMEOUT`."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any, TypeAlias

from django.conf import settings
from django.core.cache import caches

from flagcache.runtime.log_prefix import prefix

__all__ = ["Durable", "Values"]

Values: TypeAlias = "dict[str, bool | str]"
"""Values of flags by their keys."""

_log = logging.getLogger("flagcache")


class Durable:
    """Reads and writes the cache `durable`. If there is no such cache, or while it fails, it counts as empty."""

    def __init__(self) -> None:
        self._failing = False

    def read(self, identity: object, keys: list[str] | None) -> Values:
        """Return the values that the cache has.

        Args:
            identity: the user and properties, as JSON values.
            keys: the flags' keys; None for a response with all flags.
        """
        found: dict[str, Values] = self._call("get_many", list(_names(identity, keys))) or {}
        return {key: value for values in found.values() for key, value in values.items()}

    def write(self, identity: object, keys: list[str] | None, values: Values) -> None:
        """Store a response, in an entry for each of these flags, or in one entry for all."""
        self._call(
            "set_many",
            {name: values if key is None else {key: values[key]} for name, key in _names(identity, keys).items()},
        )

    def _call(self, method: str, argument: object) -> Any:  # noqa: ANN401 - what the cache's method returns
        if "durable" not in settings.CACHES:
            return None
        try:
            found = getattr(caches["durable"], method)(argument)
        except Exception as exc:  # noqa: BLE001 - a failing backend must not fail flags
            if not self._failing:
                _log.warning("%s: CACHES['durable'] failed; PostHog is asked without it: %s", prefix(), exc)
            self._failing = True
            return None
        if self._failing:
            _log.warning("%s: CACHES['durable'] works again", prefix())
        self._failing = False
        return found


def _names(identity: object, keys: list[str] | None) -> dict[str, str | None]:
    """Return the names of entries, with their flags.

    They are digests: memcached takes no spaces and at most 250 bytes.
    """
    names: list[str | None] = [None]
    if keys is not None:
        names = [*keys]
    return {f"flagcache:{hashlib.sha256(json.dumps([identity, key]).encode()).hexdigest()}": key for key in names}
