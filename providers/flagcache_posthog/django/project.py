"""The cache and the client of a Django project: one of each per process, created when they are first used.

The client is the SDK's global one too, so `posthog.capture(...)`, and the SDK's own middleware and handlers, use it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import posthog as sdk
from django.conf import settings

from flagcache.errors import ConfigurationError
from flagcache.runtime.guard import log_exceptions
from flagcache.runtime.log_prefix import prefix
from flagcache.runtime.process_lock import ProcessLock
from flagcache.runtime.threads import try_start
from flagcache_posthog._base import CacheBase
from flagcache_posthog._client_checks import check_cache
from flagcache_posthog._lifecycle import load_clients, register_client_factory
from flagcache_posthog.django._config import Config, read
from flagcache_posthog.django._config import hook as hook_of

if TYPE_CHECKING:
    from django.http import HttpRequest
    from posthog.client import Client

    from flagcache_posthog.provider import FlagDefinitionCache

__all__ = ["cache", "client", "config", "forget", "hook", "make_client", "prepare", "ready", "set_module_options"]

_log = logging.getLogger("flagcache")


class _Project:
    """The state of the project in this process. A forked child uses what it inherits."""

    def __init__(self) -> None:
        self.lock = ProcessLock()
        self.config: Config | None = None
        self.cache: FlagDefinitionCache | None = None
        self.client: Client | None = None
        self.loading: threading.Thread | None = None
        self.hooks: dict[str, Callable[[HttpRequest], Any] | None] = {}


_project = _Project()


def config() -> Config:
    """Return the settings; they are read once.

    Raises:
        ConfigurationError: a setting is invalid.
    """
    if _project.config is not None:  # at each read of a flag
        return _project.config
    with _project.lock:
        if _project.config is None:
            found = read()
            _project.cache = None if found.make_cache is None else found.make_cache()
            set_module_options(_options(found, _project.cache))
            _project.config = found
        return _project.config


def cache() -> FlagDefinitionCache:
    """Return the project's cache. It connects to its store when a client first uses it.

    Raises:
        ConfigurationError: a setting is invalid, or no store is named.
    """
    config()
    if _project.cache is None:
        raise ConfigurationError("FLAGCACHE has DISABLED and no STORE: there is no cache")
    return _project.cache


def client() -> Client:
    """Return this process's client; the first call creates it. Flags are loaded when one is first evaluated.

    Call it where you use it. At import, it would be created in the process from which a server forks its workers.

    Raises:
        ConfigurationError: the settings are invalid, or other code has created the SDK's global client before.
    """
    if _project.client is not None and _project.client is sdk.default_client:
        return _project.client
    config_used = config()
    with _project.lock:
        if sdk.default_client is None:
            sdk.default_client = make_client(_options(config_used, _project.cache))
        elif _project.cache is not None:
            check_cache(sdk.default_client, _project.cache, CacheBase)
        _project.client = sdk.default_client
        return _project.client


def ready() -> bool:
    """Whether this process has had flags: for the view of a readiness probe. Never waits.

    A process that hasn't evaluated a flag yet loads them now, on another thread. True if `DISABLED`.

    Raises:
        ConfigurationError: as in `client`.
    """
    if config().disabled:
        return True
    posthog = client()
    if posthog.feature_flags is None and (_project.loading is None or not _project.loading.is_alive()):
        _project.loading = threading.Thread(target=load_clients, args=([posthog],), name="flagcache-load", daemon=True)
        try_start(_project.loading)
    return cache().ready()


def hook(key: str) -> Callable[[HttpRequest], Any] | None:
    """Return the project's function of a request that a key in `HOOKS` names; None if it has none.

    Raises:
        ConfigurationError: a setting is invalid, or it is no function.
    """
    if key not in _project.hooks:
        _project.hooks[key] = hook_of(config(), key)
    return _project.hooks[key]


def prepare() -> None:
    """Let the first use of the SDK's global client create it from the settings. Never raises."""
    register_client_factory(_create_client)
    try:
        config()
    except ConfigurationError as exc:
        if hasattr(settings, "POSTHOG_ENABLED"):  # `olposthog.configure()` runs later, adds defaults, and raises itself
            return
        _log.error("%s: the settings are invalid, and request.flags raises until they are corrected: %s", prefix(), exc)


def forget() -> None:
    """Read the settings again, because a test has changed them."""
    with _project.lock:
        if _project.client is not None:
            log_exceptions(_project.client.shutdown, None, "", "shutting down a client failed")
            sdk.default_client = None
        _project.config = _project.cache = _project.client = None
        _project.hooks.clear()
    with suppress(ConfigurationError):  # code that needs them raises it
        config()


def _create_client() -> None:
    """Create the client for a server's helper, which loads it before the first request."""
    if not config().disabled:
        client()


def _options(config_used: Config, provider: FlagDefinitionCache | None) -> dict[str, object]:
    return {
        **config_used.client_options,
        "api_key": config_used.project_api_key,
        "secret_key": config_used.secret_key or None,
        "host": config_used.host,
        "disabled": config_used.disabled or bool(config_used.client_options.get("disabled")),
        "flag_definition_cache_provider": provider,
    }


def make_client(options: Mapping[str, Any]) -> Client:
    """Create a client with these options, which include `api_key`."""
    others = dict(options)
    return sdk.Posthog(others.pop("api_key"), **others)


def set_module_options(options: Mapping[str, object]) -> None:
    """Set options on the module `posthog`, which creates its client with them and copies some of them at each call."""
    for name, value in options.items():
        if hasattr(sdk, name):
            setattr(sdk, name, value)
