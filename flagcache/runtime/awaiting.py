"""Answers that can be awaited, of calls that block: without a second, asynchronous implementation of anything.

A call on a thread that runs no event loop is carried out at once, on that thread: it waits as it would without `await`,
and the awaitable only tells the result. So calls the vendor's SDK, whose threads wait for the awaitable anyhow, and one
after the other (posthog 7.91, `client.py`): there a thread that waited for the first definitions by awaiting would keep
the one that has fetched them from delivering them.

On a thread that runs an event loop nothing may block: there the call gets a thread of its own when it is awaited, on
whichever loop that is, and acts in the name of the thread that called. That thread lives as long as the call, so that
none is left for a fork, a shutdown or an exit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import Context, copy_context
from typing import Any, TypeVar

from flagcache.runtime.callers import Caller, acting_for, caller
from flagcache.runtime.threads import try_start

__all__ = ["answered", "awaitable"]

_T = TypeVar("_T")


def awaitable(call: Callable[[], _T]) -> Coroutine[Any, Any, _T]:
    """Return what can be awaited for the result of a call that may block, for bounded time.

    If the awaiting task is cancelled, the call goes on to its end, and its result is dropped.
    """
    return _elsewhere(call, caller()) if _runs_event_loop() else _known(call())


def answered(result: _T) -> Coroutine[Any, Any, _T] | _T:
    """Return a result as it is; to a thread that runs an event loop, and so awaits what it calls, to be awaited."""
    return _known(result) if _runs_event_loop() else result


async def _known(result: _T) -> _T:
    return result


async def _elsewhere(call: Callable[[], _T], who: Caller) -> _T:
    answer: Future[_T] = Future()
    answer.set_running_or_notify_cancel()  # from here on nobody but its thread ends it
    args = (answer, copy_context(), call, who)
    thread = threading.Thread(target=_carry_out, args=args, name="flagcache-call", daemon=True)
    if try_start(thread):  # there is none to be had: better a loop that waits than a call that fails
        _carry_out(*args)
    return await asyncio.wrap_future(answer)


def _carry_out(answer: Future[_T], context: Context, call: Callable[[], _T], who: Caller) -> None:
    try:
        with acting_for(who):
            result = context.run(call)
    except BaseException as exc:  # noqa: BLE001 - it belongs to whoever awaits
        answer.set_exception(exc)
    else:
        answer.set_result(result)


def _runs_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
