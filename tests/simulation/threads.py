"""Python's `threading` on the simulation's scheduler, with the engine patched to use it.

The engine runs as it is: its modules find this in place of `threading`, the virtual clock in place of the system's and
of tenacity's, and process names instead of random identities. A thread-local is local to a task.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from types import ModuleType, SimpleNamespace
from unittest.mock import patch
from weakref import WeakKeyDictionary

import tenacity
from greenlet import getcurrent, greenlet

import flagcache.worker
from flagcache import clients
from flagcache.core.knowledge import Held
from flagcache.runtime import process, single_flight, threads
from flagcache.stores.base import Grant
from flagcache.worker.publish import Publisher
from tests.simulation.scheduler import Task, current_task
from tests.support.own_threads import await_earlier

__all__ = ["Event", "simulated"]


_SHORTEST = 0.0001
"""Seconds that every wait takes, so that a task that never really waits does not stop the run."""


class Event:
    """As `threading.Event`."""

    def __init__(self) -> None:
        self._set = False
        self._waiting: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        """As `threading.Event.is_set`."""
        return self._set

    def set(self) -> None:
        """As `threading.Event.set`."""
        self._set = True
        waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()

    def clear(self) -> None:
        """As `threading.Event.clear`."""
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """As `threading.Event.wait`."""
        if not self._set:
            task = current_task()
            self._waiting.append(partial(task.wake, task.turn))
            task.wait(timeout if timeout is None else max(timeout, _SHORTEST))
        return self._set


class Lock:
    """A lock as `threading.RLock`; the engine never takes a lock twice on one thread if it must not."""

    def __init__(self) -> None:
        self._owner: greenlet | None = None
        self._depth = 0
        self._free = Event()

    def acquire(self, *, timeout: float = -1) -> bool:
        """As `threading.Lock.acquire`."""
        while self._owner not in (None, getcurrent()):
            self._free.clear()
            if not self._free.wait(None if timeout < 0 else timeout) and timeout >= 0:
                return False
        self._owner = getcurrent()
        self._depth += 1
        return True

    def release(self) -> None:
        """As `threading.Lock.release`."""
        self._depth -= 1
        if not self._depth:
            self._owner = None
            self._free.set()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Thread:
    """As `threading.Thread`: a task of the process that starts it."""

    def __init__(
        self, *, target: Callable[..., None], args: tuple[object, ...] = (), name: str, daemon: bool = True
    ) -> None:
        self._body = partial(target, *args)
        self._name = name
        self._ended = Event()
        self.task: Task | None = None

    def start(self) -> None:
        """As `threading.Thread.start`."""
        self.task = current_task().owner.start(self._body, self._name)
        self.task.at_end.append(self._ended.set)

    def is_alive(self) -> bool:
        """As `threading.Thread.is_alive`."""
        return self.task is not None and not self.task.ended

    def join(self, timeout: float | None = None) -> None:
        """As `threading.Thread.join`."""
        self._ended.wait(timeout)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thread) and self.task is other.task

    def __hash__(self) -> int:
        return hash(self.task)


class _Current(Thread):
    def __init__(self) -> None:
        self.task = current_task()


class _Local:
    """As `threading.local`."""

    def __init__(self) -> None:
        object.__setattr__(self, "values_of", WeakKeyDictionary())

    def __getattribute__(self, name: str) -> object:
        of_all: WeakKeyDictionary[greenlet, dict[str, object]] = object.__getattribute__(self, "values_of")
        values = of_all.get(getcurrent(), {})
        return values[name] if name in values else object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        of_all: WeakKeyDictionary[greenlet, dict[str, object]] = object.__getattribute__(self, "values_of")
        of_all.setdefault(getcurrent(), {})[name] = value


_threading = SimpleNamespace(
    Event=Event,
    Lock=Lock,
    RLock=Lock,
    Thread=Thread,
    current_thread=_Current,
    get_ident=lambda: id(getcurrent()),
    local=_Local,
    Timer=None,
)


class _LoggedExceptions(logging.Handler):
    """An exception that the engine caught for its caller is still a fault."""

    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._report(logging.Formatter().format(record))


def _engine() -> list[ModuleType]:
    """Return the modules that get the simulation's threads and clock: all of the worker's room, and three others.

    They are found and not listed, so that no new module of the worker waits in real time.
    """
    room = [f"flagcache.worker.{each.name}" for each in pkgutil.iter_modules(flagcache.worker.__path__)]
    return [*map(importlib.import_module, room), clients, single_flight, threads]


@contextmanager
def simulated(
    *, now: Callable[[], float], report: Callable[[str], None], on_fetched: Callable[[Held], None]
) -> Generator[None, None, None]:
    """Let the engine run in virtual time.

    Args:
        now: the virtual clock, in seconds.
        report: called with each exception that the engine logged.
        on_fetched: called with what each fetch of the running task brought or confirmed, before the engine handles it.
    """
    await_earlier()  # a real thread would run in virtual time
    complaints = _LoggedExceptions(report)
    logger = logging.getLogger("flagcache")
    with ExitStack() as stack:
        for module in _engine():
            for name, ours in (("threading", _threading), ("monotonic", now)):
                if hasattr(module, name):
                    stack.enter_context(patch.object(module, name, ours))
        stack.enter_context(patch.object(threads, "_first_local", None))
        stack.enter_context(patch.object(tenacity, "time", SimpleNamespace(monotonic=now)))
        stack.enter_context(patch.object(process, "identity", lambda: current_task().owner.name))
        for name in ("publish", "confirm"):
            stack.enter_context(patch.object(Publisher, name, _reporting(getattr(Publisher, name), on_fetched)))
        stack.callback(logger.setLevel, logger.level)
        stack.callback(logger.removeHandler, complaints)
        stack.callback(setattr, logger, "propagate", logger.propagate)
        logger.addHandler(complaints)
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        yield


def _reporting(
    original: Callable[[Publisher, Held, Grant], None], on_fetched: Callable[[Held], None]
) -> Callable[[Publisher, Held, Grant], None]:
    @wraps(original)
    def reported(self: Publisher, held: Held, grant: Grant) -> None:
        on_fetched(held)
        original(self, held, grant)

    return reported
