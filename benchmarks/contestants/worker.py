"""The program of a worker: it creates its client, and then runs commands until the benchmark ends."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

from posthog.poller import Poller

from benchmarks.contestants.contestant import WorkerConfig, WorkerContext, evaluated_revision
from benchmarks.contestants.registry import CONTESTANTS

__all__ = ["Failure", "Usage", "history", "load", "revision", "run_worker", "shutdown", "usage"]


@dataclass(frozen=True, slots=True)
class Failure:
    """The exception of a call."""

    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources that a worker has used since its start.

    Attributes:
        cpu: seconds of processor time, of all its threads.
        resident: bytes of memory, shared pages included.
        polls: number of its client's polls.
        poll_seconds: total time of these polls.
    """

    cpu: float
    resident: int
    polls: int
    poll_seconds: float


def run_worker(connection: Connection[Any, Any], contestant: str, config: WorkerConfig, index: int) -> None:
    """Run a worker until the benchmark's process ends, for whatever reason."""
    logging.getLogger().addHandler(logging.NullHandler())  # an outage logs hundreds of lines
    try:
        with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
            _run_tasks(connection, contestant, config, index)
    finally:
        os._exit(0)


def load(context: WorkerContext, when: float) -> float:
    """Load flags as an application does at its start.

    Args:
        context: the worker's context.
        when: the time to begin, as `time.monotonic()` of this machine.

    Returns:
        The time when the first evaluation had returned a flag's value.
    """
    time.sleep(max(0.0, when - time.monotonic()))
    context.client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    value = evaluated_revision(context.client)
    done = time.monotonic()
    if value is None:
        raise RuntimeError("loaded, but no flag can be evaluated")
    _count_polls(context)
    return done


def revision(context: WorkerContext) -> int | None:
    """Return the revision that the client holds; makes no request."""
    return context.client.history[-1].revision if context.client.history else None


def history(context: WorkerContext) -> list[tuple[float, int | None]]:
    """Return which revision the client got when, in order."""
    return [(sighting.at, sighting.revision) for sighting in list(context.client.history)]


def usage(context: WorkerContext) -> Usage:
    """Return the resources that this worker has used so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(used.ru_utime + used.ru_stime, resident(), context.polls, context.poll_seconds)


def resident() -> int:
    """Return this process's memory in bytes, as the kernel counts it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def shutdown(context: WorkerContext) -> None:
    """Shut the client down, as an application does at its end."""
    context.client.shutdown()


def _count_polls(context: WorkerContext) -> None:
    """Count the poller's polls, by its public attributes, which works for every contestant."""
    poller = cast("Poller", context.client.poller)
    execute = cast("Callable[..., None]", poller.execute)

    def counted(*args: object, **kwargs: object) -> None:
        began = time.monotonic()
        try:
            execute(*args, **kwargs)
        finally:
            context.polls += 1
            context.poll_seconds += time.monotonic() - began

    poller.execute = counted


def _run_tasks(connection: Connection[Any, Any], contestant: str, config: WorkerConfig, index: int) -> None:
    context: WorkerContext | None = None

    def make_context() -> None:
        nonlocal context
        context = WorkerContext(CONTESTANTS[contestant].make(config, index), index)

    connection.send(_result_or_failure(make_context))
    while context is not None:
        task, args, kwargs = connection.recv()
        connection.send(_result_or_failure(task, context, *args, **kwargs))


def _result_or_failure(what: Callable[..., object], *args: object, **kwargs: object) -> object:
    try:
        return what(*args, **kwargs)
    except BaseException:  # noqa: BLE001 - the benchmark reports any exception
        return Failure(traceback.format_exc())
