"""Ways to call a provider: directly, through the real SDK, and with broken methods."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TypeVar, cast

from posthog import Posthog
from posthog.flag_definition_cache import FlagDefinitionCacheData, FlagDefinitionCacheProvider

from flagcache_posthog.testing.control import StandInControl

__all__ = ["AsyncView", "Broken", "Direct", "data", "evaluate", "held", "load", "sdk", "until"]

_T = TypeVar("_T")

_TIMEOUT = 60.0
"""Seconds after which an awaited call counts as hanging."""


class Direct:
    """A provider's four methods without the SDK; awaitables are awaited on one event loop of this object.

    Args:
        provider: the provider.
    """

    def __init__(self, provider: FlagDefinitionCacheProvider) -> None:
        self.provider = provider
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def should_fetch(self) -> bool:
        """Return whether to fetch."""
        return self._result(self.provider.should_fetch_flag_definitions())

    def get(self) -> FlagDefinitionCacheData | None:
        """Return the definitions."""
        return self._result(self.provider.get_flag_definitions())

    def received(self, definitions: object) -> None:
        """Deliver the result of a fetch, valid or not."""
        self._result(self.provider.on_flag_definitions_received(cast("FlagDefinitionCacheData", definitions)))

    def shutdown(self) -> None:
        """Shut the provider down; it may still be called afterwards."""
        self._result(self.provider.shutdown())

    def close(self) -> None:
        """Shut the provider down and end the event loop."""
        self.shutdown()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None

    def _result(self, answer: _T | Awaitable[_T]) -> _T:
        if not isinstance(answer, Awaitable):
            return answer
        coroutine = _awaited(cast("Awaitable[_T]", answer))
        return asyncio.run_coroutine_threadsafe(coroutine, self._running_loop()).result(_TIMEOUT)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=(loop,), name="contract-loop", daemon=True).start()
            return self._loop


class AsyncView:
    """A synchronous provider, with each method made asynchronous."""

    def __init__(self, provider: FlagDefinitionCacheProvider) -> None:
        self._inner = Direct(provider)

    async def should_fetch_flag_definitions(self) -> bool:
        """Call the provider."""
        return self._inner.should_fetch()

    async def get_flag_definitions(self) -> FlagDefinitionCacheData | None:
        """Call the provider."""
        return self._inner.get()

    async def on_flag_definitions_received(self, data: FlagDefinitionCacheData) -> None:
        """Call the provider."""
        self._inner.received(data)

    async def shutdown(self) -> None:
        """Call the provider."""
        self._inner.shutdown()


class Broken:
    """A provider whose methods in `broken` raise; the others are the provider's own."""

    def __init__(self, provider: FlagDefinitionCacheProvider, *broken: str) -> None:
        self.broken = set(broken)
        self.raised: list[str] = []
        self._inner = provider

    def should_fetch_flag_definitions(self) -> bool | Awaitable[bool]:
        """Call the provider, unless this method is broken."""
        self._raise_if_broken("should_fetch_flag_definitions")
        return self._inner.should_fetch_flag_definitions()

    def get_flag_definitions(self) -> FlagDefinitionCacheData | Awaitable[FlagDefinitionCacheData | None] | None:
        """Call the provider, unless this method is broken."""
        self._raise_if_broken("get_flag_definitions")
        return self._inner.get_flag_definitions()

    def on_flag_definitions_received(self, data: FlagDefinitionCacheData) -> Awaitable[None] | None:
        """Call the provider, unless this method is broken."""
        self._raise_if_broken("on_flag_definitions_received")
        return self._inner.on_flag_definitions_received(data)

    def shutdown(self) -> Awaitable[None] | None:
        """Call the provider, unless this method is broken."""
        self._raise_if_broken("shutdown")
        return self._inner.shutdown()

    def _raise_if_broken(self, method: str) -> None:
        if method in self.broken:
            self.raised.append(method)
            raise RuntimeError(f"{method} is broken")


@contextmanager
def sdk(standin: StandInControl, provider: FlagDefinitionCacheProvider) -> Generator[Posthog, None, None]:
    """Make a real client that polls only if a case lets it; at the end shut it down, and so its provider."""
    client = Posthog(
        "phc_test",
        secret_key="phs_test",  # noqa: S106 - the stand-in takes any
        host=standin.url,
        poll_interval=3600,
        sync_mode=True,  # no threads that send events: older SDKs wait for their flush interval in `shutdown`
        flag_definition_cache_provider=provider,
    )
    try:
        yield client
    finally:
        client.shutdown()


def load(client: Posthog) -> None:
    """Poll on this thread, as the SDK's poller does."""
    client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped


def held(client: Posthog) -> Mapping[str, object]:
    """Return the definitions that the client evaluates with."""
    return {"flags": client.feature_flags, "group_type_mapping": client.group_type_mapping, "cohorts": client.cohorts}


def evaluate(client: Posthog, key: str) -> object:
    """Evaluate a flag with what the client holds."""
    return client.evaluate_flags("user", only_evaluate_locally=True).get_flag(key)


def data(*flags: Mapping[str, object], **more: object) -> dict[str, object]:
    """Return definitions as the SDK hands them to a provider."""
    return {"flags": list(flags), "group_type_mapping": {"0": "company"}, "cohorts": {"1": {"values": []}}, **more}


def until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until `condition()` is truthy.

    Args:
        condition: called repeatedly.
        seconds: time after which the case fails.
        what: the awaited event, for the message.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}, which did not happen"
        time.sleep(0.01)


async def _awaited(answer: Awaitable[_T]) -> _T:
    return await answer


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()
