"""The cache on Redis that a PostHog client takes as its `flag_definition_cache_provider`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import redis

from flagcache.events import Event
from flagcache.settings import KeyMaterial
from flagcache.stores.fallback import AUTO, Fallback
from flagcache_posthog._arguments import understand
from flagcache_posthog._mistakes import names_mistakes
from flagcache_posthog._stores import redis_stores
from flagcache_posthog.provider import FlagDefinitionCache

__all__ = ["RedisFlagDefinitionCache"]


class RedisFlagDefinitionCache(FlagDefinitionCache):
    """Share definitions among all processes that reach one Redis.

    Args:
        redis: a `redis.Redis`, a client of `Sentinel.master_for`, a `redis.RedisCluster`, or a `redis://`, `rediss://`
            or `unix://` URL. Of a client only address, TLS and credentials are taken; it is never closed nor used.
        namespace: keeps fleets apart: one for each PostHog project and environment.
        refresh_interval: seconds between two requests of the whole fleet to PostHog.
        fallback: a directory for the last known good definitions, which also lets the processes of one machine go on
            with one fetch among them while Redis is away. `"auto"`: `$XDG_STATE_HOME/flagcache`, by default
            `~/.local/state/flagcache`; a reader has none. None: while Redis is away, each process goes on alone.
        on_event: called with each `flagcache.events.Event` on the thread on which it happens, which waits for it;
            `DefinitionsChanged` comes once the attached clients have the flags, or a second later.
        poll_interval: seconds between two polls of a client, if none is attached. None: as `refresh_interval`. The SDK
            has a `poll_interval` of its own; this one tells the cache of it.
        cold_start_wait: seconds that a process waits at its first load, once: for the first definitions, or for a fetch
            under way if the stored ones are old. Then it goes on without flags, or with the old ones. 0: no wait. None:
            10; a reader does not wait.
        first_load_max_age: seconds since PostHog's last confirmation up to which a first load starts with stored
            definitions at once. None: one and a half refresh intervals.
        lease: seconds that a leader that stopped renewing keeps the lease. None: one and a half polls of the attached
            clients, which renew it in the background; two if they are not attached; a poll and 30 s if the client is
            unknown and its SDK fetches.
        challenge_after: seconds without a confirmation by PostHog after which another worker gets a turn. None: ten
            refresh intervals.
        stale_after: age in seconds from which `status()` calls definitions stale. None: five refresh intervals; without
            attached clients `challenge_after` and two polls.
        forget_after: seconds after which Redis forgets a namespace whose leader neither publishes, confirms nor renews
            any more, so that those of preview environments go. Needs the right `+pexpire`. None: never.
        store_timeout: seconds that one call of the store may take in all; for a reader, seconds without a word of it.
        fetch_timeout: seconds that the fleet's own fetch waits in silence: to connect, for the headers, between two
            pieces of the body.
        fetch_total_timeout: seconds that this fetch may take in all. None: 60, or `fetch_timeout` if that is longer.
        backoff_ceiling: seconds between two tries at most while fetches fail. None: the refresh interval.
        on_quota_limited: what clients use while PostHog answers 402: `"clear"`: no flags, as an SDK alone; `"keep"`:
            the last ones.
        max_decoded_bytes: larger definitions are refused.
        role: `"reader"`: this process never leads, never fetches and starts no thread; it uses what the store has.
        auto_attach: attach each client that uses this cache at its first load, for one thread and one more
            connection. False: only those given to `attach`; the others get changes by their own polls.
        signing_key: at least 16 random bytes, or several such keys, of which the first signs and all verify: what was
            not signed with one of them is refused. None: any process that can write to the store can change the flags.
        encryption_key: as `signing_key`, for encryption. Needs `pip install "flagcache[encryption]"`.

    Raises:
        ConfigurationError: an argument cannot be right.
    """

    @names_mistakes
    def __init__(  # noqa: PLR0913 - each option is a keyword of its own: help() and editors show them
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
        settings, protection = understand(locals())
        stores = redis_stores(redis, namespace, fallback, settings, protection)
        super().__init__(namespace, settings, protection, stores, on_event)
