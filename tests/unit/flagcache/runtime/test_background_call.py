"""A call with a time limit for its callers."""

from __future__ import annotations

import contextvars
import threading

import pytest

from flagcache.runtime.background_call import BackgroundCall, SlowCallError

PATIENCE = 10.0


def test_a_caller_gets_what_the_call_returned() -> None:
    """Each one that waits, however late; and the call is made once."""
    made: list[str] = []

    def look_up() -> str:
        made.append(threading.current_thread().name)
        return "found"

    call = BackgroundCall(look_up, "lookup")
    call.start()
    assert [call.wait(PATIENCE, "the look-up") for _ in range(2)] == ["found", "found"]
    assert made == ["flagcache-lookup"]
    assert call.ended_at is not None
    assert not call.failed


def test_a_caller_gets_what_the_call_raised() -> None:
    """A caller gets the call's exception, of any kind."""

    def fail() -> None:
        raise KeyboardInterrupt

    call = BackgroundCall(fail, "lookup")
    call.start()
    with pytest.raises(KeyboardInterrupt):
        call.wait(PATIENCE, "the look-up")
    assert call.failed


def test_a_caller_whose_time_is_over_continues_without_it() -> None:
    """The error names the call, which continues: the next caller has its result."""
    go_on = threading.Event()
    call = BackgroundCall(lambda: go_on.wait(PATIENCE), "lookup")
    call.start()
    with pytest.raises(SlowCallError, match=r"the look-up takes longer than 0\.01 s"):
        call.wait(0.01, "the look-up")
    go_on.set()
    assert call.wait(PATIENCE, "the look-up") is True


def test_the_call_has_its_makers_context() -> None:
    """A credential provider may keep what it needs in a context variable."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("mine")
    call = BackgroundCall(variable.get, "lookup")
    call.start()
    assert call.wait(PATIENCE, "the look-up") == "mine"


def test_without_a_thread_the_caller_makes_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a thread, as at the system's limit, the caller makes the call."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    call = BackgroundCall(lambda: threading.current_thread().name, "lookup")
    call.start()
    assert call.wait(0.0, "the look-up") == threading.current_thread().name
