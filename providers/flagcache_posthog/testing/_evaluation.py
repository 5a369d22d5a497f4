"""The stand-in's response to `/flags`: simple, but in PostHog's form."""

from __future__ import annotations

import json

from .definitions import Condition, Definitions, Flag


def flags_body(definitions: Definitions) -> bytes:
    """Evaluate all flags, for any user, in the second version of PostHog's `/flags` response.

    A flag is on if it is active and has a condition without properties that is rolled out to all. A multivariate
    flag's value is its largest variant. A flag without a key is left out.
    """
    flags = {flag["key"]: _evaluate(flag) for flag in definitions["flags"] if flag.get("key")}
    return json.dumps({"flags": flags, "errorsWhileComputingFlags": False, "requestId": "stand-in"}).encode()


def _evaluate(flag: Flag) -> dict[str, object]:
    filters = flag["filters"]
    index = next((i for i, c in enumerate(filters["groups"]) if _for_all(c)), None)
    enabled = flag["active"] and index is not None
    variants = (filters["multivariate"] or {"variants": []})["variants"]
    variant = max(variants, key=lambda v: v["rollout_percentage"])["key"] if enabled and variants else None
    return {
        "key": flag["key"],
        "enabled": enabled,
        "variant": variant,
        "reason": {
            "code": "condition_match" if enabled else "no_condition_match",
            "condition_index": index if enabled else None,
            "description": f"Matched condition set {index + 1}" if enabled and index is not None else "No match",
        },
        "metadata": {
            "id": flag["id"],
            "version": flag["version"],
            "description": flag["name"],
            "payload": filters["payloads"].get(variant or "true") if enabled else None,
        },
    }


def _for_all(condition: Condition) -> bool:
    return not condition["properties"] and condition["rollout_percentage"] == 100
