"""A Django project in the tests' process, for all that needs no server and no database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import django
import posthog as sdk
import pytest
from django.conf import settings
from django.test import override_settings

from flagcache_posthog.testing import StandInControl, make_flag

Configure: TypeAlias = Callable[..., None]
"""Sets settings for the rest of the test; `flagcache=` is added to valid values of `FLAGCACHE`."""


def set_up_django() -> None:
    """Configure Django once for the process; tests then override its settings."""
    if not settings.configured:
        settings.configure(SECRET_KEY="x" * 50, ALLOWED_HOSTS=["*"], USE_TZ=True)
        django.setup()


@pytest.fixture
def configure(
    posthog: StandInControl, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Configure]:
    """A project whose store is a file, on a PostHog of its own."""
    set_up_django()
    for name in ("api_key", "secret_key", "host", "disabled", "flag_definition_cache_provider", "default_client"):
        monkeypatch.setattr(sdk, name, getattr(sdk, name))
    works = {
        "STORE": f"sqlite:///{tmp_path / 'flags.db'}",
        "NAMESPACE": namespace,
        "PROJECT_API_KEY": "phc_test",
        "SECRET_KEY": "phs_test",
        "HOST": posthog.url,
    }
    active: list[override_settings] = []

    def change(*, flagcache: dict[str, Any] | None = None, **more: object) -> None:
        given = {key: value for key, value in {**works, **(flagcache or {})}.items() if value is not ...}
        middleware = ["flagcache_posthog.django.middleware.FlagsMiddleware"]
        ours = {"INSTALLED_APPS": ["flagcache_posthog.django"], "MIDDLEWARE": middleware, "FLAGCACHE": given}
        changed: dict[str, Any] = {**ours, **more}
        active.append(override_settings(**changed))
        active[-1].enable()

    yield change
    client = sdk.default_client
    while active:
        active.pop().disable()
    if client is not None:
        client.shutdown()
    sdk.default_client = None


@pytest.fixture
def project(configure: Configure) -> None:
    """The project with its default settings."""
    configure()


@pytest.fixture
def flags(posthog: StandInControl) -> StandInControl:
    """A PostHog with flags that are on, that are off, that have variants, and that are on for one user only."""
    served = [
        make_flag("on"),
        make_flag("off", active=False),
        make_flag("price", variants={"b": 100}, payload={"amount": 9}),
        for_user("only-7", "7"),
        for_user("only-visitor", "visitor"),
    ]
    posthog.serve({"flags": served, "group_type_mapping": {}, "cohorts": {}})
    return posthog


def for_user(key: str, user: str, name: str = "distinct_id") -> dict[str, Any]:
    """A flag that is on for one user, or for those with this property."""
    condition = {"key": name, "value": [user], "operator": "exact", "type": "person"}
    flag: dict[str, Any] = {**make_flag(key)}
    groups = [{"properties": [condition], "rollout_percentage": 100, "variant": None}]
    return {**flag, "filters": {**flag["filters"], "groups": groups}}
