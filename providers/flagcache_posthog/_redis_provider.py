"""The cache on Redis that a PostHog client takes as its `flag_definition_cache_provider`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import redis

from flagcache.events import Event
from flagcache.settings import KeyMaterial
from flagcache.stores.fallback import AUTO, Fallback
from flagcache_posthog._options import parse_options
from flagcache_posthog._store_specs import redis_stores
from flagcache_posthog._unknown_options import refuses_unknown_options
from flagcache_posthog.provider import FlagDefinitionCache

__all__ = ["RedisFlagDefinitionCache"]


class RedisFlagDefinitionCache(FlagDefinitionCache):
    """Share definitions among all processes that reach one Redis.

    Args:
        redis: a `redis.Redis`, a client of `Sentinel.master_for`, a `redis.RedisCluster`, or a `redis://`, `rediss://`
            or `unix://` URL. From a client only address, TLS and credentials are taken; it is never used or closed.
        namespace: separates fleets: use one for each PostHog project and environment.
        refresh_interval: seconds between two requests of the whole fleet to PostHog.
        fallback: a directory for the last known good definitions. While Redis is down, the processes of one machine
            share one fetch through it. `"auto"`: `$XDG_STATE_HOME/flagcache`, by default `~/.local/state/flagcache`; a
            reader has none. None: while Redis is down, each process fetches for itself.
        on_event: called with each `flagcache.events.Event` on the thread of the event, which waits for it;
            `DefinitionsChanged` is emitted once the attached clients have the flags, or a second later.
        poll_interval: seconds between two polls of a client, if none is attached. None: as `refresh_interval`. The SDK
            has its own `poll_interval`; set this one to the same value.
        cold_start_wait: seconds that a process without definitions waits for the first set, or for a fetch under way if
            the stored ones are old, once. Then it starts without flags, or with the old ones. 0: no wait. None: 10;
            readers don't wait.
        first_load_max_age: seconds since PostHog's last confirmation up to which a first load starts with stored
            definitions at once. None: one and a half refresh intervals.
        lease: seconds that a leader that stopped renewing keeps the lease. None: one and a half poll intervals of the
            attached clients, because a thread renews it; two if they are not attached; a poll interval plus 30 s if the
            client is unknown and its SDK fetches.
        challenge_after: seconds without a confirmation by PostHog after which another worker may take the leader's
            turn. None: ten refresh intervals.
        stale_after: age in seconds from which definitions are stale. None: five refresh intervals; without attached
            clients `challenge_after` plus two poll intervals.
        forget_after: seconds after a leader's last publication, confirmation or renewal after which Redis deletes the
            namespace, for example of a preview environment. Needs the right `+pexpire`. None: never.
        store_timeout: seconds that one call to the store may take in total; for a reader, seconds without data.
        fetch_timeout: seconds that the fleet's own fetch waits for a connection, for the headers, and for the next part
            of the body.
        fetch_total_timeout: seconds that this fetch may take in total. None: 60, or `fetch_timeout` if that is longer.
        backoff_ceiling: the longest pause in seconds between two attempts while fetches fail. None: the refresh
            interval.
        on_quota_limited: what clients use while PostHog answers 402: `"clear"`: no flags, as with the SDK alone;
            `"keep"`: the last ones.
        max_decoded_bytes: larger definitions are refused.
        role: `"reader"`: this process never leads, never fetches and starts no thread; it uses the stored definitions.
        auto_attach: attach each client that uses this cache at its first load, for one thread and one more
            connection. False: only clients passed to `attach`; the others get changes with their own polls.
        signing_key: at least 16 random bytes, or several such keys; the first signs and all verify. Definitions that
            were not signed with one of them are refused. None: any process that can write to the store can change the
            flags.
        encryption_key: like `signing_key`, for encryption. Needs `pip install "flagcache[encryption]"`.

    Raises:
        ConfigurationError: an argument is invalid.
    """

    @refuses_unknown_options
    def __init__(  # noqa: PLR0913 - each option is its own keyword: help() and editors show them
        self,
        redis: redis.Redis | redis.RedisCluster | str,
        namespace: str,
        *,
        refresh_interval: float = 30.0,
        fallback: Fallback = AUTO,
        on_event: Callable[[Event], object] | None = None,
        poll_interval: float | None = None,
        cold_start_wait: float | None = None,
        first_load_max_age: float | None = None,
        lease: float | None = None,
        challenge_after: float | None = None,
        stale_after: float | None = None,
        forget_after: float | None = None,
        store_timeout: float = 1.0,
        fetch_timeout: float = 10.0,
        fetch_total_timeout: float | None = None,
        backoff_ceiling: float | None = None,
        on_quota_limited: Literal["clear", "keep"] = "clear",
        max_decoded_bytes: int = 16 * 1024 * 1024,
        role: Literal["worker", "reader"] = "worker",
        auto_attach: bool = True,
        signing_key: KeyMaterial | None = None,
        encryption_key: KeyMaterial | None = None,
    ) -> None:
        settings, protection = parse_options(locals())
        stores = redis_stores(redis, namespace, fallback, settings, protection)
        super().__init__(namespace, settings, protection, stores, on_event)
