"""Made-up flag definitions in the form that PostHog serves to its SDKs for local evaluation.

A flag takes about 750 bytes of JSON, as in real projects. The same arguments always make the same bytes, so after
"revision 1, then 2, then 1 again" the ETag is the first one.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Mapping
from typing import TypedDict, cast

__all__ = [
    "REVISION_FLAG",
    "Cohort",
    "Condition",
    "Definitions",
    "Filters",
    "Flag",
    "Multivariate",
    "Property",
    "Variant",
    "make_definitions",
    "make_flag",
    "revision_of",
]

REVISION_FLAG = "revision"
"""The key of the flag whose variant is the revision: `r7` for every user, at revision 7."""

_COHORTS = 3
_PLANS = ("free", "team", "scale", "enterprise")


class Property(TypedDict, total=False):
    """One comparison in a condition."""

    key: str
    value: bool | int | str | list[str]
    operator: str
    type: str


class Condition(TypedDict):
    """A release condition: users with all the properties, up to the rollout percentage."""

    properties: list[Property]
    rollout_percentage: int
    variant: str | None


class Variant(TypedDict):
    """One value of a multivariate flag and the percentage of users who get it."""

    key: str
    name: str
    rollout_percentage: int


class Multivariate(TypedDict):
    """The values of a multivariate flag; their percentages add up to 100."""

    variants: list[Variant]


class Filters(TypedDict):
    """The users who get a flag, and its payloads."""

    groups: list[Condition]
    payloads: dict[str, str]
    multivariate: Multivariate | None


class Flag(TypedDict):
    """One feature flag."""

    id: int
    team_id: int
    name: str
    key: str
    filters: Filters
    deleted: bool
    active: bool
    ensure_experience_continuity: bool
    version: int
    evaluation_runtime: str
    has_encrypted_payloads: bool


class Cohort(TypedDict):
    """A cohort that can be evaluated locally."""

    type: str
    values: list[Property]


class Definitions(TypedDict):
    """The whole body of one response of `/flags/definitions`."""

    flags: list[Flag]
    group_type_mapping: dict[str, str]
    cohorts: dict[str, Cohort]
    minimal_flag_called_events: bool
    property_matching_version: int


def make_flag(  # noqa: PLR0913 - a flag has this many properties, and all but the key are keyword-only
    key: str,
    *,
    active: bool = True,
    rollout: int = 100,
    variants: Mapping[str, int] | None = None,
    payload: object = None,
    cohort: int | None = None,
    team_id: int = 1,
) -> Flag:
    """Make one flag, on for every user by default.

    Its last condition names no property, so at a rollout of 100 the SDK needs no property of the user.

    Args:
        key: The flag's key; its id is derived from it.
        active: Whether the flag is switched on.
        rollout: The percentage of users who get it.
        variants: Variant keys and their percentages; none makes a boolean flag.
        payload: The payload of each value, as a JSON value; None for no payload.
        cohort: The id of a cohort whose members get the flag at any rollout.
        team_id: The PostHog project that the flag belongs to.
    """
    shares = dict(variants or {})
    conditions = [_condition(rollout)]
    if cohort is not None:
        conditions.insert(0, _condition(100, {"key": "id", "value": cohort, "operator": "in", "type": "cohort"}))
    text = None if payload is None else json.dumps(payload)
    named = [Variant(key=k, name=f"The {k} arm of {key}", rollout_percentage=share) for k, share in shares.items()]
    return Flag(
        id=zlib.crc32(key.encode()) % 1_000_000,
        team_id=team_id,
        name=f"Release of {key} to a growing share of users, watched by the team that owns it",
        key=key,
        filters=Filters(
            groups=conditions,
            payloads={} if text is None else dict.fromkeys(shares or ["true"], text),
            multivariate=Multivariate(variants=named) if named else None,
        ),
        deleted=False,
        active=active,
        ensure_experience_continuity=False,
        version=1,
        evaluation_runtime="all",
        has_encrypted_payloads=False,
    )


def make_definitions(n_flags: int = 20, *, team_id: int = 1, revision: int | None = 1, seed: int = 0) -> Definitions:
    """Make definitions, with flags `flag-0`, `flag-1` and so on.

    `flag-0` is on for every user and has no other condition. The others first compare a user's `plan` and `email`. Of
    these every third is multivariate, every fifth names a cohort, every seventh is rolled out to half of the users and
    every tenth is switched off.

    Args:
        n_flags: Number of flags, without the revision flag.
        team_id: The PostHog project that all flags belong to.
        revision: The number in the variant (`r1`) of the flag `revision`; None leaves that flag out.
        seed: Another seed makes other conditions and payloads.
    """
    flags = [_numbered_flag(index, team_id, random.Random(f"{seed}/{index}")) for index in range(n_flags)]
    if revision is not None:
        flags.append(make_flag(REVISION_FLAG, variants={f"r{revision}": 100}, team_id=team_id))
    return Definitions(
        flags=flags,
        group_type_mapping={"0": "company", "1": "project"},
        cohorts={str(number): _cohort(number) for number in range(1, _COHORTS + 1)},
        minimal_flag_called_events=False,
        property_matching_version=1,
    )


def revision_of(definitions: Mapping[str, object]) -> int | None:
    """Return the revision of definitions; None if they have no well-formed revision flag."""
    try:
        flags = cast("list[Flag]", definitions["flags"])  # anything else raises one of the exceptions below
        marker = next(flag for flag in flags if flag.get("key") == REVISION_FLAG)
        multivariate = marker["filters"]["multivariate"]
        return int(multivariate["variants"][0]["key"].removeprefix("r")) if multivariate else None
    except (LookupError, StopIteration, TypeError, ValueError, AttributeError):
        return None


def _numbered_flag(index: int, team_id: int, dice: random.Random) -> Flag:
    special = index > 0
    flag = make_flag(
        f"flag-{index}",
        active=not (special and index % 10 == 0),
        rollout=50 if special and index % 7 == 0 else 100,
        variants={"control": 50, "test": 50} if special and index % 3 == 0 else None,
        payload={"limit": dice.randrange(1000), "colour": f"#{dice.randrange(1 << 24):06x}", "label": f"label {index}"},
        cohort=dice.randint(1, _COHORTS) if special and index % 5 == 0 else None,
        team_id=team_id,
    )
    if not special:
        return flag
    plans: Property = {"key": "plan", "value": dice.sample(_PLANS, 2), "operator": "exact", "type": "person"}
    staff: Property = {"key": "email", "value": f"@team-{index}.example", "operator": "icontains", "type": "person"}
    flag["filters"]["groups"].insert(0, _condition(dice.randrange(10, 100, 10), plans, staff))
    return flag


def _condition(rollout: int, *properties: Property) -> Condition:
    return Condition(properties=list(properties), rollout_percentage=rollout, variant=None)


def _cohort(number: int) -> Cohort:
    return Cohort(
        type="AND",
        values=[{"key": "plan", "value": _PLANS[number % len(_PLANS)], "operator": "exact", "type": "person"}],
    )
