"""A link over which definitions take longer than `store_timeout`."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from typing import cast

import pytest
from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache import RedisFlagDefinitionCache
from flagcache.errors import StoreError
from flagcache.events import Event, StoreLost
from flagcache.stores.base import Ask, Envelope, Meta
from flagcache.stores.redis.store import RedisStore
from flagcache_posthog.testing import make_definitions
from tests.support.failing_proxy import Behaviour, Proxy
from tests.support.servers import RedisServer

TIMEOUT = 0.4
SLACK = 0.65
"""Seconds that a busy machine may add."""

SIZE = 150_000
"""Bytes that no encoding makes smaller: about a second and a half over the slow link."""


def large() -> FlagDefinitionCacheData:
    """Definitions of this size."""
    data = make_definitions(1)
    cast("list[dict[str, object]]", data["flags"])[0]["name"] = secrets.token_hex(SIZE)
    return cast("FlagDefinitionCacheData", data)


@pytest.fixture
def link(redis_server: RedisServer) -> Iterator[Proxy]:
    """A link to a Redis, as fast as any."""
    with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def stored(redis_server: RedisServer, namespace: str) -> FlagDefinitionCacheData:
    """Large definitions that a worker near Redis has published."""
    data = large()
    worker = RedisFlagDefinitionCache(redis_server.tcp_url, namespace, fallback=None, auto_attach=False)
    assert worker.should_fetch_flag_definitions()
    worker.on_flag_definitions_received(data)
    worker.shutdown()
    return data


def reader_of(link: Proxy, namespace: str, events: list[Event]) -> RedisFlagDefinitionCache:
    """A process that only reads, over the link."""
    return RedisFlagDefinitionCache(
        link.url, namespace, role="reader", store_timeout=TIMEOUT, on_event=events.append, auto_attach=False
    )


def test_a_reader_waits_as_long_as_something_comes(
    link: Proxy, stored: FlagDefinitionCacheData, namespace: str
) -> None:
    """A reader has the definitions with its first call, and nothing is reported."""
    link.behave(Behaviour.SLOW)
    events: list[Event] = []
    reader = reader_of(link, namespace, events)
    began = time.monotonic()
    assert reader.should_fetch_flag_definitions() is False
    assert time.monotonic() - began > 2 * TIMEOUT
    assert reader.get_flag_definitions() == stored
    assert not [event for event in events if isinstance(event, StoreLost)]
    reader.shutdown()


@pytest.mark.parametrize("behaviour", [Behaviour.STALLED, Behaviour.DRIPPING, Behaviour.SILENT])
@pytest.mark.usefixtures("stored")
def test_silence_costs_a_reader_one_budget(link: Proxy, namespace: str, behaviour: Behaviour) -> None:
    """Once nothing more comes, or hardly anything, a reader continues without definitions."""
    link.behave(behaviour)
    events: list[Event] = []
    reader = reader_of(link, namespace, events)
    began = time.monotonic()
    assert reader.should_fetch_flag_definitions() is False
    assert time.monotonic() - began < 2 * TIMEOUT + SLACK
    [lost] = [event for event in events if isinstance(event, StoreLost)]
    assert lost.trouble == "store_timeout"
    if behaviour is Behaviour.STALLED:
        assert re.search(r"only 50 kB of 17\d kB came within 0\.\d+ s; a longer store_timeout", lost.reason)
    reader.shutdown()


LONG = 60_000
ASK = Ask("me", LONG, LONG, LONG, LONG)


@pytest.mark.usefixtures("stored")
def test_a_worker_is_bounded_and_is_told_the_size_and_the_setting(link: Proxy, namespace: str) -> None:
    """A worker can fetch by itself, so no evaluation waits for a slow link."""
    link.behave(Behaviour.SLOW)
    store = RedisStore(link.url, namespace, timeout=TIMEOUT)
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"only \d+ kB of 17\d kB came within 0\.4 s; a longer store_timeout"):
        store.poll(ASK)
    assert time.monotonic() - began < TIMEOUT + SLACK
    store.close()


def test_what_is_too_large_to_be_sent_is_named_too(link: Proxy, namespace: str) -> None:
    """A leader behind such a link can never publish: its log says why."""
    store = RedisStore(link.url, namespace, timeout=TIMEOUT)
    grant = store.poll(ASK).grant
    assert grant is not None
    link.behave(Behaviour.SLOW)
    envelope = Envelope(Meta("v1", grant.epoch, grant.as_of, grant.at, grant.at), secrets.token_bytes(3_000_000))
    with pytest.raises(StoreError, match=r"(to|of) 3 MB (that was|could be) sent.* 0\.4 s; a longer store_timeout"):
        store.publish("me", envelope, fresh=True, lease=LONG)
    store.close()
