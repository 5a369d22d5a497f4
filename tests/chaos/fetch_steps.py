"""The steps of a fetch at which a member can be stopped: gates in the members' own HTTP, or held answers."""

from __future__ import annotations

import threading
from enum import Enum
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from tests.support.fleet_tasks import asker, asks, leader, next_request
from tests.support.real_fleet import Member, MemberContext
from tests.support.scenario import BUSY, EVERY, Scenario
from tests.support.servers import until

__all__ = ["Step", "catch", "cut_off", "reconnect", "resume"]

_SEND = HTTPAdapter.send
_LONGEST = 20.0
"""Seconds after which a gate opens by itself, so that a failed test ends."""


class Step(Enum):
    """The step at which the leader is."""

    IDLE = "idle"
    BEFORE = "before the fetch"
    DURING = "in mid-fetch"
    UNPUBLISHED = "fetched, not published"


class _Gate:
    """In a member's process: the place where its requests for definitions stop."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def wait(self) -> None:
        self.reached.set()
        self.opened.wait(_LONGEST)


_gate = _Gate()


def _close_gate(_context: MemberContext, step: Step) -> None:
    """Stop this process's next fetch, of the SDK or of the fleet, at this step."""
    global _gate  # noqa: PLW0603 - there is one process, and one gate in it
    _gate = gate = _Gate()

    def send(self: HTTPAdapter, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401 - handed on
        fetches = "/flags/definitions" in (request.url or "")
        if fetches and step is Step.BEFORE:
            gate.wait()
        answer = _SEND(self, request, *args, **kwargs)
        if fetches and step is Step.UNPUBLISHED:
            gate.wait()
        return answer

    HTTPAdapter.send = send  # type: ignore[method-assign]


def _at_gate(_context: MemberContext) -> bool:
    return _gate.reached.is_set()


def _open_gate(_context: MemberContext) -> None:
    HTTPAdapter.send = _SEND  # type: ignore[method-assign]
    _gate.opened.set()


def cut_off(_context: MemberContext) -> None:
    """Cut this process off from PostHog."""

    def send(
        self: HTTPAdapter, request: requests.PreparedRequest, *args: object, **kwargs: object
    ) -> requests.Response:
        raise requests.ConnectionError(f"{request.url}: connection refused")

    HTTPAdapter.send = send  # type: ignore[method-assign]


def reconnect(_context: MemberContext) -> None:
    """Let this process reach PostHog again."""
    HTTPAdapter.send = _SEND  # type: ignore[method-assign]


def catch(scenario: Scenario, step: Step) -> Member:
    """Let PostHog change, and return the leader, stopped during its fetch of the new revision."""
    if step is Step.IDLE:
        next_request(scenario.posthog, timeout=2 * EVERY + BUSY)
        return leader(scenario.fleet)
    if step is Step.DURING:
        next_request(scenario.posthog, timeout=2 * EVERY + BUSY)  # the next one is an interval away, and is held
        scenario.change()
        scenario.posthog.hold(times=1)
        scenario.posthog.wait_for_held(1, timeout=4 * EVERY + BUSY)
        return asker(scenario.fleet, asks(scenario.posthog)[-1])
    scenario.change()
    scenario.fleet.call(_close_gate, step)
    [caught] = until(lambda: _stopped(scenario), 4 * EVERY + BUSY, what=f"a member to be {step.value}")
    for member in scenario.fleet:
        if member is not caught:
            member.call(_open_gate)
    return caught


def _stopped(scenario: Scenario) -> list[Member]:
    members = zip(scenario.fleet, scenario.fleet.call(_at_gate), strict=True)
    return [member for member, stopped in members if stopped]


def resume(scenario: Scenario, caught: Member) -> None:
    """Let the stopped member continue, if it lives; it must not be frozen."""
    scenario.posthog.release()
    if caught.alive:
        caught.call(_open_gate)
