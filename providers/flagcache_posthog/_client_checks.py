"""Clients that were put together with a cache in a way that cannot work; each is named with its remedy."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from posthog.flag_definition_cache import FlagDefinitionCacheProvider

from flagcache.errors import ConfigurationError
from flagcache.runtime.guard import log_exceptions
from flagcache.runtime.here import prefix
from flagcache.runtime.masking import without_userinfo

if TYPE_CHECKING:
    from posthog.client import Client

    from flagcache_posthog.attach import AttachedClient

__all__ = ["checked_host", "lacks_key", "tell_polled_past", "uses", "watch"]

_log = logging.getLogger("flagcache")

_PAUSE = 0.5
"""Seconds between two looks at a client that has not called its cache yet."""


def uses(client: Client, cache: object, kind: type) -> bool:
    """Whether a client was made with this very cache; False if with a provider of the user's own, which may wrap it.

    Args:
        client: no public name tells its provider; but it holds it.
        cache: the cache.
        kind: the class of all caches.

    Raises:
        ConfigurationError: it was made with another cache, or with no provider at all.
    """
    held = list(vars(client).values())
    if any(value is cache for value in held):
        return True
    if any(isinstance(value, kind) for value in held):
        raise ConfigurationError(
            "this client uses another cache: attach it to the one that is its flag_definition_cache_provider; a client"
            " has one cache, which all clients of its project in a process may share"
        )
    if any(isinstance(value, FlagDefinitionCacheProvider) for value in held):
        return False
    raise ConfigurationError(
        "this client uses no cache, and asks PostHog by itself: make it with flag_definition_cache_provider=cache. The"
        " global client takes posthog.flag_definition_cache_provider if that is set before the first call, also before"
        " posthog.capture()"
    )


def checked_host(host: str) -> str:
    """Return PostHog's address if it has a scheme.

    Raises:
        ConfigurationError: it has none, and no request can be made.
    """
    if urlsplit(host).scheme not in ("http", "https"):
        shown = without_userinfo(host)[:40]
        raise ConfigurationError(f"the host of PostHog must begin with https:// or http://, not {shown!r}")
    return host


def lacks_key(client: Client, namespace: str) -> bool:
    """Return whether a client has no secret key, and log an error if so. Raises nothing.

    An application without keys, as in development, starts as with the SDK alone.
    """
    if client.personal_api_key or client.disabled:
        return False
    _log.error(
        "%s: a client has no secret key: it asks PostHog for no flag definitions, and if the SDK loads none"
        " without a key, no flag is evaluated locally. Give it secret_key=, a project secret key (phs_...); for a"
        " reader any text will do",
        prefix(namespace),
    )
    return True


def watch(attached: AttachedClient, look: Callable[[], object], namespace: str) -> None:
    """Look now and then, on a thread, until a client is known to use its cache, is known not to, or is gone."""

    def run() -> None:
        while not (attached.gone or attached.uses_it or attached.polled_past):
            threading.Event().wait(_PAUSE)
            look()

    thread = threading.Thread(target=run, name="flagcache-watch", daemon=True)
    log_exceptions(thread.start, None, namespace, "could not watch whether a client uses its cache")


def tell_polled_past(namespace: str) -> None:
    """Say that a client never asks the cache that it is attached to."""
    _log.error(
        "%s: a client that was attached has loaded and polled, and never asked this cache: its own provider"
        " does not call it, so that it asks PostHog by itself and gets no change from the fleet. Make it with"
        " flag_definition_cache_provider=cache, or have that provider call this very cache",
        prefix(namespace),
    )
