"""The part of every cache that doesn't depend on how the SDK calls its four methods: clients and status."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from functools import partial
from typing import TypeVar, cast

from posthog.client import Client
from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache.coordinator import Coordinator
from flagcache.encoding.protection import Protection
from flagcache.errors import ConfigurationError
from flagcache.event_log import log_events
from flagcache.events import Event, Events
from flagcache.runtime import process
from flagcache.runtime.callbacks import TimedCallback
from flagcache.runtime.guard import log_exceptions, log_failure
from flagcache.runtime.log_prefix import prefix
from flagcache.runtime.process_lock import ProcessLock
from flagcache.runtime.uwsgi import advise
from flagcache.settings import Settings
from flagcache.status import Status
from flagcache.stores.spec import StoreSpec
from flagcache.worker.config import CacheConfig
from flagcache_posthog._calling_client import calling_client
from flagcache_posthog._client_checks import check_cache, log_bypassed_cache, log_missing_key, watch_client
from flagcache_posthog._finder import ClientFinder
from flagcache_posthog._gevent import preload_system_name
from flagcache_posthog._lifecycle import record_keyless_clients, register_cache, register_client
from flagcache_posthog._orphan_pollers import stop_orphan_poller
from flagcache_posthog._sdk import is_client
from flagcache_posthog.attach import AttachedClient
from flagcache_posthog.definitions import PostHogVendor

__all__ = ["CacheBase", "config_of"]

_log = logging.getLogger("flagcache")

_Client = TypeVar("_Client", bound=Client)

_configs: weakref.WeakKeyDictionary[CacheBase, CacheConfig] = weakref.WeakKeyDictionary()

_SEARCHES = 3
"""How often `ready` searches for clients that never called; a search takes 0.15 s for a million objects."""


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
        preload_system_name()
        events = Events()
        events.subscribe(log_events)
        if on_event is not None:
            events.subscribe(TimedCallback(on_event, "on_event"))
        self._namespace = namespace
        self._settings = settings
        self._vendor = PostHogVendor()
        self._attached: tuple[AttachedClient, ...] = ()
        self._refused: weakref.WeakSet[Client] = weakref.WeakSet()
        """Clients that were found but can't be attached."""
        self._recorded: weakref.WeakSet[Client] = weakref.WeakSet()
        """Clients that called this cache."""
        self._missing_key_logged = False
        """A client without a secret key was logged."""
        self._searches_left = _SEARCHES
        self._attach_lock = ProcessLock()
        if settings.auto_attach:
            advise()
        register_cache(self)
        self._finder = ClientFinder(self._attach_polling_client, namespace, may_start_threads=not settings.reads_only)
        config = _configs[self] = CacheConfig(namespace, settings, self._vendor, stores, events, protection=protection)
        self._coordinator = Coordinator(config)

    def attach(self, client: _Client) -> _Client:
        """Attach a client to this cache: changes are pushed to it, and the fleet fetches with its keys.

        You rarely need this, because a cache attaches each client that uses it at its first load, unless
        `auto_attach=False`. Call it at any time, also before a fork; a second call does nothing. The client is held
        weakly. Nothing is started if a process's clients never load, or for a client that never polls
        (`enable_local_evaluation=False`).

        Args:
            client: created with this cache as its `flag_definition_cache_provider`, or the global one:
                `posthog.setup()`.

        Returns:
            The same client.

        Raises:
            ConfigurationError: it isn't a `posthog.Posthog`; it uses no cache, or another one; its PostHog host has no
                scheme; or it belongs to another project than an attached client. A client without a secret key is an
                ERROR in the log and no exception.
        """
        called = client in self._recorded or (is_client(client) and check_cache(client, self, CacheBase))
        self._add_client(client, listening=getattr(client, "enable_local_evaluation", True), called=called)
        register_client(client)
        return client

    def _add_client(self, client: Client, *, listening: bool, called: bool = True) -> None:
        with self._attach_lock:
            known = next((attached for attached in self._attached if attached.is_for(client)), None)
            if known is None:
                known = AttachedClient(client, self._vendor, self._settings, self._namespace, listening=listening)
                self._add(known)
                self._missing_key_logged = self._missing_key_logged or log_missing_key(client, self._namespace)
                if not called and not self._settings.reads_only:
                    watch_client(known, self._check_bypasses, self._namespace)
            elif listening:
                known.listening = True
            known.uses_cache = known.uses_cache or called

    def _check_bypasses(self) -> None:
        for attached in self._attached:
            if attached.detect_bypass(process.clock()):
                log_bypassed_cache(self._namespace)

    def _add(self, attached: AttachedClient) -> None:
        if any(other.project != attached.project for other in self._attached if not other.gone):
            raise ConfigurationError(
                f"the clients of one cache share one project's definitions: {self._namespace!r} already has a client"
                " of another project; give each project a cache and a namespace of its own"
            )
        self._attached = (*(other for other in self._attached if not other.gone), attached)
        self._coordinator.attach(attached)

    def _is_attached(self, client: Client) -> bool:
        return any(attached.is_for(client) for attached in self._attached)

    @property
    def has_clients(self) -> bool:
        """Whether any client of this cache is known."""
        return bool(self._attached or self._recorded)

    def record_client(self, client: Client) -> None:
        """Record a client that uses this cache, and attach it if `auto_attach`. A refusal is logged once."""
        if self._is_attached(client) or client in self._refused:
            return
        self._recorded.add(client)
        try:
            if self._settings.auto_attach and client.enable_local_evaluation:
                self.attach(client)
            else:
                self._add_client(client, listening=False)
        except ConfigurationError as exc:
            self._refused.add(client)
            _log.error("%s: a client was not attached: %s", prefix(self._namespace), exc)

    def _attach_polling_client(self, client: Client) -> None:
        """Attach a client that was found while it polls, and start to listen at once."""
        if self._is_attached(client):
            return
        self.record_client(client)
        if not self._is_attached(client):
            return
        self._coordinator.listen()
        if client.poller is None or not client.poller.is_alive():
            self._coordinator.shutdown()  # the client was shut down before we attached it

    def ready(self) -> bool:
        """Whether this process's clients have had definitions: for a readiness probe. Does no I/O.

        It becomes True with the first ones and stays True, because a failure of PostHog, its quota or a store would
        make all processes unready at once. `status().serving` says what clients use. Don't use it for liveness: if
        PostHog and the store are down, a restart only loses what a process holds.
        """
        self._check_bypasses()
        if self._searches_left and not self.has_clients:
            self._searches_left -= 1
            log_exceptions(record_keyless_clients, None, self._namespace, "the search for keyless clients failed")
        return self._coordinator.ready()

    def status(self) -> Status:
        """Return what clients use, what is wrong, role, leader, version, age and more.

        Does no I/O; contains no password.
        """
        return self._coordinator.status()

    def __repr__(self) -> str:
        status = self.status()
        age = "none" if status.age is None else f"{status.age:.1f}s"
        return (
            f"<{type(self).__name__} namespace={self._namespace!r} store={status.store!r} role={status.role.value}"
            f" version={status.version[:12] or 'none'!r} age={age}>"
        )

    # --- what the SDK calls, in whichever way ------------------------------------------------------------------------

    def _should_fetch(self) -> bool:
        try:
            if not self._is_own_poll():
                client = calling_client()
                if stop_orphan_poller(client):
                    return False
                self._record_caller(client)
        except Exception:  # noqa: BLE001 - a client that is not found is one that polls by protocol
            log_failure(self._namespace, "identifying the client that polls failed")
        if self._refused and self._caller_is_refused:
            return not self._settings.reads_only
        return self._coordinator.should_fetch()

    def _is_own_poll(self) -> bool:
        """Whether the calling thread is an attached client's own poller, as at almost every poll."""
        for attached in self._attached:
            if attached.asking:
                attached.uses_cache = True
                return True
        return False

    @property
    def _caller_is_refused(self) -> bool:
        """Whether the calling client was refused: it fetches for itself, and shares nothing here."""
        client = self._caller
        return client is not None and client in self._refused

    def _caller_loads_again(self) -> bool:
        """Whether the calling client never polls: without flags the SDK keeps loading."""
        if self._settings.reads_only:
            return False
        client = self._caller
        return client is not None and not client.enable_local_evaluation

    @property
    def _caller(self) -> Client | None:
        return log_exceptions(calling_client, None, self._namespace, "identifying the client that calls failed")

    def _record_caller(self, client: Client | None) -> None:
        is_attached = False
        for attached in self._attached:
            if client is None or attached.is_for(client):
                attached.uses_cache = is_attached = True
        if client is None:
            if self._settings.auto_attach:
                self._finder.called()
        elif not is_attached:
            self.record_client(client)

    def _record_keyless_caller(self) -> None:
        """Record a client without a secret key, which may never have called before."""
        client = self._caller
        if client is not None and not client.personal_api_key:
            self.record_client(client)

    def _definitions(self) -> FlagDefinitionCacheData | None:
        if self._refused and self._caller_is_refused:
            return cast("FlagDefinitionCacheData", self._vendor.empty()) if self._settings.reads_only else None
        definitions = self._coordinator.definitions(loads_again=self._caller_loads_again)
        if definitions is not None:
            self._handed_over(definitions, received=False)
        return cast("FlagDefinitionCacheData | None", definitions)

    def _received(self, definitions: object) -> None:
        if self._refused and self._caller_is_refused:
            return
        self._coordinator.received(definitions)
        self._handed_over(definitions, received=True)

    def _shutdown(self) -> None:
        log_exceptions(
            self._record_keyless_caller, None, self._namespace, "identifying the client that shuts down failed"
        )
        self._finder.end()
        self._coordinator.shutdown()

    def _handed_over(self, definitions: object, *, received: bool) -> None:
        if not isinstance(definitions, dict) or not self._settings.auto_attach:
            return
        if not self._coordinator.pushing and self._caller is None:
            flags = cast("dict[str, object]", definitions).get("flags")
            search = partial(self._finder.handed_over, flags, received=received)
            log_exceptions(search, None, self._namespace, "the search for a thread's client failed")


def config_of(cache: CacheBase) -> CacheConfig:
    """Return what the processes of a cache have in common, including keys. For flagcache's commands."""
    return _configs[cache]
