"""The three ways in which a client gets its flags: attached to a cache, not attached, or by the SDK alone.

This is the one place that says how a client is attached, and how it is kept from being attached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flagcache.events import Event
from flagcache.settings import Options
from flagcache_posthog import FlagDefinitionCache, MemoryFlagDefinitionCache, from_url
from flagcache_posthog.testing import StandInControl
from tests.support.attached_clients import AttachedContext
from tests.support.fleet_tasks import key_of
from tests.support.real_fleet import MemberContext, RecordingPosthog
from tests.support.scenario import Backends, Mode

__all__ = ["cache_in", "contexts_in", "make_client", "plain_contexts"]


def cache_in(
    mode: Mode,
    backends: Backends,
    *,
    refresh: float,
    on_event: Callable[[Event], object] | None = None,
    **options: Any,  # noqa: ANN401 - whatever a cache takes
) -> FlagDefinitionCache:
    """Create a cache for clients that get their flags in this way.

    Args:
        mode: How its clients use it.
        backends: The fleet's PostHog and store.
        refresh: Seconds between two requests of the fleet to PostHog.
        on_event: Called with each event.
        options: Of the cache.
    """
    if mode is Mode.PROTOCOL and "auto_attach" in Options.__annotations__:
        options = {**options, "auto_attach": False}
    return from_url(backends.store_url, backends.namespace, refresh_interval=refresh, on_event=on_event, **options)


def make_client(host: str, index: int, *, polls: float, provider: object = None) -> RecordingPosthog:
    """Make a client with its own key; without a provider it is the plain SDK."""
    return RecordingPosthog(
        "phc_test",
        secret_key=key_of(index),
        host=host,
        poll_interval=polls,
        flag_definition_cache_provider=provider,
        flush_at=1,  # older SDKs sit out the flush interval of 5 seconds in `shutdown`
    )


def contexts_in(
    mode: Mode,
    backends: Backends,
    *,
    refresh: float,
    polls: float,
    **options: Any,  # noqa: ANN401 - whatever a cache takes
) -> Callable[[int], AttachedContext]:
    """Return what makes a member's context, whose events are kept.

    Args:
        mode: How its client uses the cache.
        backends: The fleet's PostHog and store.
        refresh: Seconds between two requests of the fleet to PostHog.
        polls: Seconds between two polls of a client.
        options: Of the cache, and `host` if that is not the fleet's PostHog.
    """
    host = str(options.pop("host", backends.posthog.url))
    if mode is Mode.PROTOCOL and polls != refresh:
        options.setdefault("poll_interval", polls)

    def make(index: int) -> AttachedContext:
        happened: list[Event] = []
        cache = cache_in(mode, backends, refresh=refresh, on_event=happened.append, **options)
        client = make_client(host, index, polls=polls, provider=cache)
        return AttachedContext(client, cache, events=happened)

    return make


def plain_contexts(posthog: StandInControl | str, *, polls: float) -> Callable[[int], MemberContext]:
    """Return what creates the context of a process with the plain SDK; its cache isn't used.

    Args:
        posthog: A stand-in, or an address.
        polls: Seconds between two polls of a client.
    """
    host = posthog if isinstance(posthog, str) else posthog.url

    def make(index: int) -> MemberContext:
        return MemberContext(make_client(host, 1000 + index, polls=polls), MemoryFlagDefinitionCache(f"unused-{index}"))

    return make
