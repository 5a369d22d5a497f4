"""The settings of mitol-django-olposthog (2026.4.2), with its defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from flagcache.errors import ConfigurationError

__all__ = ["DEFAULTS", "check_settings", "setting"]

DEFAULTS: Mapping[str, Any] = {
    "POSTHOG_ENABLED": False,
    "POSTHOG_PROJECT_API_KEY": "",
    "POSTHOG_PERSONAL_API_KEY": "",
    "POSTHOG_API_HOST": "https://us.posthog.com",
    "POSTHOG_FEATURE_FLAG_REQUEST_TIMEOUT_MS": 3000,
    "POSTHOG_MAX_RETRIES": 3,
    "POSTHOG_POLL_INTERVAL": 300,
    "POSTHOG_CIRCUIT_BREAKER_COOLDOWN_SECONDS": 60,
    "POSTHOG_CIRCUIT_BREAKER_TRIP_THRESHOLD_SECONDS": 6,
}
"""The defaults of missing settings."""


def setting(name: str) -> Any:  # noqa: ANN401 - of any type
    """Return a setting, or its default."""
    return getattr(settings, name, DEFAULTS[name])


def check_settings() -> None:
    """Check all settings.

    Raises:
        ConfigurationError: a setting is invalid.
    """
    if not isinstance(setting("POSTHOG_ENABLED"), bool):
        raise ConfigurationError(f"POSTHOG_ENABLED must be True or False, not {setting('POSTHOG_ENABLED')!r}")
    for name, default in DEFAULTS.items():
        value, number = setting(name), type(default) is int
        if number and (type(value) not in (int, float) or not math.isfinite(value) or value < 0):
            raise ConfigurationError(f"{name} must be a number from 0 up, not {value!r}")
    if setting("POSTHOG_ENABLED") and not isinstance(getattr(settings, "ENVIRONMENT", None), str):
        raise ConfigurationError("ENVIRONMENT must be a string: flags may depend on the person property of that name")
