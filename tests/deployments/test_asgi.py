from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from fastapi import FastAPI
from posthog import Posthog

from flagcache.stores.redis.store import RedisStore
from flagcache_posthog import FlagDefinitionCache, MemoryFlagDefinitionCache, RedisFlagDefinitionCache
from flagcache_posthog.asgi import flags_lifespan
from flagcache_posthog.testing import Hang, PostHogStandIn
from tests.support.servers import MakeRedis, until
from tests.support.snippets import snippet
from tests.support.user_programs import get, posthog_environment
from tests.support.web_applications import EVERY, FLAG, ServedApplication, start_posthog, with_times

APP = snippet("docs/asgi.md", "app.py: with a lifespan")
OWN = snippet("docs/asgi.md", "own.py")
UVICORN = ("uvicorn", "--host", "127.0.0.1", "--port", "PORT", "app:app")
GUNICORN = ("gunicorn", "--no-control-socket", "-b", "127.0.0.1:PORT", "-w", "2", "app:app")
STARTED: dict[tuple[str, ...], str] = {
    (*UVICORN, "--workers", "2"): "Application startup complete",
    (*GUNICORN, "-k", "asgi"): "ASGI server listening",
    (*GUNICORN, "-k", "uvicorn_worker.UvicornWorker", "--preload"): "Application startup complete",
}
"""Commands of servers with two workers, and what each prints when it accepts requests."""


@pytest.mark.parametrize("command", STARTED, ids=["uvicorn", "gunicorn", "gunicorn-uvicorn"])
def test_the_lifespan_loads_and_hands_over(tmp_path: Path, make_redis: MakeRedis, command: tuple[str, ...]) -> None:
    """Flags are loaded, and `/ready` is true, before the first request; a fleet that ends leaves no lease behind."""
    server = make_redis()
    with start_posthog() as posthog:
        application = ServedApplication(tmp_path, posthog, server, {"app.py": APP})
        with application.run(*command):
            until(lambda: application.program.log.count(STARTED[command]) == 2, 30.0, what="two workers")
            assert posthog.requests == 1
            assert application.leader in application.workers
            posthog.fail(Hang())
            server.freeze()
            assert get(application.port, "/ready") == "null"
            application.wait_for_value("True", at_once=True)
            server.thaw()
            application.program.end()
            application.check_nothing_left()  # the lease would last 45 seconds


def test_ready_tells_whether_flags_are_there(tmp_path: Path, make_redis: MakeRedis) -> None:
    """If all is down, the application starts and is not ready; it is ready once flags have come."""
    server = make_redis()
    with start_posthog() as posthog:
        posthog.fail(Hang())
        application = ServedApplication(
            tmp_path, posthog, server, {"app.py": with_times(APP, refresh_interval=EVERY, cold_start_wait=1.0)}
        )
        server.stop()
        with application.run(*UVICORN):
            application.program.prints("Uvicorn running on")  # "Application startup complete" it says before it listens
            with pytest.raises(AssertionError, match="503"):
                get(application.port, "/ready")
            server.start()
            posthog.recover()
            until(lambda: _is_ready(application.port), 30.0, every=0.1, what="readiness")
            application.program.end()
            application.check_nothing_left()


def _is_ready(port: int) -> bool:
    with contextlib.suppress(AssertionError):
        return get(port, "/ready") == "null"
    return False


class SlowPosthog(Posthog):
    """A client whose last events take a second to send."""

    def shutdown(self) -> None:
        """Shut down after that second."""
        time.sleep(1.0)
        super().shutdown()


@pytest.fixture
def posthog() -> Iterator[PostHogStandIn]:
    """A PostHog for one test."""
    with PostHogStandIn() as standin:
        yield standin


def attached(cache: FlagDefinitionCache, host: str) -> Posthog:
    """A client that is not loaded yet."""
    return cache.attach(SlowPosthog("phc_test", secret_key="phs_test", host=host, flag_definition_cache_provider=cache))


async def _longest_pause(client: Posthog, posthog: PostHogStandIn) -> float:
    """Start and end while a task ticks on the loop; return the longest time between two ticks."""
    ticks = [time.monotonic()]

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.01)
            ticks.append(time.monotonic())

    ticking = asyncio.create_task(tick())
    asyncio.get_running_loop().call_later(1.0, posthog.release)
    async with flags_lifespan(client)(None):
        assert client.feature_flags
    await asyncio.sleep(0.02)
    ticking.cancel()
    return max(later - earlier for earlier, later in pairwise(ticks))


def test_the_loop_never_waits(posthog: PostHogStandIn, namespace: str, no_threads_left: None) -> None:
    """While start and end take a second each, other tasks continue."""
    posthog.hold()
    client = attached(MemoryFlagDefinitionCache(namespace), posthog.url)
    assert asyncio.run(_longest_pause(client, posthog)) < 0.9


def test_the_start_is_bounded(posthog: PostHogStandIn, namespace: str, tmp_path: Path) -> None:
    """If Redis and PostHog are down, the start takes the cold start wait and little more."""
    posthog.fail(Hang())
    cache = RedisFlagDefinitionCache(
        f"unix://{tmp_path}/none", namespace, fallback=None, cold_start_wait=0.5, store_timeout=0.2
    )
    client = attached(cache, posthog.url)

    async def start() -> float:
        began = time.monotonic()
        async with flags_lifespan(client)(None):
            assert not cache.ready()
            return time.monotonic() - began

    assert 0.4 < asyncio.run(start()) < 3.0


def test_a_lifespan_of_a_users_own(make_redis: MakeRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the docs' own lifespan each start has its own client with flags, and each end gives up the lease."""
    server = make_redis()
    with start_posthog() as posthog:
        for name, value in posthog_environment(posthog.url, REDIS_URL=server.url).items():
            monkeypatch.setenv(name, value)
        names: dict[str, object] = {}
        exec(compile(OWN, "own.py", "exec"), names)
        app = names["app"]
        assert isinstance(app, FastAPI)

        for _ in range(2):
            assert asyncio.run(_serve_once(app))
            with contextlib.closing(RedisStore(server.url, "shop")) as store:
                assert not store.inspect().leader
        assert posthog.full_fetches == 1


async def _serve_once(app: FastAPI) -> bool:
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        client: Posthog = state["posthog"]
        return client.feature_flags is not None and client.evaluate_flags("user").is_enabled(FLAG)
