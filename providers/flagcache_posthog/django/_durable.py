"""The cache `durable` of a Django project: values that PostHog was asked for, kept for the cache's `TIMEOUT`."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any, TypeAlias

from django.conf import settings
from django.core.cache import caches

from flagcache.runtime.here import prefix

__all__ = ["Durable", "Values"]

Values: TypeAlias = "dict[str, bool | str]"
"""Values of flags by their keys."""

_log = logging.getLogger("flagcache")


class Durable:
    """Reads and writes the cache `durable`. If there is no such cache, or while it fails, it counts as empty."""

    def __init__(self) -> None:
        self._failing = False

    def read(self, who: object, keys: list[str] | None) -> Values:
        """Return the values that the cache has.

        Args:
            who: whose values, as anything that JSON can hold.
            keys: of the flags; None for an answer that had all.
        """
        found: dict[str, Values] = self._use("get_many", list(_names(who, keys))) or {}
        return {key: value for values in found.values() for key, value in values.items()}

    def write(self, who: object, keys: list[str] | None, values: Values) -> None:
        """Keep an answer, in an entry for each of these flags, or in one for all."""
        self._use(
            "set_many",
            {name: values if key is None else {key: values[key]} for name, key in _names(who, keys).items()},
        )

    def _use(self, verb: str, argument: object) -> Any:  # noqa: ANN401 - what the cache's method returns
        if "durable" not in settings.CACHES:
            return None
        try:
            found = getattr(caches["durable"], verb)(argument)
        except Exception as exc:  # noqa: BLE001 - whatever a backend raises, flags go on
            if not self._failing:
                _log.warning("%s: CACHES['durable'] failed, PostHog is asked without it: %s", prefix(), exc)
            self._failing = True
            return None
        if self._failing:
            _log.warning("%s: CACHES['durable'] works again", prefix())
        self._failing = False
        return found


def _names(who: object, keys: list[str] | None) -> dict[str, str | None]:
    """The names of entries, with the flag of each: digests, because memcached takes no spaces and at most 250 bytes."""
    names: list[str | None] = [None]
    if keys is not None:
        names = [*keys]
    return {f"flagcache:{hashlib.sha256(json.dumps([who, key]).encode()).hexdigest()}": key for key in names}
