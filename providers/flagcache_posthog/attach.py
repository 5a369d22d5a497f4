"""A PostHog client and its cache, tied together by the client's public surface alone.

Used are `api_key`, `personal_api_key`, `host`, `poll_interval`, `poller` with `execute`, `args` and `kwargs`, and
`feature_flags` (posthog 7.37 to 7.91). `load_feature_flags()` is never called: it starts a poller if none is alive,
also while `shutdown()` runs.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from typing import TYPE_CHECKING, cast

from posthog.client import Client as PostHogClient

from flagcache.errors import ConfigurationError
from flagcache_posthog.fetcher import PostHogFetcher

if TYPE_CHECKING:
    from flagcache.settings import Settings
    from flagcache.vendor import Definitions, Fetcher
    from flagcache_posthog.definitions import PostHogVendor

__all__ = ["AttachedClient", "project_of"]


def project_of(api_key: str) -> str:
    """Return what a project's token tells of the project (`Client.project`): a digest, and not the token itself."""
    return f"key={hashlib.sha256(api_key.encode()).hexdigest()[:12]}"


class AttachedClient:
    """One client, held weakly (`flagcache.clients.Client`).

    Args:
        client: a `posthog.Posthog`, or the SDK's global one, which is of its base class.
        vendor: checks what its fetches bring.
        settings: bounds them.

    Raises:
        ConfigurationError: it is something else.
    """

    def __init__(self, client: object, vendor: PostHogVendor, settings: Settings) -> None:
        if not isinstance(client, PostHogClient):
            given = f"{type(client).__module__}.{type(client).__qualname__}"
            raise ConfigurationError(f"attach takes a posthog.Posthog, not {given}: only it evaluates flags locally")
        self._ref = weakref.ref(client)
        self._vendor = vendor
        self._settings = settings
        self._closed = False
        self._project = project_of(str(client.api_key))

    def is_for(self, client: PostHogClient) -> bool:
        """Whether it stands for this very client."""
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
    def asking(self) -> bool:
        """As `Client.asking`."""
        client = self._ref()
        return client is not None and client.poller is threading.current_thread()

    @property
    def project(self) -> str:
        """As `Client.project`: a digest of the project's token."""
        return self._project

    @property
    def fetcher(self) -> Fetcher | None:
        """As `Client.fetcher`; without a secret key, or disabled, a client cannot fetch."""
        client = self._ref()
        if client is None or client.disabled:
            return None
        secret_key = cast("str | None", client.personal_api_key)  # of no known type in the SDK
        if not secret_key or not client.api_key:
            return None
        return PostHogFetcher(
            api_key=client.api_key,
            secret_key=secret_key,
            host=client.host,
            vendor=self._vendor,
            timeout=self._settings.fetch_timeout,
            max_bytes=self._settings.max_decoded_bytes,
        )

    def holds(self, definitions: Definitions) -> bool:
        """As `Client.holds`."""
        client = self._ref()
        return client is not None and bool(client.feature_flags) and client.feature_flags is definitions["flags"]

    def lacks(self, definitions: Definitions) -> bool:
        """As `Client.lacks`."""
        client = self._ref()
        if client is None or client.feature_flags is definitions["flags"]:
            return False
        return bool(definitions["flags"]) or client.feature_flags is None or bool(client.feature_flags)

    @property
    def blank(self) -> bool:
        """As `Client.blank`."""
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
