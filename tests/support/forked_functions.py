"""Real forked processes for tests of stores: run a function in one, or in many at once."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from tests.support.own_threads import await_earlier

__all__ = ["Child", "fork", "forked", "race"]


class Child:
    """A forked process that ends with its work's result as text; an exception of the work fails the test."""

    def __init__(self, pid: int, answers: int) -> None:
        self.pid = pid
        self._answers = os.fdopen(answers, "rb")

    def answer(self) -> str:
        """Wait for its end and return its result."""
        with self._answers:
            text = self._answers.read().decode()
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        assert status == 0, f"the child ended with status {status}: {text}"
        return text

    def kill(self) -> None:
        """End it, if it still runs."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._answers.close()


def fork(work: Callable[[], str], *, how: Callable[[], int] = os.fork) -> Child:
    """Run the work in a forked process, which exits without any clean-up, like a killed one."""
    reading, writing = os.pipe()
    pid = how()
    if pid == 0:
        status = 1
        try:
            os.write(writing, work().encode())
            status = 0
        except BaseException:  # noqa: BLE001 - it is reported to the parent; no child may continue into pytest
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writing)
    return Child(pid, reading)


@contextmanager
def forked(work: Callable[[], str], *, how: Callable[[], int] = os.fork) -> Generator[Child]:
    """Run the work in a process that is gone when the test is over."""
    child = fork(work, how=how)
    try:
        yield child
    finally:
        child.kill()


def race(works: Sequence[Callable[[], str]]) -> list[str]:
    """Run each work in its own process, all released at the same instant, and return their results."""
    await_earlier()  # a child that is forked while a thread uses SQLite can't use it
    gate, opener = os.pipe()

    def waiting(work: Callable[[], str]) -> Callable[[], str]:
        def run() -> str:
            os.close(opener)
            os.read(gate, 1)  # returns, with nothing, when the last writer has closed the pipe
            return work()

        return run

    children = [fork(waiting(work)) for work in works]
    os.close(opener)
    try:
        return [child.answer() for child in children]
    finally:
        os.close(gate)
        for child in children:
            child.kill()
