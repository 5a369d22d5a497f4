"""What every cache has, whichever way the SDK calls its four methods: clients and status."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from posthog.client import Client

from flagcache.coordinator import Coordinator
from flagcache.encoding.protection import Protection
from flagcache.errors import ConfigurationError
from flagcache.events import Event, Events, log_events
from flagcache.settings import Settings
from flagcache.status import Status
from flagcache.stores.spec import StoreSpec
from flagcache.worker.config import Plan
from flagcache_posthog._gevent import learn_system
from flagcache_posthog._lifecycle import remember
from flagcache_posthog._strays import stray_of
from flagcache_posthog.attach import AttachedClient
from flagcache_posthog.definitions import PostHogVendor

__all__ = ["CacheBase"]

_Client = TypeVar("_Client", bound=Client)


class CacheBase:
    """A cache without the four methods that the SDK calls."""

    def __init__(
        self,
        namespace: str,
        settings: Settings,
        protection: Protection,
        stores: tuple[StoreSpec, ...],
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        learn_system()
        events = Events()
        events.subscribe(log_events)
        if on_event is not None:
            events.subscribe(on_event)
        self._namespace = namespace
        self._settings = settings
        self._vendor = PostHogVendor()
        self._attached: tuple[AttachedClient, ...] = ()
        self._coordinator = Coordinator(Plan(namespace, settings, self._vendor, stores, events, protection=protection))

    def attach(self, client: _Client) -> _Client:
        """Tie a client to this cache: changes are pushed to it, and the fleet fetches with its keys.

        To be called once for a client, before or after it was loaded, also before a fork; a second call does nothing.
        The client is held weakly. Nothing is started in a process whose clients never poll.

        Args:
            client: made with this cache as its `flag_definition_cache_provider`, or the global one: `posthog.setup()`.

        Returns:
            The same client.

        Raises:
            ConfigurationError: it is no `posthog.Posthog`, or of another project than a client attached before.
        """
        if any(attached.is_for(client) for attached in self._attached):
            return client
        attached = AttachedClient(client, self._vendor, self._settings)
        if any(other.project != attached.project for other in self._attached if not other.gone):
            raise ConfigurationError(
                f"the clients of one cache share one project's definitions: {self._namespace!r} already has a client"
                " of another project; give each project a cache and a namespace of its own"
            )
        self._attached = (*(other for other in self._attached if not other.gone), attached)
        self._coordinator.attach(attached)
        remember(client)
        return client

    def ready(self) -> bool:
        """Whether this process holds definitions: for a readiness probe. Asks nobody, and returns at once.

        Never to be tied to liveness: where PostHog and the store are away, a restart only loses what a process holds.
        """
        return self._coordinator.ready()

    def status(self) -> Status:
        """What this process knows: role, version, age, store, namespace. Asks nobody; never shows a password."""
        return self._coordinator.status()

    def __repr__(self) -> str:
        status = self.status()
        age = "none" if status.age is None else f"{status.age:.1f}s"
        return (
            f"<{type(self).__name__} namespace={self._namespace!r} store={status.store!r} role={status.role.value}"
            f" version={status.version[:12] or 'none'!r} age={age}>"
        )

    def _should_fetch(self) -> bool:
        return stray_of() is None and self._coordinator.should_fetch()
