"""A lifespan for ASGI applications: flags before the first request, and an orderly end.

    app = FastAPI(lifespan=flags_lifespan(client))

Fits Starlette, FastAPI and whatever else takes a lifespan of their form; none of them is imported. All that may wait is
done on threads of its own, never on the event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from posthog import Posthog

from flagcache.runtime.guard import guarded
from flagcache.runtime.threads import try_start
from flagcache_posthog._lifecycle import load_clients

__all__ = ["flags_lifespan"]

_LONGEST_END = 10.0
"""Seconds for the end: delivering the last events has no limit in the SDK (posthog 7.91, `Client.shutdown`)."""


def flags_lifespan(*clients: Posthog) -> Callable[[object], AbstractAsyncContextManager[None]]:
    """Make a lifespan that loads the clients' flags, and shuts the clients down at the end.

    Start-up waits for flags no longer than a cache's `cold_start_wait`, and goes on without them then; what fails is
    logged and never keeps an application from starting. At the end the leadership is handed over, and the SDK delivers
    its last events, for at most 10 s. The SDK cannot use a client again after that. Within a lifespan of one's own:

        async with flags_lifespan(client)(app):
            yield

    Args:
        clients: made with a cache of flagcache.
    """

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncGenerator[None]:
        await _aside(lambda: load_clients(clients), None)
        try:
            yield
        finally:
            await _aside(lambda: _shut_down(clients), _LONGEST_END)

    return lifespan


def _shut_down(clients: tuple[Posthog, ...]) -> None:
    for client in clients:
        guarded(client.shutdown, None, "a client could not be shut down", "")


async def _aside(work: Callable[[], None], longest: float | None) -> None:
    """Have something done on a thread of its own and wait for it, at most so many seconds.

    The thread is a daemon: those of the event loop's executor are waited for when the interpreter exits, however long
    they take. If the system gives no thread, the event loop's own does it, and the loop waits.
    """
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        guarded(work, None, "a lifespan could not do its work", "")
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(done.set)

    if try_start(threading.Thread(target=run, name="flagcache-lifespan", daemon=True)):
        run()
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(done.wait(), longest)
