"""The functions of `mitol.olposthog.features`, with a fleet's shared definitions, for projects that migrate.

    from flagcache_posthog.django.olposthog import configure, is_enabled

The names, arguments and settings are those of mitol-django-olposthog 2026.4.2; the implementation is flagcache and the
SDK. docs/moving.md lists the differences. A flag that can be decided locally never comes from `CACHES["durable"]`,
which has PostHog's responses for the others.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

import posthog as sdk
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.cache import caches

from flagcache.errors import ConfigurationError
from flagcache.runtime.clock import monotonic
from flagcache.runtime.process_lock import ProcessLock
from flagcache_posthog._remote_calls import Limits, calls_of, limit, on_event_loop
from flagcache_posthog.django import _config, project
from flagcache_posthog.django._defaults import use_defaults_from, uses_defaults_from
from flagcache_posthog.django._durable import Durable, Values
from flagcache_posthog.django._olposthog_settings import DEFAULTS, check_settings, setting

if TYPE_CHECKING:
    from posthog.client import Client

__all__ = [
    "CIRCUIT_BREAKER_CACHE_KEY",
    "DEFAULTS",
    "Features",
    "configure",
    "default_unique_id",
    "get_all_feature_flags",
    "is_enabled",
]

log = logging.getLogger("flagcache")
"""A name of the published module. It isn't used here."""

CIRCUIT_BREAKER_CACHE_KEY = "posthog_circuit_open"
"""For code that imports it. Nothing is stored under it, because each process pauses its own requests."""

_lock = ProcessLock()
_durable = Durable()


class Features:
    """A base for a project's class of flag keys."""


def configure() -> None:
    """Configure how this process creates its client when it is first used. Call it in `ready()`.

    The client is the SDK's global one too: `posthog.capture(...)` uses it.

    Raises:
        ConfigurationError: a setting is invalid, or there is a personal API key and `FLAGCACHE` names no store.
    """
    check_settings()
    if not uses_defaults_from(_defaults_of_settings):
        use_defaults_from(_defaults_of_settings)
        if _has_secret_key() or apps.is_installed("flagcache_posthog.django"):
            project.forget()
    if _has_secret_key():
        project.config()
        _replace_foreign_client()
        return
    sdk.default_client = None
    project.set_module_options(_plain_options())


def default_unique_id() -> str:
    """Return the setting `HOSTNAME`, which is used as the user if none is given."""
    return str(settings.HOSTNAME)


def is_enabled(name: str, default: bool | None = None, opt_unique_id: str | None = None) -> bool | str:  # noqa: FBT001
    """Return whether a flag is on, or the variant's key of a flag with variants.

    Args:
        name: the flag's key.
        default: the value if neither PostHog nor the setting `FEATURES` has one.
        opt_unique_id: the user; without it `default_unique_id()`.
    """
    user = opt_unique_id or default_unique_id()
    value = _value(name, user) if setting("POSTHOG_ENABLED") else None
    if value is None:
        fallbacks: Values = getattr(settings, "FEATURES", {})
        return fallbacks.get(name, default or False)
    return value


def get_all_feature_flags(opt_unique_id: str | None = None) -> Values:
    """Return the values of all flags for a user; empty if flags are disabled, or PostHog doesn't answer.

    Args:
        opt_unique_id: the user; without it `default_unique_id()`.
    """
    if not setting("POSTHOG_ENABLED"):
        return {}
    user = opt_unique_id or default_unique_id()
    client = _client()
    if not _decides_locally(client):
        return {} if on_event_loop() else _ask(client, user, None)
    found = client.get_all_flags(user, person_properties=_properties(user), only_evaluate_locally=True) or {}
    found.update({key: False for key, active in _defined(client).items() if key not in found and not active})
    rest = [key for key in _defined(client) if key not in found]
    if not rest or on_event_loop():
        return found
    stored = _durable.read(_identity(user), rest)
    missing = [key for key in rest if key not in stored]
    return {**found, **stored, **(_ask(client, user, missing) if missing else {})}


# --- one value -------------------------------------------------------------------------------------------------------


def _value(name: str, user: str) -> bool | str | None:
    client, keys = _client(), None
    if _decides_locally(client):
        value = _local_value(client, name, user)
        if value is not None:
            return value
        if not (active := _defined(client).get(name)):
            return active
        keys = [name]
    if on_event_loop():
        return None
    return (_durable.read(_identity(user), keys) or _ask(client, user, keys)).get(name)


def _local_value(client: Client, name: str, user: str) -> bool | str | None:
    options: dict[str, Any] = {"person_properties": _properties(user), "only_evaluate_locally": True}
    result = client.get_feature_flag_result(name, user, send_feature_flag_events=False, **options)
    if result is None:
        return None
    if client.send:
        client.get_feature_flag_result(name, user, **options)  # sends the SDK's event
    return result.get_value()


def _decides_locally(client: Client) -> bool:
    """Whether it has definitions, or can load them. If not, one response of PostHog has all flags of a user."""
    # `override_flags` shows definitions; what the SDK loads without a key is an empty list.
    return bool(cast("str | None", client.personal_api_key)) or bool(_definitions(client))


def _defined(client: Client) -> dict[str, bool]:
    """Return the keys of its definitions, and whether the flags are active. PostHog knows no others, except new ones.

    Older SDKs (posthog 7.37.3) don't decide some inactive flags, which are off.
    """
    return {flag["key"]: flag.get("active") is not False for flag in _definitions(client) or [] if flag.get("key")}


def _definitions(client: Client) -> list[dict[str, Any]] | None:
    found: object = client.feature_flag_definitions()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    return cast("list[dict[str, Any]] | None", found)


def _ask(client: Client, user: str, keys: list[str] | None) -> Values:
    """Ask PostHog in one request, unless requests are paused; empty without a response.

    Args:
        client: sends the request.
        user: the distinct id.
        keys: the flags' keys; None for all.
    """
    limit(client, Limits(*(float(setting(f"POSTHOG_CIRCUIT_BREAKER_{name}")) for name in _LIMITS)))
    calls = calls_of(client)
    if calls.paused:
        calls.skip(lambda: _answers(client, user, keys))
        return {}
    began = monotonic()
    answer = _answer(client, user, keys)
    answered = set(keys) <= set(answer) if keys else bool(answer)
    calls.record(monotonic() - began, answered=answered)
    if answered:
        _durable.write(_identity(user), keys, answer)
    return answer


_LIMITS = ("TRIP_THRESHOLD_SECONDS", "COOLDOWN_SECONDS")


def _answer(client: Client, user: str, keys: list[str] | None) -> Values:
    if keys is None or len(keys) > 1:
        return client.get_all_flags(user, person_properties=_properties(user), flag_keys_to_evaluate=keys) or {}
    result = client.get_feature_flag_result(keys[0], user, person_properties=_properties(user))  # with the SDK's event
    return {} if result is None else {keys[0]: result.get_value()}


def _answers(client: Client, user: str, keys: list[str] | None) -> bool:
    """Ask PostHog on another thread; return whether it answers."""
    answer = client.get_flags_decision(user, person_properties=_properties(user), flag_keys_to_evaluate=keys)
    return bool(answer.get("requestId") or answer.get("flags"))


def _identity(user: str) -> list[object]:
    return [user, _properties(user)]


def _properties(user: str) -> dict[str, object]:
    return {"environment": settings.ENVIRONMENT, "user_id": user}


# --- settings and the client -----------------------------------------------------------------------------------------


def _has_secret_key() -> bool:
    """Whether a secret key is set, so that there are definitions to share."""
    keys = (setting("POSTHOG_PERSONAL_API_KEY"), getattr(settings, "POSTHOG_SECRET_KEY", ""))
    return bool(setting("POSTHOG_ENABLED")) and any((*keys, getattr(settings, "FLAGCACHE", {}).get("SECRET_KEY")))


def _replace_foreign_client() -> None:
    """Drop a global client that other code has created without the cache."""
    try:
        if sdk.default_client is not None:
            project.client()
    except ConfigurationError:
        sdk.default_client = None


def _client() -> Client:
    if not uses_defaults_from(_defaults_of_settings):
        configure()
    if _has_secret_key():
        return project.client()
    if sdk.default_client is None:
        with _lock:
            if sdk.default_client is None:
                sdk.default_client = project.make_client(_plain_options())
    return sdk.default_client


def _defaults_of_settings() -> dict[str, Any]:
    """Return the defaults that these settings give to the project's client and cache."""
    return {
        "HOST": setting("POSTHOG_API_HOST"),
        "POLL_INTERVAL": setting("POSTHOG_POLL_INTERVAL"),
        "REFRESH_INTERVAL": setting("POSTHOG_POLL_INTERVAL"),
        "DISABLED": not setting("POSTHOG_ENABLED"),
        "CLIENT": {
            "send": False,
            "disable_geoip": True,
            "feature_flags_request_timeout_seconds": setting("POSTHOG_FEATURE_FLAG_REQUEST_TIMEOUT_MS") / 1000,
            "max_retries": setting("POSTHOG_MAX_RETRIES"),
        },
    }


def _plain_options() -> dict[str, Any]:
    """Return the options of a client without definitions, which asks PostHog."""
    return {
        **cast("dict[str, Any]", _config.given("CLIENT")),
        "api_key": setting("POSTHOG_PROJECT_API_KEY"),
        "host": _config.given("HOST"),
        "disabled": False,
        "flag_definition_cache_provider": None,
    }


def __getattr__(name: str) -> object:
    """Return another name of the published module: these need applications or a cache."""
    if name == "User":
        return get_user_model()
    if name == "durable_cache":
        return caches["durable"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
