"""A deterministic scheduler with a virtual clock.

A task is a greenlet that belongs to one simulated process. It runs alone until it waits; then the scheduler takes what
comes next in virtual time. Nothing here reads a real clock or starts a thread, so that a run is a function of its seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count

from greenlet import GreenletExit, getcurrent, greenlet

__all__ = ["Owner", "Scheduler", "Task", "TaskRecord", "current_task"]


class Scheduler:
    """What happens when, in virtual seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.hub = getcurrent()
        self.steps = 0
        self.tasks: dict[Task, None] = {}
        """The tasks that have not ended, in the order in which they began."""
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Do this at this time; actions of the same time run in the order in which they were planned."""
        heapq.heappush(self._queue, (max(when, self.now), next(self._order), action))

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Do this after so many seconds."""
        self.at(self.now + seconds, action)

    def run(self, until: float, stop: Callable[[], bool]) -> None:
        """Let virtual time pass; ends early when `stop` says so after a step."""
        self.hub = getcurrent()
        while self._queue and self._queue[0][0] <= until:
            self.now, _, action = heapq.heappop(self._queue)
            self.steps += 1
            action()
            if stop():
                return
        self.now = max(self.now, until)

    def close(self) -> None:
        """Drop all planned events, and end every task: a waiting task would keep everything that it refers to."""
        self._queue.clear()
        for task in self.tasks:
            task.owner.alive = False
        for task in list(self.tasks):
            task.throw()
        self.tasks.clear()


class Owner:
    """A process, as the scheduler sees it: its tasks stop, continue and die together."""

    def __init__(self, scheduler: Scheduler, name: str) -> None:
        self.scheduler = scheduler
        self.name = name
        self.alive = True
        self.frozen = False
        self._deferred: list[Callable[[], None]] = []

    def start(self, body: Callable[[], None], name: str, delay: float = 0.0) -> Task:
        """Start a task of this process a little later."""
        task = Task(self, body, name)
        self.scheduler.after(delay, partial(task.resume, task.turn))
        return task

    def freeze(self) -> None:
        """Stop it at any point, as SIGSTOP does."""
        self.frozen = True

    def thaw(self) -> None:
        """Let it continue."""
        self.frozen = False
        deferred, self._deferred = self._deferred, []
        for action in deferred:
            self.scheduler.after(0, action)

    def kill(self) -> None:
        """End it at any point, as SIGKILL does."""
        self.alive = False
        self._deferred.clear()

    def defer(self, action: Callable[[], None]) -> None:
        """Run this when the process continues."""
        self._deferred.append(action)

    def stepped(self) -> None:
        """Record that a task of this process has just run."""


@dataclass(slots=True)
class TaskRecord:
    """The checks' record of one task since it last entered the engine."""

    verbs: int = 0
    unchanged: int = 0
    """How many of them were polls that found nothing new."""
    failures: int = 0
    """How many of them failed."""
    repair: str = ""
    """The store that asked it to be repaired, until that is tried."""
    asked: float = 0.0
    """When a store last answered it."""
    granted_by: str = ""
    served: tuple[str, float] = ("", 0.0)
    """The version that PostHog last served it or said to be right, and when it did."""


class Task(greenlet):
    """One thread of a simulated process."""

    def __init__(self, owner: Owner, body: Callable[[], None], name: str) -> None:
        super().__init__(self._main, owner.scheduler.hub)
        self.owner = owner
        self.name = name
        self.turn = 0
        """How often it continued; a wake-up for an earlier wait is ignored."""
        self.ended = False
        self.at_end: list[Callable[[], None]] = []
        self.record = TaskRecord()
        self._body = body
        owner.scheduler.tasks[self] = None

    def wait(self, longest: float | None) -> None:
        """Let other tasks run until `wake` is called with the present turn, or the time is over."""
        if not self.owner.alive:
            raise GreenletExit
        if longest is not None:
            self.owner.scheduler.after(max(0.0, longest), partial(self.resume, self.turn))
        self.owner.scheduler.hub.switch()

    def wake(self, turn: int) -> None:
        """End the wait of this turn."""
        self.owner.scheduler.after(0, partial(self.resume, turn))

    def resume(self, turn: int) -> None:
        """Continue, in the scheduler's own time."""
        if turn != self.turn or self.ended or not self.owner.alive:
            return
        if self.owner.frozen:
            self.owner.defer(partial(self.resume, turn))
            return
        self.turn += 1
        self.switch()
        self.owner.stepped()

    def _main(self) -> None:
        self._body()
        self.ended = True
        self.owner.scheduler.tasks.pop(self, None)
        for action in self.at_end:
            action()


def current_task() -> Task:
    """The task that runs."""
    task = getcurrent()
    if not isinstance(task, Task):
        raise TypeError("only a simulated process may wait")
    return task
