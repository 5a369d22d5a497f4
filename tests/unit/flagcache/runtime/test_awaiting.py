"""Blocking calls that are awaited."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable

import pytest

from flagcache.runtime.awaiting import awaitable
from flagcache.runtime.callers import caller
from tests.support.in_process_fleet import in_thread

PATIENCE = 10.0
"""Seconds after which a test fails because something waits without end."""


def test_without_an_event_loop_the_call_is_made_at_once_and_here() -> None:
    """The call runs on the calling thread, before it is awaited; the result can be awaited on any loop."""
    where: list[threading.Thread] = []

    def tell() -> str:
        where.append(threading.current_thread())
        return "told"

    answer = awaitable(tell)
    assert where == [threading.current_thread()]
    assert in_thread(lambda: asyncio.run(answer)) == "told"


def test_an_event_loop_goes_on_while_a_call_waits(no_threads_left: None) -> None:
    """The call is made on another thread, in the name of the one that runs the loop; then no thread is left."""
    released = threading.Event()

    def wait() -> tuple[bool, bool, bool]:
        return released.wait(PATIENCE), caller() is mine, threading.current_thread() is here

    async def release() -> None:
        await asyncio.sleep(0.01)
        released.set()

    async def both() -> tuple[bool, bool, bool]:
        releasing = asyncio.create_task(release())
        result = await awaitable(wait)
        await releasing
        return result

    mine, here = caller(), threading.current_thread()
    assert asyncio.run(both()) == (True, True, False)


def test_a_call_from_one_loop_may_be_awaited_on_another() -> None:
    """As the SDK does with a call that is made on the thread of a user's loop; nothing is called before that."""
    called: list[bool] = []

    async def ask() -> tuple[bool, list[bool]]:
        answer = awaitable(lambda: called.append(caller() is mine))
        before = bool(called)
        in_thread(lambda: asyncio.run(answer))
        return before, called

    mine = caller()
    assert asyncio.run(ask()) == (False, [True])


def test_whoever_stops_awaiting_is_free_at_once_and_the_call_goes_on(no_threads_left: None) -> None:
    """If the loop is closed before the call ends, the result is dropped and nothing is raised."""
    released, done = threading.Event(), threading.Event()

    def wait() -> None:
        assert released.wait(PATIENCE)
        done.set()

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(asyncio.wait_for(_awaited(wait), 0.05))
    assert not done.is_set()
    released.set()
    assert done.wait(PATIENCE)


def test_what_a_call_raises_is_raised_where_it_is_awaited() -> None:
    """Whatever it is."""

    def fail() -> None:
        raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        asyncio.run(_awaited(fail))


def test_a_call_has_the_context_of_whoever_awaits() -> None:
    """By it the SDK knows a callback in which it must not wait for itself."""
    word = contextvars.ContextVar("word", default="")

    async def ask() -> str:
        word.set("mine")
        return await awaitable(word.get)

    assert asyncio.run(ask()) == "mine"


def test_where_no_thread_can_be_had_the_call_is_made_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop waits for it: that is better than a failure, which the SDK would take for "fetch"."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def ask() -> tuple[str, threading.Thread]:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        return await awaitable(lambda: ("told", threading.current_thread()))

    assert asyncio.run(ask()) == ("told", threading.current_thread())


async def _awaited(call: Callable[[], None]) -> None:
    await awaitable(call)
