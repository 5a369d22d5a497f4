"""A lifespan for ASGI applications: flags before the first request, and a clean shutdown.

    app = FastAPI(lifespan=flags_lifespan(client))

It works with Starlette, FastAPI and every framework that takes such a lifespan, and imports none of them. Everything
that may wait runs on separate threads, never on the event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from posthog import Posthog

from flagcache.runtime.guard import log_exceptions
from flagcache.runtime.threads import try_start
from flagcache_posthog._lifecycle import load_clients

__all__ = ["flags_lifespan"]

_SHUTDOWN_TIMEOUT = 10.0
"""Seconds for the shutdown: the SDK has no limit for sending its last events (posthog 7.91, `Client.shutdown`)."""


def flags_lifespan(*clients: Posthog) -> Callable[[object], AbstractAsyncContextManager[None]]:
    """Create a lifespan that loads the clients' flags, and shuts down the clients at the end.

    Start-up waits for flags for at most a cache's `cold_start_wait`, and then continues without them. A failure is
    logged, and the application starts in any case. At the end the lease is handed over and the SDK sends its last
    events, for at most 10 s. A client can't be used after that. Inside your own lifespan:

        async with flags_lifespan(client)(app):
            yield

    Args:
        clients: created with a flagcache cache.
    """

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncGenerator[None]:
        await _run_in_thread(lambda: load_clients(clients), None)
        try:
            yield
        finally:
            await _run_in_thread(lambda: _shut_down(clients), _SHUTDOWN_TIMEOUT)

    return lifespan


def _shut_down(clients: tuple[Posthog, ...]) -> None:
    for client in clients:
        log_exceptions(client.shutdown, None, "", "shutting down a client failed")


async def _run_in_thread(work: Callable[[], None], timeout: float | None) -> None:
    """Run a call on a new thread and wait for it, for at most `timeout` seconds.

    The thread is a daemon, because the interpreter waits at exit for the threads of the event loop's executor. If the
    system refuses a thread, the call runs on the event loop's thread, and the loop waits.
    """
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        log_exceptions(work, None, "", "the lifespan failed")
        with suppress(RuntimeError):  # the loop was closed meanwhile, so no task waits
            loop.call_soon_threadsafe(done.set)

    if try_start(threading.Thread(target=run, name="flagcache-lifespan", daemon=True)):
        run()
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(done.wait(), timeout)
