"""Uses of the public API that both type checkers must accept. Never run."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio
from fastapi import FastAPI
from flask import Flask
from openfeature import api
from posthog import Posthog
from posthog.flag_definition_cache import FlagDefinitionCacheData, FlagDefinitionCacheProvider
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from typing_extensions import assert_type

import flagcache
from flagcache import (
    AsyncRedisFlagDefinitionCache,
    ConfigurationError,
    FlagcacheError,
    FlagDefinitionCache,
    MemoryFlagDefinitionCache,
    RedisFlagDefinitionCache,
    SqliteFlagDefinitionCache,
    Status,
    from_url,
)
from flagcache.events import DefinitionsChanged, Event, FetchFailed, StoreLost
from flagcache.testing import MakeStore, StoreContract
from flagcache_posthog.asgi import flags_lifespan
from flagcache_posthog.fastapi import flags_dependency
from flagcache_posthog.flask import flags, init_flags
from flagcache_posthog.openfeature import FlagcacheProvider
from flagcache_posthog.request_flags import RequestFlags
from flagcache_posthog.starlette import FlagsMiddleware
from flagcache_posthog.testing import (
    FlagValue,
    MakeProvider,
    PostHogStandIn,
    ProviderContract,
    make_definitions,
    override_flags,
)
from flagcache_posthog.testing.pytest_plugin import OverrideFlags


def events_of_some_kinds(event: Event) -> str:
    """Distinguished by class, unpacked by field, and created as in a test of `on_event`."""
    match event:
        case DefinitionsChanged(difference=difference):
            return ", ".join(assert_type(difference.changed, tuple[str, ...]))
        case StoreLost(_, store, reason):
            return assert_type(store, str) + assert_type(reason, str)
        case FetchFailed():
            return f"{event.namespace}: {assert_type(event.status, int)}"
        case _:
            return str(event if event.level else StoreLost("team", "redis://db:6379/0", reason="timed out"))


def clients_of_every_kind(master: redis.Redis) -> list[FlagDefinitionCache]:
    """A URL or any synchronous client, whatever it makes of replies."""
    return [
        RedisFlagDefinitionCache("redis://localhost:6379/0", "team"),
        RedisFlagDefinitionCache(redis.Redis(), "team"),
        RedisFlagDefinitionCache(redis.Redis(decode_responses=True), "team"),
        RedisFlagDefinitionCache(redis.RedisCluster("localhost"), "team"),
        RedisFlagDefinitionCache(master, "team"),
        SqliteFlagDefinitionCache("flags.db", "team"),
        SqliteFlagDefinitionCache(Path("flags.db"), "team"),
        MemoryFlagDefinitionCache("team"),
    ]


def asyncio_clients_of_every_kind(master: redis.asyncio.Redis) -> list[AsyncRedisFlagDefinitionCache]:
    """A URL or any asyncio client."""
    return [
        AsyncRedisFlagDefinitionCache("redis://localhost:6379/0", "team"),
        AsyncRedisFlagDefinitionCache(redis.asyncio.Redis(), "team", refresh_interval=10, fallback=None),
        AsyncRedisFlagDefinitionCache(redis.asyncio.RedisCluster("localhost"), "team", store_timeout=0.5),
        AsyncRedisFlagDefinitionCache(master, "team"),
    ]


def every_option() -> FlagDefinitionCache:
    """In seconds, whole or not."""
    return from_url(
        "memory://",
        "team",
        refresh_interval=30,
        poll_interval=15.5,
        cold_start_wait=10,
        lease=60,
        challenge_after=300,
        stale_after=150,
        forget_after=86_400,
        store_timeout=0.5,
        max_decoded_bytes=1 << 20,
        role="reader",
    )


def the_main_job() -> Posthog:
    """Every cache is the SDK's provider."""
    cache = RedisFlagDefinitionCache("redis://localhost:6379/0", "team")
    provider: FlagDefinitionCacheProvider = cache
    return Posthog("phc_test", secret_key="phs_test", flag_definition_cache_provider=provider)


def the_protocol(cache: FlagDefinitionCache, data: FlagDefinitionCacheData) -> None:
    """The four methods, with plain results."""
    assert_type(cache.should_fetch_flag_definitions(), bool)
    assert_type(cache.get_flag_definitions(), FlagDefinitionCacheData | None)
    cache.on_flag_definitions_received(data)
    cache.shutdown()


async def the_protocol_awaited(cache: AsyncRedisFlagDefinitionCache, data: FlagDefinitionCacheData) -> Posthog:
    """The same results, awaited; all else is as plain as ever."""
    provider: FlagDefinitionCacheProvider = cache
    assert_type(await cache.should_fetch_flag_definitions(), bool)
    assert_type(await cache.get_flag_definitions(), FlagDefinitionCacheData | None)
    await cache.on_flag_definitions_received(data)
    await cache.shutdown()
    assert_type(cache.status(), Status)
    assert_type(cache.ready(), bool)
    return cache.attach(Posthog("phc_test", secret_key="phs_test", flag_definition_cache_provider=provider))


def awaited_without_a_loop(cache: AsyncRedisFlagDefinitionCache) -> bool:
    """What is returned is a coroutine."""
    return asyncio.run(cache.should_fetch_flag_definitions())


def what_is_shown(status: Status) -> dict[str, object]:
    """A status is a value with ages in seconds."""
    assert_type(status.age, float | None)
    assert_type(status.version, str)
    assert_type(flagcache.__version__, str)
    return {"role": status.role.value, "fresh": status.state == "fresh", **status.as_dict()}


def what_goes_wrong() -> str:
    """One root for all errors; a wrong argument is a `ValueError` too."""
    try:
        return repr(from_url("redis://localhost", "team"))
    except ConfigurationError as exc:
        error: FlagcacheError = exc
        as_value_error: ValueError = exc
        return f"{error} {as_value_error}"


class TestOwnProvider(ProviderContract):
    """A third party's provider under the contract."""

    @pytest.fixture
    def make_provider(self) -> MakeProvider:
        """Any provider of the SDK's protocol."""
        return lambda namespace: MemoryFlagDefinitionCache(namespace, refresh_interval=0.1)


class TestOwnStore(StoreContract):
    """A third party's store under the contract."""

    @pytest.fixture
    def make_store(self, request: pytest.FixtureRequest) -> MakeStore:
        """Anything with a store's verbs."""
        from flagcache.stores.memory import MemoryHub

        return MemoryHub().store


def a_stand_in() -> Iterator[str]:
    """For users' own tests."""
    with PostHogStandIn(make_definitions(5)) as standin:
        standin.set_flag("flag-0", active=False)
        yield standin.url


@override_flags({"new-checkout": True, "price": "b"}, payloads={"price": {"amount": 9}}, allow_unknown=["banner"])
def overridden(user: str) -> bool:
    """A decorated function keeps its type."""
    return bool(user)


@override_flags({"price": False})
class Overridden:
    """And so does a class."""

    async def test_it(self) -> None:
        """The type of a value is public, too."""
        values: dict[str, FlagValue] = {"price": "c"}
        with override_flags(values, allow_unknown=True):
            assert_type(overridden("user"), bool)


def with_the_fixture(override_flags: OverrideFlags) -> None:
    """What pytest hands in."""
    override_flags({"price": "b"}, payloads={"price": None})
    assert_type(Overridden(), Overridden)


def flags_of_a_request(client: Posthog, cache: FlagDefinitionCache, app: Flask, request: Request) -> None:
    """Each framework's way, with values and with functions that return them."""
    init_flags(app, client, user=lambda: 7, groups={"company": "acme"}, person_properties=lambda: None)
    assert_type(flags.get("price"), bool | str | None)
    assert_type(flags, RequestFlags)
    request_flags = flags_dependency(client, user=lambda: request.headers["x-user"], remote="needed")
    _ = assert_type(request_flags(request), Coroutine[None, None, RequestFlags])
    Middleware(FlagsMiddleware, client=client, user=lambda request: request.headers.get("x-user"))
    api.set_provider(FlagcacheProvider(client, cache, remote="never"))


def applications(client: Posthog) -> list[Starlette]:
    """A lifespan for both frameworks, of one client or several."""
    return [FastAPI(lifespan=flags_lifespan(client)), Starlette(lifespan=flags_lifespan(client, client))]
