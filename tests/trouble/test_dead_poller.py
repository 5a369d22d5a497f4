"""A client whose poller has ended: what the SDK's thread does if a provider raises a BaseException."""

from __future__ import annotations

import time

import pytest

from flagcache.worker.background import Background
from flagcache_posthog.testing import StandInControl
from tests.support.attached_clients import attached
from tests.support.fleet_tasks import load
from tests.support.request_pace import let_pass
from tests.support.servers import MakeRedis, until

EVERY = 0.4


def test_its_listener_is_not_busy_and_finds_a_store_that_is_back(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is down when the poller ends, so no poll of a client can probe it."""
    looks: list[float] = []
    attend = Background.run_due

    def counted(background: Background) -> float:
        if background._config.namespace == namespace:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            looks.append(time.monotonic())
        return attend(background)

    monkeypatch.setattr(Background, "run_due", counted)
    server = make_redis()
    context = attached(posthog, server.url, namespace, every=EVERY, store_timeout=0.2)(0)
    try:
        load(context)
        until(lambda: context.cache.status().listening, what="the listener")
        server.freeze()
        until(lambda: not context.cache.status().store_answers, what="the loss")
        poller = context.client.poller
        assert poller is not None
        poller.stopped.set()
        poller.join(10)
        looks.clear()
        let_pass(2.0)
        assert len(looks) < 20
        server.thaw()
        until(lambda: context.cache.status().store_answers, 10.0, what="the store to be asked again")
        until(lambda: context.cache.status().listening, 10.0, what="notices")
    finally:
        context.client.shutdown()
