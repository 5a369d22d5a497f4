"""Django's system checks of the settings: each error has its remedy."""

from __future__ import annotations

from collections.abc import Iterator

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name

from flagcache.errors import ConfigurationError
from flagcache_posthog.django._config import HOOKS, Config, hook, problems, read

__all__ = ["TAG", "check_settings"]

TAG = "flagcache"


def check_settings(**_: object) -> list[CheckMessage]:
    """Check `FLAGCACHE` and the `POSTHOG_` settings. Connects to nothing."""
    found = problems()
    if found:
        return [Error(each.message, hint=each.hint, id=f"{TAG}.{each.code}") for each in found]
    return list(_further_checks(read()))


def _further_checks(config: Config) -> Iterator[CheckMessage]:
    for key in HOOKS:
        if error := _hook_error(config, key):
            yield Error(f"flagcache refuses a setting: {error}.", id=f"{TAG}.E005")
    if not config.secret_key and not config.disabled:
        yield Warning(
            "FLAGCACHE has no SECRET_KEY: no flag can be evaluated, and each reads as its default.",
            hint="Set it to a phs_... key of the PostHog project, or set DISABLED.",
            id=f"{TAG}.W001",
        )


def _hook_error(config: Config, key: str) -> str:
    try:
        hook(config, key)
    except ConfigurationError as exc:
        return str(exc)
    return ""
