"""Real fleets: forked processes, each with a real client, controlled through a pipe and ended by pid.

    with Fleet(contexts, 8) as fleet:           # eight forks, each makes its own client
        fleet.call(load)                        # all at one instant
        fleet.leader().freeze()

A member's task is a function of its `MemberContext`, sent by name, so it can be any function of a module; those that
most tests need are in `tests.support.fleet_tasks`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar

import pytest
from typing_extensions import Self

from flagcache_posthog import FlagDefinitionCache
from flagcache_posthog.testing import revision_of
from tests.support.recording_client import RecordingClient

__all__ = ["Call", "Fleet", "LogLine", "Member", "MemberContext", "RecordingPosthog", "Sighting"]

T = TypeVar("T")
P = ParamSpec("P")

_PATIENCE = 10.0
"""Seconds for one answer of a member; far more than anything here takes by default."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a client held from one moment on."""

    at: float
    """`time.monotonic()`, the same for all processes of a machine."""
    flags: int | None
    """How many; None for a client that has not loaded any."""
    revision: int | None


class RecordingPosthog(RecordingClient):
    """A client that records everything it ever held, through the SDK's public property only."""

    def __init__(self, project_api_key: str, **options: Any) -> None:  # noqa: ANN401 - whatever the SDK takes
        self.history: list[Sighting] = []
        super().__init__(project_api_key, **options)

    def record(self, flags: list[dict[str, object]] | None) -> None:
        """Add it to the history."""
        count = None if flags is None else len(flags)
        self.history.append(Sighting(time.monotonic(), count, revision_of({"flags": flags})))


@dataclass(frozen=True, slots=True)
class LogLine:
    """What a library logged in a member."""

    logger: str
    level: int
    text: str


@dataclass(slots=True)
class MemberContext:
    """What the tasks of one member work with: made in the member, or before the fork and shared by all."""

    client: RecordingPosthog
    cache: FlagDefinitionCache
    logs: list[LogLine] = field(default_factory=list[LogLine])
    """What `flagcache`, its provider and `posthog` logged in this member, warnings and worse."""


class Call(Generic[T]):
    """A task under way in a member."""

    def __init__(self, member: Member) -> None:
        self._member = member

    def result(self, *, within: float = _PATIENCE) -> T:
        """Wait for the task's result; fails the test if it raises, is late, or its process has died."""
        answer = self._member.receive(within)
        if isinstance(answer, _Failure):
            pytest.fail(f"in {self._member!r}:\n{answer.text}")
        result: T = answer
        return result


class Member:
    """One process of a fleet. Does one task at a time."""

    def __init__(self, index: int, pid: int, connection: Connection[Any, Any]) -> None:
        self.index = index
        self.pid = pid
        self._connection = connection
        self._reaped = False

    def __repr__(self) -> str:
        return f"<Member {self.index} pid={self.pid}{' gone' if self._reaped else ''}>"

    @property
    def alive(self) -> bool:
        """Whether it still runs, as far as was seen."""
        return not self._reaped

    def begin(self, task: Callable[Concatenate[MemberContext, P], T], *args: P.args, **kwargs: P.kwargs) -> Call[T]:
        """Let it do something, without waiting; the result is fetched later."""
        self._connection.send((task, args, kwargs))
        return Call(self)

    def call(self, task: Callable[Concatenate[MemberContext, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Let it do something, and wait for the result."""
        return self.begin(task, *args, **kwargs).result()

    def receive(self, within: float) -> Any:  # noqa: ANN401 - whatever a task returns; `Call.result` gives it its type
        """Wait for the next thing that the member sends."""
        if not self._connection.poll(within):
            pytest.fail(f"{self!r} has not answered after {within:g} s")
        try:
            return self._connection.recv()
        except (EOFError, ConnectionResetError):
            pytest.fail(f"{self!r} has died")

    def freeze(self) -> None:
        """Freeze it, between any two instructions of any of its threads."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it continue."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, as with kill -9, without a hand-over."""
        if self._reaped:
            return
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._reaped = True
        self._connection.close()

    def close_inherited(self) -> None:
        """In another member's process: give up this one's pipe, so that the test's end is seen at its own."""
        self._connection.close()


class Fleet:
    """Forked processes with a client each; a context manager that ends them all, whatever they are doing.

    Args:
        make: Makes a member's context, in the member, given its index. It may return one made before the fork instead:
            then the members are what a preloading server forks.
        size: How many to fork; more can `join` later.
    """

    def __init__(self, make: Callable[[int], MemberContext], size: int) -> None:
        self._make = make
        self.members: list[Member] = []
        self._first_size = size

    def __enter__(self) -> Self:
        try:
            self.join(self._first_size)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def __iter__(self) -> Iterator[Member]:
        return (member for member in self.members if member.alive)

    def join(self, size: int) -> Sequence[Member]:
        """Fork this many more, and wait until each has its context."""
        first = len(self.members)
        came = [self._fork(first + number) for number in range(size)]
        for member in came:
            Call[None](member).result()
        return came

    def call(
        self,
        task: Callable[Concatenate[MemberContext, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> list[T]:
        """Let all living members do the same at one instant; return their results in the members' order."""
        return [call.result() for call in self.begin(task, *args, **kwargs)]

    def begin(
        self, task: Callable[Concatenate[MemberContext, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> list[Call[T]]:
        """Let all living members do the same at one instant, without waiting."""
        return [member.begin(task, *args, **kwargs) for member in self]

    def _fork(self, index: int) -> Member:
        ours, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            ours.close()
            for member in self.members:
                member.close_inherited()
            _run_member(theirs, self._make, index)
        theirs.close()
        member = Member(index, pid, ours)
        self.members.append(member)
        return member

    def _end(self) -> None:
        for member in self.members:
            member.kill()


@dataclass(frozen=True, slots=True)
class _Failure:
    text: str


class _Collector(logging.Handler):
    def __init__(self, lines: list[LogLine]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)  # with the traceback, where there is one
        self._lines.append(LogLine(record.name, record.levelno, text))


def _run_member(connection: Connection[Any, Any], make: Callable[[int], MemberContext], index: int) -> NoReturn:
    """A member's whole life, which ends without any code of the test's process being run in it."""
    try:
        with contextlib.suppress(EOFError, BrokenPipeError):  # the test's process is gone
            _run_tasks(connection, make, index)
    finally:
        os._exit(0)


def _run_tasks(connection: Connection[Any, Any], make: Callable[[int], MemberContext], index: int) -> None:
    context: MemberContext | None = None

    def make_context() -> None:
        nonlocal context
        context = make(index)
        context.logs.clear()
        for name in ("flagcache", "flagcache_posthog", "posthog"):
            logging.getLogger(name).addHandler(_Collector(context.logs))

    connection.send(_result_or_failure(make_context))
    while context is not None:
        task, args, kwargs = connection.recv()
        connection.send(_result_or_failure(task, context, *args, **kwargs))


def _result_or_failure(what: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> object:
    try:
        return what(*args, **kwargs)
    except BaseException:  # noqa: BLE001 - the test reports it, whatever it was
        return _Failure(traceback.format_exc())
