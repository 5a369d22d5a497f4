"""The code in docs/requests.md."""

from __future__ import annotations

import json
from typing import Any

import posthog as sdk
import pytest
from posthog import Posthog

from flagcache_posthog.testing import StandInControl, make_flag, override_flags
from tests.support.snippets import snippet


def test_the_example(posthog: StandInControl, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of visitor has flags, and the event carries those that were read."""
    sent: list[dict[str, Any]] = []

    def keep(event: dict[str, Any]) -> dict[str, Any]:
        sent.append(event)
        return event

    def make(key: str, *, secret_key: str, host: str) -> Posthog:
        assert host.startswith("https://")
        return Posthog(key, secret_key=secret_key, host=posthog.url, send=False, before_send=keep)

    monkeypatch.setattr(sdk, "Posthog", make)
    flags = [make_flag("new-checkout"), make_flag("price", variants={"b": 100}, payload={"amount": 9})]
    posthog.serve({"flags": flags, "group_type_mapping": {}, "cohorts": {}})
    shop: dict[str, Any] = {}
    exec(snippet("docs/requests.md", "shop.py"), shop)
    cookies = {"ph_phc_..._posthog": json.dumps({"distinct_id": "visitor"})}
    expected = "new checkout, price b: {'amount': 9}"
    assert shop["checkout"](7, cookies, "key") == expected
    assert shop["checkout"](None, cookies, "key") == expected
    assert shop["checkout"](None, {}, "key") == expected
    assert shop["checkout"](None, {}, None) == "old checkout"
    seen = [event for event in sent if event["event"] == "checkout seen"]
    assert [event["distinct_id"] for event in seen][:2] == ["7", "visitor"]
    assert seen[2]["distinct_id"].startswith("session-")
    assert all(event["properties"]["$feature/price"] == "b" for event in seen)
    with override_flags({"new-checkout": True, "price": False}):
        assert shop["checkout"](7, {}, None) == "new checkout, price False: {'amount': 10}"
    assert posthog.counts().flags_calls == 0
    shop["posthog"].shutdown()
