# mypy: disallow-untyped-calls=False
# The SDK leaves some of its methods without types.
"""Whether attached clients share definitions through one Redis, however it is reached."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import redis

from flagcache import RedisFlagDefinitionCache
from flagcache.status import Role
from flagcache_posthog.testing import PostHogStandIn, make_definitions
from tests.support.real_fleet import RecordingPosthog
from tests.support.servers import until

__all__ = ["SharingClients", "clients_share", "sharing_clients"]


class SharingClients:
    """Clients with a cache each, and the PostHog that they fetch from."""

    def __init__(
        self, source: redis.Redis | redis.RedisCluster | str, namespace: str, posthog: PostHogStandIn, ends: ExitStack
    ) -> None:
        self.posthog = posthog
        self.clients: list[RecordingPosthog] = []
        self._caches: list[RedisFlagDefinitionCache] = []
        self._source = source
        self._namespace = namespace
        self._ends = ends

    def join(self, *, poll_interval: float = 0.5) -> None:
        """Bring in one more client, with its flags loaded."""
        cache = RedisFlagDefinitionCache(
            self._source, self._namespace, refresh_interval=0.5, poll_interval=60, store_timeout=0.5
        )
        client = RecordingPosthog(
            "phc_test",
            secret_key="phs_test",
            host=self.posthog.url,
            poll_interval=poll_interval,
            flag_definition_cache_provider=cache,
            flush_interval=0.1,
        )
        self._ends.callback(client.shutdown)
        self.clients.append(client)
        self._caches.append(cache)
        cache.attach(client)
        client.load_feature_flags()

    @property
    def revisions(self) -> list[int | None]:
        """Return the revision that each client holds."""
        return [client.history[-1].revision for client in self.clients]

    @property
    def one_fleet(self) -> bool:
        """Whether all reach the store, and one of them leads."""
        states = [cache.status() for cache in self._caches]
        leaders = sum(state.role is Role.LEADER for state in states)
        return all(state.store_answers for state in states) and leaders == 1

    def change(self, revision: int, *, within: float = 10.0) -> None:
        """Have PostHog serve this, and wait until it reached all."""
        self.posthog.serve(make_definitions(5, revision=revision))
        self.wait_until_all_hold(revision, within=within)

    def wait_until_all_hold(self, revision: int, *, within: float = 10.0) -> None:
        """Wait until each client holds this."""
        wanted = [revision] * len(self.clients)
        until(lambda: self.revisions == wanted, within, what=f"revision {revision} to reach all")

    def none_went_back(self) -> bool:
        """Whether no client ever lost its flags, or held an older revision after a newer one."""
        held = [[seen.revision or 0 for seen in client.history if seen.flags is not None] for client in self.clients]
        return all(revisions == sorted(revisions) and 0 not in revisions for revisions in held)


@contextmanager
def sharing_clients(
    source: redis.Redis | redis.RedisCluster | str, namespace: str, size: int = 3
) -> Generator[SharingClients]:
    """Several clients; the first polls every half second, and changes are pushed to the others."""
    with ExitStack() as ends, PostHogStandIn(make_definitions(5)) as posthog:
        made = SharingClients(source, namespace, posthog, ends)
        for number in range(size):
            made.join(poll_interval=60 if number else 0.5)
        yield made


def clients_share(source: redis.Redis | redis.RedisCluster | str, namespace: str) -> None:
    """Fail unless one fetch serves three clients, and a change that one fetches is pushed to the others."""
    with sharing_clients(source, namespace) as made:
        assert made.revisions == [1, 1, 1]
        assert made.posthog.full_fetches == 1
        made.change(2)
        assert made.posthog.full_fetches == 2
