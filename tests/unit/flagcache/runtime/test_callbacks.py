"""A user's callback that takes long is named in the log, once."""

from __future__ import annotations

import pytest

from flagcache.runtime import callbacks
from flagcache.runtime.callbacks import TimedCallback


def timed(monkeypatch: pytest.MonkeyPatch, *times: float) -> TimedCallback[str]:
    """A callback whose calls begin and end at these times; it raises on `bad`."""
    clock = iter(times)
    monkeypatch.setattr(callbacks, "monotonic", lambda: next(clock))

    def on_event(value: str) -> None:
        if value == "bad":
            raise ValueError(value)

    return TimedCallback(on_event, "on_event")


def test_a_short_callback_leaves_no_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A second is not long yet."""
    timed(monkeypatch, 10.0, 11.0)("value")
    assert caplog.records == []


def test_a_long_callback_is_named_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """With its option, its time and what it was called with."""
    callback = timed(monkeypatch, 10.0, 12.5, 20.0, 30.0)
    callback("value")
    callback("value")
    [line] = caplog.messages
    assert "on_event=<function" in line
    assert "took 2.5 s on str" in line


def test_an_exception_passes(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An exception passes to the caller, and the time still counts."""
    with pytest.raises(ValueError, match="bad"):
        timed(monkeypatch, 10.0, 12.0)("bad")
    assert len(caplog.messages) == 1
