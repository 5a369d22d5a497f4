"""A PostHog client that is attached to its cache, only by the client's public names.

Used are `api_key`, `personal_api_key`, `host`, `poll_interval`, `poller` with `execute`, `args` and `kwargs`, and
`feature_flags` (posthog 7.37 to 7.91). `load_feature_flags()` is never called: it starts a poller if none is alive,
also while `shutdown()` runs. The one exception is in `_sdk_request`.
"""

from __future__ import annotations

import hashlib
import weakref
from typing import TYPE_CHECKING, cast

from flagcache.errors import ConfigurationError
from flagcache_posthog._client_checks import checked_host
from flagcache_posthog._orphan_pollers import calling_thread
from flagcache_posthog._sdk import is_client
from flagcache_posthog._sdk_request import user_agent_of
from flagcache_posthog.fetcher import PostHogFetcher

if TYPE_CHECKING:
    from posthog.client import Client as PostHogClient

    from flagcache.settings import Settings
    from flagcache.vendor import Definitions, Fetcher
    from flagcache_posthog.definitions import PostHogVendor

__all__ = ["AttachedClient", "project_of"]


def project_of(api_key: str) -> str:
    """Return the project (`Client.project`) of a token: a digest, not the token itself."""
    return f"key={hashlib.sha256(api_key.encode()).hexdigest()[:12]}"


class AttachedClient:
    """One client, held weakly (`flagcache.clients.Client`).

    Args:
        client: a `posthog.Posthog`, or the SDK's global one, which is of its base class.
        vendor: checks the fetched definitions.
        settings: limits of the fetches.
        namespace: of its cache.
        listening: as `Client.listening`.

    Raises:
        ConfigurationError: it is something else, or its PostHog host has no scheme.
    """

    def __init__(
        self, client: object, vendor: PostHogVendor, settings: Settings, namespace: str, *, listening: bool = True
    ) -> None:
        if not is_client(client):
            given = f"{type(client).__module__}.{type(client).__qualname__}"
            raise ConfigurationError(f"attach takes a posthog.Posthog, not {given}: only it evaluates flags locally")
        self._ref = weakref.ref(client)
        self._vendor = vendor
        self._settings = settings
        self._namespace = namespace
        self._closed = False
        self.listening = listening
        """As `Client.listening`."""
        self._project = project_of(str(client.api_key))
        checked_host(client.host)
        self.uses_cache = False
        """Whether it is known to call the cache. With the user's own provider this is known after its first call."""
        self.bypasses_cache = False
        self._loaded_at: float | None = None

    def detect_bypass(self, now: float) -> bool:
        """Whether it has had flags for a poll interval and never called the cache; True once."""
        client = self._ref()
        if self.uses_cache or self.bypasses_cache or client is None or not client.feature_flags:
            return False
        self._loaded_at = now if self._loaded_at is None else self._loaded_at
        self.bypasses_cache = now - self._loaded_at >= self.poll_interval
        return self.bypasses_cache

    def is_for(self, client: PostHogClient) -> bool:
        """Whether it represents this client."""
        return self._ref() is client

    @property
    def gone(self) -> bool:
        """As `Client.gone`."""
        return self._closed or self._ref() is None

    @property
    def poll_interval(self) -> float:
        """As `Client.poll_interval`."""
        client = self._ref()
        return float(client.poll_interval) if client is not None else 0.0

    @property
    def polling(self) -> bool | None:
        """As `Client.polling`."""
        client = self._ref()
        if client is None:
            return False
        return None if client.poller is None else client.poller.is_alive()

    @property
    def polls(self) -> bool:
        """As `Client.polls`."""
        client = self._ref()
        return client is not None and client.enable_local_evaluation

    @property
    def asking(self) -> bool:
        """As `Client.asking`."""
        client = self._ref()
        return client is not None and client.poller is calling_thread()

    @property
    def project(self) -> str:
        """As `Client.project`: a digest of the project's token."""
        return self._project

    @property
    def can_fetch(self) -> bool:
        """As `Client.can_fetch`; without a secret key, or disabled, a client cannot fetch."""
        client = self._ref()
        if client is None or client.disabled:
            return False
        return bool(cast("str | None", client.personal_api_key)) and bool(client.api_key)  # the SDK gives it no type

    @property
    def fetcher(self) -> Fetcher | None:
        """As `Client.fetcher`."""
        client = self._ref()
        if client is None or client.disabled:
            return None
        secret_key = cast("str | None", client.personal_api_key)  # the SDK gives it no type
        if not secret_key or not client.api_key:
            return None
        fetcher = PostHogFetcher(
            api_key=client.api_key,
            secret_key=secret_key,
            host=client.host,
            vendor=self._vendor,
            settings=self._settings,
            namespace=self._namespace,
        )
        fetcher.sdk = user_agent_of(client)
        return fetcher

    def has(self, definitions: Definitions) -> bool:
        """As `Client.has`."""
        client = self._ref()
        return client is not None and bool(client.feature_flags) and client.feature_flags is definitions["flags"]

    def differs_from(self, definitions: Definitions) -> bool:
        """As `Client.differs_from`."""
        client = self._ref()
        if client is None or client.feature_flags is definitions["flags"]:
            return False
        return bool(definitions["flags"]) or client.feature_flags is None or bool(client.feature_flags)

    @property
    def has_no_flags(self) -> bool:
        """As `Client.has_no_flags`."""
        client = self._ref()
        return client is None or not client.feature_flags

    def close(self) -> None:
        """As `Client.close`."""
        self._closed = True

    def poll(self) -> None:
        """As `Client.poll`."""
        client = self._ref()
        poller = client.poller if client is not None else None
        if poller is not None and poller.is_alive():
            poller.execute(*poller.args, **poller.kwargs)
