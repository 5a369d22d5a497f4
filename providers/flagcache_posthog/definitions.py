"""Checks PostHog's flag definitions, as far as the SDK relies on their shape without checking it.

The SDK applies a provider's definitions key by key and unchecked: flags that aren't dicts, or whose key can't be
hashed, stay in its memory after the error (posthog 7.91, `client.py`, `_update_flag_state` and the setter of
`feature_flags`). So the shape is checked here, fully, before anything is handed out; unknown keys pass through
untouched.

Definitions that the SDK tolerates are accepted: a flag whose key is absent or isn't a string, and group types or
cohorts that aren't a mapping, which count as empty. Older versions of flagcache discard definitions with such a flag,
so a worker that has them would republish them at each poll. So stores keep these flags separately, under a key that
older versions pass through unread (`PostHogVendor.shared`).

The same content must have the same version, whichever process fetched it. The SDK doesn't give a provider the body of
PostHog's response, but its own form of it, with defaults filled in; `PostHogVendor.of_response` does the same for our
own fetches. It keeps keys that no SDK knows yet, although this SDK would drop them. So the content doesn't depend on
the fetching worker's SDK, and a worker with a newer SDK gets all its keys when an older one fetches for it.
"""

from __future__ import annotations

from typing import cast

from posthog.flag_definition_cache import FlagDefinitionCacheData
from posthog.version import VERSION

from flagcache.errors import EnvelopeError
from flagcache.vendor import Definitions, Difference

__all__ = ["PostHogVendor"]

_MAPPINGS = ("group_type_mapping", "cohorts")
_RESPONSE_KEYS = frozenset({"quotaLimited"})  # about the answer, not about flags
_MALFORMED_KEY = "flagcache_malformed_flags"  # in stores: flags whose key is no string, by their places among all


class PostHogVendor:
    """PostHog as a vendor (`flagcache.vendor.Vendor`)."""

    name = "posthog"
    """The name with which messages about PostHog begin."""

    writer = f"posthog-python/{VERSION}"
    """The SDK with which this process writes definitions."""

    keys = frozenset(FlagDefinitionCacheData.__annotations__)
    """The keys that this SDK gives to a provider: four before posthog 7.59, five since."""

    def check(self, definitions: object) -> Definitions:
        """Return the definitions if the SDK can use them; the same object if it is well-formed.

        Raises:
            EnvelopeError: flags, group types or cohorts are missing, or the SDK would apply the flags only in part.
        """
        if not isinstance(definitions, dict):
            raise EnvelopeError(f"definitions are a {type(definitions).__name__}, not a dict")
        known = cast("Definitions", definitions)
        if not isinstance(known.get("flags"), list):
            raise EnvelopeError(f"flags are {type(known.get('flags')).__name__}, not a list")
        if _MALFORMED_KEY in known:
            known = _restore(known)
        for index, flag in enumerate(cast("list[object]", known["flags"])):
            _check_flag(index, flag)
        for key in _MAPPINGS:
            if not known.get(key) and not isinstance(known.get(key), dict):
                # This is not from the SDK, which gives an empty dict for any empty value.
                raise EnvelopeError(f"{key} is {type(known.get(key)).__name__}, not a dict")
        wrong: Definitions = {key: {} for key in _MAPPINGS if not isinstance(known[key], dict)}
        return {**known, **wrong} if wrong else known

    def malformed(self, definitions: object) -> tuple[str, ...]:
        """Describe what is malformed in accepted definitions; flags are named by their `id` if they have one.

        Null group types and cohorts aren't malformed: PostHog sends null if there are none.
        """
        known = cast("Definitions", definitions)
        flags = enumerate(cast("list[dict[str, object]]", known["flags"]))
        wrong = [_described(index, flag) for index, flag in flags if not isinstance(flag.get("key"), str)]
        others = {key: known[key] for key in _MAPPINGS if known[key] is not None}
        wrong += [f"{key} is a {type(value).__name__}" for key, value in others.items() if not isinstance(value, dict)]
        return tuple(wrong)

    def shared(self, definitions: Definitions) -> Definitions:
        """Return checked definitions as stores keep them: the same object, unless a flag is malformed."""
        flags = cast("list[dict[str, object]]", definitions["flags"])
        malformed = {str(index): flag for index, flag in enumerate(flags) if not isinstance(flag.get("key"), str)}
        if not malformed:
            return definitions
        others = [flag for flag in flags if isinstance(flag.get("key"), str)]
        return {**definitions, "flags": others, _MALFORMED_KEY: malformed}

    def of_response(self, body: object) -> Definitions:
        """Return the definitions in the body of a response, as the SDK gives them to a provider.

        As in posthog 7.91, `client.py`, `_update_flag_state` and `_publish_flag_definitions_response`: a null or
        invalid mapping is empty, and an absent key has its default. Null flags are refused; the SDK treats them as
        none.

        Raises:
            EnvelopeError: the body contains no definitions.
        """
        if isinstance(body, dict):
            body = {key: _filled(key, value) for key, value in cast("Definitions", body).items()}
        definitions = {key: value for key, value in self.check(body).items() if key not in _RESPONSE_KEYS}
        definitions["minimal_flag_called_events"] = definitions.get("minimal_flag_called_events") is True
        definitions.setdefault("property_matching_version", 1)
        return definitions

    def empty(self) -> Definitions:
        """Return definitions without flags.

        They are truthy, so the SDK neither fetches nor asks again at each request.
        """
        return {"flags": [], "group_type_mapping": {}, "cohorts": {}}

    def count(self, definitions: Definitions) -> int:
        """Return the number of flags."""
        return len(cast("list[object]", definitions["flags"]))

    def project(self, definitions: Definitions) -> str:
        """Return the project's number, which every flag has as `team_id`."""
        flags = cast("list[dict[str, object]]", definitions["flags"])
        team = next((flag["team_id"] for flag in flags if type(flag.get("team_id")) is int), None)
        return "" if team is None else f"team={team}"

    def difference(self, old: Definitions, new: Definitions) -> Difference:
        """Compare flag by flag, cohort by cohort, group type by group type."""
        before, after = _by_key(old), _by_key(new)
        return Difference(
            added=tuple(key for key in after if key not in before),
            removed=tuple(key for key in before if key not in after),
            changed=tuple(key for key, flag in after.items() if key in before and before[key] != flag),
            cohorts=_differing(old.get("cohorts"), new.get("cohorts")),
            group_types=_group_types(old.get("group_type_mapping"), new.get("group_type_mapping")),
            others=tuple(key for key in _differing(old, new) if key not in (*_MAPPINGS, "flags")),
        )


def _by_key(definitions: Definitions) -> dict[str, object]:
    flags = cast("list[dict[str, object]]", definitions["flags"])
    return {str(flag["key"]): flag for flag in flags if flag.get("key") is not None}


def _differing(old: object, new: object) -> tuple[str, ...]:
    """Return the keys that only one of two mappings has, or whose values differ."""
    before, after = _mapping(old), _mapping(new)
    return tuple(str(key) for key in {**before, **after} if before.get(key) != after.get(key))


def _group_types(old: object, new: object) -> tuple[str, ...]:
    """Return the names of group types that were added, removed, or given another index."""
    before, after = ({str(name): index for index, name in _mapping(known).items()} for known in (old, new))
    return _differing(before, after)


def _mapping(known: object) -> dict[str, object]:
    return cast("dict[str, object]", known) if isinstance(known, dict) else {}


def _filled(key: str, value: object) -> object:
    return value or {} if key in _MAPPINGS else value


def _check_flag(index: int, flag: object) -> None:
    if not isinstance(flag, dict):
        raise EnvelopeError(f"flag {index} is {type(flag).__name__}, not a dict")
    key = cast("dict[str, object]", flag).get("key")
    if isinstance(key, (dict, list)):
        raise EnvelopeError(f"the key of flag {index} is a {type(cast('object', key)).__name__}, not a string")


def _described(index: int, flag: dict[str, object]) -> str:
    named = f"the flag with id {flag['id']}" if type(flag.get("id")) is int else f"flag {index}"
    key = flag.get("key")
    return f"{named} has no key" if key is None else f"{named} has the key {key!r}, which is no string"


def _restore(known: Definitions) -> Definitions:
    """Return definitions as they were before `PostHogVendor.shared`.

    Raises:
        EnvelopeError: `shared` didn't make these.
    """
    others = iter(cast("list[object]", known["flags"]))
    malformed = cast("dict[str, object]", known[_MALFORMED_KEY]) if isinstance(known[_MALFORMED_KEY], dict) else {}
    positions = range(len(cast("list[object]", known["flags"])) + len(malformed))
    if not malformed or not malformed.keys() <= set(map(str, positions)):
        raise EnvelopeError("malformed flags are not where they belong")
    flags = [malformed[str(position)] if str(position) in malformed else next(others) for position in positions]
    return {key: flags if key == "flags" else value for key, value in known.items() if key != _MALFORMED_KEY}
