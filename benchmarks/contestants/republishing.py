"""The example with the improvements of the best provider that was found in a public production code base.

It has a lease of two poll intervals instead of a minute, and a timeout of 2 s. Its leader keeps what it fetched and
stores it again if it is missing, because after a flush PostHog only answers "not modified".
"""

from __future__ import annotations

from posthog import FlagDefinitionCacheData
from typing_extensions import override

from benchmarks.contestants.contestant import Contestant, RecordingPosthog, WorkerConfig, make_client
from benchmarks.contestants.example import LeasedCache, connect

__all__ = ["REPUBLISHING", "RepublishingCache"]


class RepublishingCache(LeasedCache):
    """A leader that repairs the store; its check whether that is needed costs one small round trip."""

    _last: FlagDefinitionCacheData | None = None

    @override
    def should_fetch_flag_definitions(self) -> bool:
        """Take or extend the lease, and store missing definitions again."""
        leads = super().should_fetch_flag_definitions()
        if leads and self._last is not None and not self.stored():
            self.store(self._last)
        return leads

    @override
    def on_flag_definitions_received(self, data: FlagDefinitionCacheData) -> None:
        """Store the definitions, and remember them."""
        self._last = data
        self.store(data)


def _make(config: WorkerConfig, index: int) -> RecordingPosthog:
    client = connect(config.redis, timeout=2.0)
    return make_client(config, index, RepublishingCache(client, config.namespace, lease=2 * config.interval))


REPUBLISHING = Contestant("republishing", "the example, republishing", "redis", _make)
