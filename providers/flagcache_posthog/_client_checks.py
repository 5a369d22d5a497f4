"""Checks whether a client can work with its cache; each message names the remedy."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from posthog.flag_definition_cache import FlagDefinitionCacheProvider

from flagcache.errors import ConfigurationError
from flagcache.runtime.guard import log_exceptions
from flagcache.runtime.log_prefix import prefix
from flagcache.runtime.masking import without_userinfo

if TYPE_CHECKING:
    from posthog.client import Client

    from flagcache_posthog.attach import AttachedClient

__all__ = ["check_cache", "checked_host", "log_bypassed_cache", "log_missing_key", "watch_client"]

_log = logging.getLogger("flagcache")

_CHECK_EVERY = 0.5
"""Seconds between two checks of a client that hasn't called its cache yet."""


def check_cache(client: Client, cache: object, kind: type) -> bool:
    """Whether a client was created with this cache; False if with the user's own provider, which may wrap the cache.

    Args:
        client: no public name shows its provider, so all its attributes are searched.
        cache: the cache.
        kind: the class of all caches.

    Raises:
        ConfigurationError: it was created with another cache, or without a provider.
    """
    values = list(vars(client).values())
    if any(value is cache for value in values):
        return True
    if any(isinstance(value, kind) for value in values):
        raise ConfigurationError(
            "this client uses another cache: attach it to the one that is its flag_definition_cache_provider; a client"
            " has one cache, which all clients of its project in a process may share"
        )
    if any(isinstance(value, FlagDefinitionCacheProvider) for value in values):
        return False
    raise ConfigurationError(
        "this client uses no cache, and asks PostHog by itself: create it with flag_definition_cache_provider=cache."
        " The global client uses posthog.flag_definition_cache_provider if that is set before the first call, also"
        " before posthog.capture()"
    )


def checked_host(host: str) -> str:
    """Return PostHog's address if it has a scheme.

    Raises:
        ConfigurationError: it has no scheme, so no request can be made.
    """
    if urlsplit(host).scheme not in ("http", "https"):
        shown = without_userinfo(host)[:40]
        raise ConfigurationError(f"the host of PostHog must begin with https:// or http://, not {shown!r}")
    return host


def log_missing_key(client: Client, namespace: str) -> bool:
    """Return whether a client has no secret key, and log an error if so. Raises nothing.

    An application without keys, as in development, starts as it does with the SDK alone.
    """
    if client.personal_api_key or client.disabled:
        return False
    _log.error(
        "%s: a client has no secret key: it asks PostHog for no flag definitions, and if the SDK loads none"
        " without a key, no flag is evaluated locally. Set secret_key= to a project secret key (phs_...); for a"
        " reader any text works",
        prefix(namespace),
    )
    return True


def watch_client(attached: AttachedClient, check: Callable[[], object], namespace: str) -> None:
    """Check a client on a thread until it has used its cache, has bypassed it, or is gone."""

    def run() -> None:
        while not (attached.gone or attached.uses_cache or attached.bypasses_cache):
            threading.Event().wait(_CHECK_EVERY)
            check()

    thread = threading.Thread(target=run, name="flagcache-watch", daemon=True)
    log_exceptions(thread.start, None, namespace, "starting the check of a client's cache failed")


def log_bypassed_cache(namespace: str) -> None:
    """Log that a client never calls the cache that it is attached to."""
    _log.error(
        "%s: an attached client has loaded and polled without calling this cache: its own provider doesn't call it,"
        " so the client asks PostHog by itself and gets no changes from the fleet. Create it with"
        " flag_definition_cache_provider=cache, or let that provider call this cache",
        prefix(namespace),
    )
