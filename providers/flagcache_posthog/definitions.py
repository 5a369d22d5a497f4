"""What PostHog's flag definitions look like, as far as the SDK relies on it without checking.

The SDK applies what a provider hands it key by key and unchecked: flags that are no dicts stay in its memory after the
error (posthog 7.91, `client.py`, `_update_flag_state` and the setter of `feature_flags`). So the shape is checked here,
fully, before anything is handed out; unknown keys pass through untouched.

One content must have one version, whoever fetched it. The SDK hands a provider not the body of PostHog's answer but
what it made of it, with defaults filled in; `PostHogVendor.of_response` does the same for our own fetches. Keys of the
body that no SDK knows yet stay, although this SDK would drop them: then the content does not depend on the fetching
worker's SDK, and a worker with a newer one, which knows them, misses nothing when an older one fetches for it.
"""

from __future__ import annotations

from typing import cast

from posthog.flag_definition_cache import FlagDefinitionCacheData
from posthog.version import VERSION

from flagcache.errors import EnvelopeError
from flagcache.vendor import Definitions, Difference

__all__ = ["PostHogVendor"]

_MAPPINGS = ("group_type_mapping", "cohorts")
_OF_THE_ANSWER = frozenset({"quotaLimited"})  # tells of the answer and not of flags


class PostHogVendor:
    """PostHog, as the engine needs to know it (`flagcache.vendor.Vendor`)."""

    @property
    def writer(self) -> str:
        """The SDK whose definitions are written here."""
        return f"posthog-python/{VERSION}"

    @property
    def keys(self) -> frozenset[str]:
        """What the SDK here says that a provider is handed: four keys before posthog 7.59, five since."""
        return frozenset(FlagDefinitionCacheData.__annotations__)

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
        for key in _MAPPINGS:
            if not isinstance(known.get(key), dict):
                raise EnvelopeError(f"{key} is {type(known.get(key)).__name__}, not a dict")
        return known

    def of_response(self, body: object) -> Definitions:
        """Return the definitions in the body of an answer, as the SDK hands them to a provider.

        Rests on posthog 7.91, `client.py`, `_update_flag_state` and `_publish_flag_definitions_response`: a mapping
        that is null is empty, and what is absent has its default. Null flags are refused; the SDK takes them for none.

        Raises:
            EnvelopeError: the body holds no definitions.
        """
        if isinstance(body, dict):
            body = {key: _filled(key, value) for key, value in cast("Definitions", body).items()}
        definitions = {key: value for key, value in self.check(body).items() if key not in _OF_THE_ANSWER}
        definitions["minimal_flag_called_events"] = definitions.get("minimal_flag_called_events") is True
        definitions.setdefault("property_matching_version", 1)
        return definitions

    def empty(self) -> Definitions:
        """No flags; a truthy value, so that the SDK neither fetches nor asks again in each request."""
        return {"flags": [], "group_type_mapping": {}, "cohorts": {}}

    def project(self, definitions: Definitions) -> str:
        """The project's number, which every flag carries as `team_id`."""
        flags = cast("list[dict[str, object]]", definitions["flags"])
        team = next((flag["team_id"] for flag in flags if type(flag.get("team_id")) is int), None)
        return "" if team is None else f"team={team}"

    def difference(self, old: Definitions, new: Definitions) -> Difference:
        """Compare flag by flag."""
        before, after = _by_key(old), _by_key(new)
        return Difference(
            added=tuple(key for key in after if key not in before),
            removed=tuple(key for key in before if key not in after),
            changed=tuple(key for key, flag in after.items() if key in before and before[key] != flag),
        )


def _by_key(definitions: Definitions) -> dict[str, object]:
    return {str(flag["key"]): flag for flag in cast("list[dict[str, object]]", definitions["flags"])}


def _filled(key: str, value: object) -> object:
    return {} if value is None and key in _MAPPINGS else value


def _check_flag(index: int, flag: object) -> None:
    if not isinstance(flag, dict):
        raise EnvelopeError(f"flag {index} is {type(flag).__name__}, not a dict")
    if not isinstance(cast("dict[str, object]", flag).get("key"), str):
        raise EnvelopeError(f"flag {index} has no key")
