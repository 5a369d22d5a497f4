"""Commands of a test with JSON arguments; they control the backend in this process and over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from ._backend import Backend
from .definitions import Flag
from .faults import Rule, unpack_fault
from .records import Path


def perform(backend: Backend, command: str, arguments: dict[str, object]) -> object:
    """Run one command and return its result, as JSON values.

    Raises:
        LookupError: There is no such command.
        TypeError: The arguments are invalid.
    """
    return _COMMANDS[command](backend, **arguments)


def _set_flag(backend: Backend, *, key: str, active: bool | None, rollout: int | None) -> str | None:
    def change(flag: Flag) -> None:
        if active is not None:
            flag["active"] = active
        if rollout is not None:
            flag["filters"]["groups"][-1]["rollout_percentage"] = rollout

    return backend.set_flag(key, change)


def _fail(backend: Backend, *, fault: dict[str, object], path: Path, key_digest: str | None, times: int | None) -> None:
    backend.add_rule(Rule(unpack_fault(fault), path, key_digest, times))


def _counts(backend: Backend) -> dict[str, object]:
    counts = backend.counts()
    # Pairs, because the keys of a JSON object are strings.
    return {**asdict(counts), "by_status": list(counts.by_status.items())}


def _served(backend: Backend, *, after: int) -> list[dict[str, object]]:
    return [asdict(record) for record in backend.served(after)]


def _truths(backend: Backend) -> list[dict[str, object]]:
    return [asdict(truth) for truth in backend.truths()]


_COMMANDS: dict[str, Callable[..., object]] = {
    "counts": _counts,
    "definitions": Backend.definitions,
    "fail": _fail,
    "hold": Backend.hold,
    "recover": Backend.recover,
    "release": Backend.release,
    "reset_counts": Backend.reset_counts,
    "serve": Backend.serve,
    "served": _served,
    "set_delay": Backend.set_delay,
    "set_flag": _set_flag,
    "truths": _truths,
    "wait_for_held": Backend.wait_for_held,
    "wait_for_requests": Backend.wait_for_requests,
}
