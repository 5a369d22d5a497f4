"""Exceptions that a signal handler raises during a load, as Celery's soft time limit does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from types import CodeType, FrameType
from typing import Any

import pytest
from posthog import Posthog
from typing_extensions import Self

from flagcache.runtime.single_flight import SingleFlight
from flagcache.worker.fetch import FetchThread
from flagcache.worker.worker import Worker
from flagcache_posthog import from_url
from flagcache_posthog.testing import PostHogStandIn, make_definitions
from tests.support.servers import until


class Interruption(BaseException):
    """What the handler raises."""


class InterruptAtLine:
    """While a `with` block lasts, this thread is interrupted when it first comes to a line.

    Args:
        code: a function's code.
        line: the line in its file.
    """

    def __init__(self, code: CodeType, line: int) -> None:
        self._place = code, line
        self.reached = False

    def __enter__(self) -> Self:
        sys.settrace(self._called)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.settrace(None)

    def _called(self, frame: FrameType, _event: str, _argument: Any) -> Any:  # noqa: ANN401 - as sys.settrace has it
        return self._stepped if frame.f_code is self._place[0] else None

    def _stepped(self, frame: FrameType, event: str, _argument: Any) -> Any:  # noqa: ANN401 - as sys.settrace has it
        if event == "line" and frame.f_lineno == self._place[1] and not self.reached:
            self.reached = True
            raise Interruption
        return self._stepped


def places() -> Iterator[tuple[CodeType, int]]:
    """Return each line of the functions that record what is under way."""
    join = SingleFlight._join  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    for function in (Worker.poll, SingleFlight.run, join, FetchThread.start):
        code = function.__code__
        lines = {line for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno}
        yield from ((code, line) for line in sorted(lines))


@pytest.mark.parametrize(("code", "line"), list(places()), ids=lambda part: getattr(part, "co_name", None))
def test_nothing_stays_under_way(code: CodeType, line: int, namespace: str) -> None:
    """Wherever the exception strikes, a later load brings flags, and no poll or fetch looks unfinished."""
    with PostHogStandIn(make_definitions(3)) as posthog:
        cache = from_url("memory://", namespace, auto_attach=False, cold_start_wait=2.0)
        client = Posthog(
            "phc_test", secret_key="phs_0", host=posthog.url, flag_definition_cache_provider=cache, flush_at=1
        )
        try:
            with InterruptAtLine(code, line) as place, suppress(Interruption):
                client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
            until(lambda: loaded(client), 5.0, what=f"flags, after an interruption in line {line}: {place.reached}")
        finally:
            client.shutdown()


def loaded(client: Posthog) -> bool:
    """Load flags; return whether there are any."""
    client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    return bool(client.feature_flags)
