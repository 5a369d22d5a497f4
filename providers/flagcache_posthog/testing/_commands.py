"""The test's wishes as verbs with JSON arguments: the one way to the desk, in this process and over HTTP alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from ._backend import Desk
from .definitions import Flag
from .faults import Rule, unpack_fault
from .records import Path


def perform(desk: Desk, verb: str, arguments: dict[str, object]) -> object:
    """Do one verb and return what it tells, as values that JSON can carry.

    Raises:
        LookupError: There is no such verb.
        TypeError: The arguments are not the verb's.
    """
    return _VERBS[verb](desk, **arguments)


def _set_flag(desk: Desk, *, key: str, active: bool | None, rollout: int | None) -> str | None:
    def change(flag: Flag) -> None:
        if active is not None:
            flag["active"] = active
        if rollout is not None:
            flag["filters"]["groups"][-1]["rollout_percentage"] = rollout

    return desk.set_flag(key, change)


def _fail(desk: Desk, *, fault: dict[str, object], path: Path, key_digest: str | None, times: int | None) -> None:
    desk.add_rule(Rule(unpack_fault(fault), path, key_digest, times))


def _counts(desk: Desk) -> dict[str, object]:
    counts = desk.counts()
    # Pairs, not an object: JSON would turn the statuses into strings.
    return {**asdict(counts), "by_status": list(counts.by_status.items())}


def _served(desk: Desk, *, after: int) -> list[dict[str, object]]:
    return [asdict(record) for record in desk.served(after)]


def _truths(desk: Desk) -> list[dict[str, object]]:
    return [asdict(truth) for truth in desk.truths()]


_VERBS: dict[str, Callable[..., object]] = {
    "counts": _counts,
    "definitions": Desk.definitions,
    "fail": _fail,
    "hold": Desk.hold,
    "recover": Desk.recover,
    "release": Desk.release,
    "reset_counts": Desk.reset_counts,
    "serve": Desk.serve,
    "served": _served,
    "set_delay": Desk.set_delay,
    "set_flag": _set_flag,
    "truths": _truths,
    "wait_for_held": Desk.wait_for_held,
    "wait_for_requests": Desk.wait_for_requests,
}
