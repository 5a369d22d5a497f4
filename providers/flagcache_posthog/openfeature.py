"""OpenFeature: PostHog's own provider, evaluating locally, with events when definitions change or turn stale.

api.set_provider(FlagcacheProvider(posthog, cache))
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, cast

from flagcache.errors import MissingExtraError
from flagcache.events import DefinitionsChanged, DefinitionsFresh, DefinitionsStale, Event
from flagcache_posthog._base import CacheBase, config_of
from flagcache_posthog._local_client import LocalClient
from flagcache_posthog.request_flags import Remote

try:
    from openfeature import api
    from openfeature.contrib.provider.posthog import PostHogProvider
    from openfeature.event import EventDetails, ProviderEvent, ProviderEventDetails
except ImportError as exc:
    needed = "PostHog's provider: pip install openfeature-provider-posthog"
    raise MissingExtraError(f"flagcache_posthog.openfeature needs {needed}") from exc

if TYPE_CHECKING:
    from openfeature.evaluation_context import EvaluationContext  # pyright: ignore[reportMissingTypeStubs]
    from posthog import Posthog

__all__ = ["FlagcacheProvider"]


class FlagcacheProvider(PostHogProvider):
    """PostHog's provider, with a client that has a cache.

    Args:
        client: evaluates the flags.
        cache: the client's cache.
        default_distinct_id: as in PostHog's provider.
        remote: as in `flagcache_posthog.request_flags.RequestFlags`.
    """

    def __init__(
        self, client: Posthog, cache: CacheBase, *, default_distinct_id: str | None = None, remote: Remote = "never"
    ) -> None:
        local = cast("Posthog", LocalClient(client, remote=remote == "needed"))
        super().__init__(local, default_distinct_id=default_distinct_id)
        self._loaded, self._stale = True, False
        self._owner = client
        config_of(cache).events.subscribe(self._forward)

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Load the definitions, within the cache's `cold_start_wait`. OpenFeature calls it."""
        api.add_handler(ProviderEvent.PROVIDER_READY, self._emit_stale)
        super().initialize(evaluation_context)
        self._loaded = bool(self._owner.feature_flags)

    def shutdown(self) -> None:
        """Undo `initialize`; the client isn't shut down. OpenFeature calls it."""
        with suppress(ValueError):  # OpenFeature has dropped all handlers
            api.remove_handler(ProviderEvent.PROVIDER_READY, self._emit_stale)

    def _forward(self, event: Event) -> None:
        details = ProviderEventDetails(message=str(event))
        if isinstance(event, DefinitionsChanged):
            difference = event.difference
            if not (difference.cohorts or difference.group_types or difference.others):  # any flag may use these
                details.flags_changed = [*difference.added, *difference.removed, *difference.changed]
            if event.previous or not self._loaded:  # otherwise `initialize` makes the provider ready
                self.emit_provider_configuration_changed(details)
        elif isinstance(event, DefinitionsStale | DefinitionsFresh):
            self._stale = isinstance(event, DefinitionsStale)
            (self.emit_provider_stale if self._stale else self.emit_provider_ready)(details)

    def _emit_stale(self, _ready: EventDetails) -> None:
        """Report stale definitions again after OpenFeature reports a loaded provider as ready."""
        if self._stale:
            self.emit_provider_stale(ProviderEventDetails(message="PostHog does not confirm the definitions"))
