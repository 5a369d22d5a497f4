# mypy: disallow-untyped-calls=False
# The SDK leaves some of its methods without types.
"""Whether two attached clients share definitions through one Redis, however it is reached."""

from __future__ import annotations

from contextlib import ExitStack

import redis
from posthog import Posthog

from flagcache import RedisFlagDefinitionCache
from flagcache_posthog.testing import PostHogStandIn, make_definitions, revision_of
from tests.servers import until

__all__ = ["two_clients_share"]


def two_clients_share(source: redis.Redis | redis.RedisCluster, namespace: str) -> None:
    """Fail unless one fetch serves both, and a change that one fetches is pushed to the other."""
    with ExitStack() as ends, PostHogStandIn(make_definitions(5)) as posthog:
        clients: list[Posthog] = []
        for _ in range(2):
            cache = RedisFlagDefinitionCache(source, namespace, refresh_interval=0.5, poll_interval=60)
            client = Posthog(
                "phc_test",
                secret_key="phs_test",
                host=posthog.url,
                poll_interval=60 if clients else 0.5,  # pyright: ignore[reportArgumentType] - the SDK takes floats
                flag_definition_cache_provider=cache,
                flush_interval=0.1,
            )
            ends.callback(client.shutdown)
            clients.append(cache.attach(client))
            client.load_feature_flags()
        assert [_revision(client) for client in clients] == [1, 1]
        assert posthog.full_fetches == 1
        posthog.serve(make_definitions(5, revision=2))
        until(lambda: [_revision(client) for client in clients] == [2, 2], what="the change to reach both")
        assert posthog.full_fetches == 2


def _revision(client: Posthog) -> int | None:
    return revision_of({"flags": client.feature_flags or []})
