"""The examples of docs/moving.md, and its table of settings."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flagcache_posthog.testing import RemoteStandIn, make_flag
from tests.support.redis_server import RedisServer
from tests.support.snippets import snippet

PAGE = "docs/moving.md"


def _run(name: str, **scope: object) -> dict[str, Any]:
    exec(snippet(PAGE, name), scope)
    return scope


def test_the_settings_have_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defaults of the code and of its table are the same, and the settings read the environment as before."""
    from flagcache_posthog.django.olposthog import DEFAULTS

    for name in DEFAULTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    monkeypatch.delenv("ENVIRONMENT", raising=False)
    read = {
        name: value for name, value in _run("settings.py", ENVIRONMENT="prod").items() if name.startswith("POSTHOG_")
    }
    assert read == {name: DEFAULTS[name] for name in read}
    documented = dict(re.findall(r"^\| `(POSTHOG_\w+)` \| `?(.*?)`? \| ", Path(PAGE).read_text(), re.MULTILINE))
    shown = {name: f'"{value}"' if isinstance(value, str) else str(value) for name, value in DEFAULTS.items()}
    assert {name: documented.get(name) for name in shown} == shown
    monkeypatch.setenv("POSTHOG_ENABLED", "true")
    monkeypatch.setenv("POSTHOG_POLL_INTERVAL", "60")
    scope = _run("settings.py", ENVIRONMENT="prod")
    assert (scope["POSTHOG_ENABLED"], scope["POSTHOG_POLL_INTERVAL"]) == (True, 60)
    assert scope["FLAGCACHE"] == {"STORE": "redis://127.0.0.1:9/0", "NAMESPACE": "my-team-prod"}


def test_visitors_keep_the_ids_of_posthog_django() -> None:
    """A logged-in user has the user's id, and a visitor gets one from the next source of the chain."""
    identify = _run("identity.py")["identify"]
    session = {"posthog_distinct_id": "visitor"}
    visitor = SimpleNamespace(user=SimpleNamespace(is_authenticated=False), session=session)
    user = SimpleNamespace(user=SimpleNamespace(is_authenticated=True), session=session)
    assert (identify(visitor), identify(user)) == ("visitor", None)


def test_what_replaces_the_example_provider(
    monkeypatch: pytest.MonkeyPatch, posthog: RemoteStandIn, redis_server: RedisServer
) -> None:
    """The replacement accepts that provider's Redis client unchanged."""
    posthog.serve({"flags": [make_flag("on")], "group_type_mapping": {}, "cohorts": {}})
    for name, value in {
        "REDIS_URL": redis_server.tcp_url,
        "POSTHOG_PROJECT_API_KEY": "phc_test",
        "POSTHOG_SECRET_KEY": "phs_test",
        "POSTHOG_HOST": posthog.url,
    }.items():
        monkeypatch.setenv(name, value)
    scope = _run("flags.py")
    client = scope["posthog"]
    try:
        assert client.evaluate_flags("user", flag_keys=["on"], only_evaluate_locally=True).is_enabled("on")
        assert scope["cache"].status().flags == 1
    finally:
        client.shutdown()
        scope["redis_client"].close()
