"""The processes of a fleet: forks of a clean process that has only imported the libraries.

A worker's task is a function of its `WorkerContext`, sent by name through a pipe (`worker` has the common ones).
Workers are ended by pid, and end by themselves when the benchmark does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from typing_extensions import Self

from benchmarks.contestants import worker
from benchmarks.contestants.contestant import WorkerConfig, WorkerContext

__all__ = ["Call", "Fleet", "Member", "WorkerFailedError", "until"]

T = TypeVar("T")
P = ParamSpec("P")

_PATIENCE = 120.0
"""Seconds within which a worker must answer, on a machine that may be busy."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["benchmarks.contestants.worker", "flagcache.stores.redis.store", "flagcache.stores.sqlite.store"]
)


class WorkerFailedError(RuntimeError):
    """A worker raised, died or did not answer."""


def until(condition: Callable[[], T], timeout: float, *, every: float = 0.02, what: str) -> T:
    """Wait until `condition()` is truthy and return that value.

    Args:
        condition: called repeatedly.
        timeout: seconds after which to give up.
        every: seconds between two calls.
        what: the awaited event, for the message.

    Raises:
        TimeoutError: it was not truthy in time.
    """
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}, which did not happen")
        time.sleep(every)
    return answer


class Call(Generic[T]):
    """A call that a worker is making."""

    def __init__(self, member: Member) -> None:
        self._member = member

    def result(self, *, within: float = _PATIENCE) -> T:
        """Wait for the result.

        Raises:
            WorkerFailedError: it raised, died, or is late.
        """
        answer: T = self._member.receive(within)
        return answer


class Member:
    """One process of a fleet. It makes one call at a time."""

    def __init__(self, contestant: str, config: WorkerConfig, index: int) -> None:
        self.index = index
        self._connection, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(
            target=worker.run_worker, args=(theirs, contestant, config, index), daemon=True
        )
        self._process.start()
        theirs.close()
        self.alive = True

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process.pid is not None
        return self._process.pid

    def begin(self, task: Callable[Concatenate[WorkerContext, P], T], *args: P.args, **kwargs: P.kwargs) -> Call[T]:
        """Let it make a call, and don't wait; the result is fetched later."""
        self._connection.send((task, args, kwargs))
        return Call(self)

    def call(self, task: Callable[Concatenate[WorkerContext, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Let it make a call, and wait for the result."""
        return self.begin(task, *args, **kwargs).result()

    def receive(self, within: float) -> Any:  # noqa: ANN401 - whatever a task returns; `Call.result` gives it its type
        """Wait for the next message that it sends."""
        if not self._connection.poll(within):
            raise WorkerFailedError(f"worker {self.index} has not answered after {within:g} s")
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionResetError) as exc:
            raise WorkerFailedError(f"worker {self.index} has died") from exc
        if isinstance(answer, worker.Failure):
            raise WorkerFailedError(f"in worker {self.index}:\n{answer.text}")
        return answer

    def freeze(self) -> None:
        """Freeze it (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it continue (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill it (`kill -9`), without a hand-over."""
        if not self.alive:
            return
        self.alive = False
        self._process.kill()
        self._process.join()
        self._connection.close()

    def stop(self) -> None:
        """Shut its client down, as an application does at its end, and then end it."""
        self.call(worker.shutdown)
        self.kill()


class Fleet:
    """The workers of one contestant; a context manager that ends them all.

    Args:
        contestant: name of the contestant that creates their clients.
        config: of the workers.
        size: number of workers; more can `join` later.
    """

    def __init__(self, contestant: str, config: WorkerConfig, size: int) -> None:
        self._contestant = contestant
        self._config = config
        self._size = size
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        try:
            self.join(self._size)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for member in self.members:
            member.kill()

    def __iter__(self) -> Iterator[Member]:
        return (member for member in self.members if member.alive)

    def join(self, size: int) -> Sequence[Member]:
        """Start this many more workers, and wait until each has its client."""
        first = len(self.members)
        came: list[Member] = []
        for number in range(size):
            came.append(Member(self._contestant, self._config, first + number))
            self.members.append(came[-1])
        for member in came:
            Call[None](member).result()
        return came

    def call(self, task: Callable[Concatenate[WorkerContext, P], T], *args: P.args, **kwargs: P.kwargs) -> list[T]:
        """Let all living workers make the same call at one time; return their results in order."""
        return [call.result() for call in [member.begin(task, *args, **kwargs) for member in self]]

    def load(self) -> list[float]:
        """Let all living workers load their flags at one instant; return the result of `load_members`."""
        return self.load_members(list(self))

    def warm_up(self, spread: Sequence[float]) -> None:
        """Let the first worker load its flags, and then the others, each this many seconds after it.

        So if workers share, only the first one has asked PostHog, as in a fleet whose workers started one by one.
        """
        first, *others = self
        self.load_members([first])
        self.load_members(others, spread=spread[: len(others)])

    @staticmethod
    def load_members(members: Sequence[Member], *, spread: Sequence[float] = ()) -> list[float]:
        """Let these workers load their flags.

        Returns:
            For each, the seconds from its start until its first evaluation returned a flag's value.
        """
        go = time.monotonic() + 0.05 + 0.002 * len(members)  # now all have read the command
        instants = [go + wait for wait in spread or [0.0] * len(members)]
        calls = [member.begin(worker.load, when) for member, when in zip(members, instants, strict=True)]
        return [call.result() - when for call, when in zip(calls, instants, strict=True)]

    def wait_for(self, revision: int, timeout: float) -> None:
        """Wait until all living workers hold this revision.

        Raises:
            TimeoutError: they don't hold it after this many seconds.
        """

        def hold() -> bool:
            return set(self.call(worker.revision)) == {revision}

        until(hold, timeout, every=0.1, what=f"all workers to hold revision {revision}")
