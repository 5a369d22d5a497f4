"""What PostHog's flag definitions look like, as far as the SDK relies on it without checking.

The SDK applies what a provider hands it key by key and unchecked: flags that are no dicts stay in its memory after the
error (posthog 7.91, `client.py`, `_update_flag_state` and the setter of `feature_flags`). So the shape is checked here,
fully, before anything is handed out; unknown keys pass through untouched.
"""

from __future__ import annotations

from importlib import metadata
from typing import cast

from flagcache.errors import EnvelopeError
from flagcache.vendor import Definitions

__all__ = ["PostHogVendor"]


class PostHogVendor:
    """PostHog, as the engine needs to know it (`flagcache.vendor.Vendor`)."""

    def __init__(self) -> None:
        self._writer = f"posthog-python/{metadata.version('posthog')}"

    @property
    def writer(self) -> str:
        """The SDK whose definitions are written here."""
        return self._writer

    def check(self, definitions: object) -> Definitions:
        """Return the definitions if the SDK can take them.

        Raises:
            EnvelopeError: flags, group types or cohorts are missing or of a wrong type.
        """
        if not isinstance(definitions, dict):
            raise EnvelopeError(f"definitions are a {type(definitions).__name__}, not a dict")
        known = cast("Definitions", definitions)
        flags = known.get("flags")
        if not isinstance(flags, list):
            raise EnvelopeError(f"flags are {type(flags).__name__}, not a list")
        for index, flag in enumerate(cast("list[object]", flags)):
            _check_flag(index, flag)
        for key in ("group_type_mapping", "cohorts"):
            if not isinstance(known.get(key), dict):
                raise EnvelopeError(f"{key} is {type(known.get(key)).__name__}, not a dict")
        return known

    def empty(self) -> Definitions:
        """No flags; a truthy value, so that the SDK neither fetches nor asks again in each request."""
        return {"flags": [], "group_type_mapping": {}, "cohorts": {}}

    def project(self, definitions: Definitions) -> str:
        """The project's number, which every flag carries as `team_id`."""
        flags = cast("list[dict[str, object]]", definitions["flags"])
        team = next((flag["team_id"] for flag in flags if isinstance(flag.get("team_id"), int)), None)
        return "" if team is None else str(team)


def _check_flag(index: int, flag: object) -> None:
    if not isinstance(flag, dict):
        raise EnvelopeError(f"flag {index} is {type(flag).__name__}, not a dict")
    if not isinstance(cast("dict[str, object]", flag).get("key"), str):
        raise EnvelopeError(f"flag {index} has no key")
