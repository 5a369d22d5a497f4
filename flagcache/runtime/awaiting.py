"""Awaitable results of blocking calls, without a second, asynchronous implementation.

On a thread without an event loop the call runs at once, on that thread, and the awaitable only returns the result. The
vendor's SDK calls in this way: its threads wait for the awaitable anyway, one after the other (posthog 7.91,
`client.py`). If a thread awaited the first definitions there, the thread that fetched them could not deliver them.

On a thread with an event loop nothing may block. There the call runs on a new thread when it is awaited, and acts for
the thread that called. The new thread ends with the call, so none is left at a fork, a shutdown or an exit.
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
    """Return an awaitable for the result of a call that may block for a bounded time.

    If the awaiting task is cancelled, the call continues to its end, and its result is dropped.
    """
    return _elsewhere(call, caller()) if _runs_event_loop() else _known(call())


def answered(result: _T) -> Coroutine[Any, Any, _T] | _T:
    """Return a result; on a thread with an event loop, which awaits what it calls, return an awaitable for it."""
    return _known(result) if _runs_event_loop() else result


async def _known(result: _T) -> _T:
    return result


async def _elsewhere(call: Callable[[], _T], who: Caller) -> _T:
    answer: Future[_T] = Future()
    answer.set_running_or_notify_cancel()  # now only its thread can end it
    args = (answer, copy_context(), call, who)
    thread = threading.Thread(target=_carry_out, args=args, name="flagcache-call", daemon=True)
    if try_start(thread):  # no thread: a loop that waits is better than a failed call
        _carry_out(*args)
    return await asyncio.wrap_future(answer)


def _carry_out(answer: Future[_T], context: Context, call: Callable[[], _T], who: Caller) -> None:
    try:
        with acting_for(who):
            result = context.run(call)
    except BaseException as exc:  # noqa: BLE001 - raised where the call is awaited
        answer.set_exception(exc)
    else:
        answer.set_result(result)


def _runs_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
