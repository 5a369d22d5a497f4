"""Counts: the sums of the workers' reports. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flagcache.cli.demo.messages import FlagValue, Report

__all__ = ["Counts", "Requests"]

_FULL_COST = 10
"""Flag requests that PostHog bills for an answer with definitions; "unchanged" is one."""


@dataclass(frozen=True, slots=True)
class Requests:
    """Number of requests for definitions."""

    requests: int
    full: int
    """Number of answers with definitions."""

    @property
    def billed(self) -> int:
        """The number of flag requests that PostHog bills."""
        return self.requests + (_FULL_COST - 1) * self.full


class Counts:
    """The latest report of each worker, also of ended ones, in the order of the first reports."""

    def __init__(self) -> None:
        self._latest: dict[int, Report] = {}
        self._killed: set[int] = set()
        self.flags_lost = 0
        """Number of times that a worker lost its flags."""

    def add(self, reports: Iterable[Report]) -> None:
        """Record reports."""
        for report in reports:
            before = self._latest.get(report.pid)
            if before is not None and before.flags and not report.flags:
                self.flags_lost += 1
            self._latest[report.pid] = report

    def killed(self, pid: int) -> None:
        """Record that this worker was killed; its counts stay."""
        self._killed.add(pid)

    def is_killed(self, pid: int) -> bool:
        """Whether this worker was killed."""
        return pid in self._killed

    def all(self) -> list[Report]:
        """The latest report of each worker, of the killed ones too."""
        return list(self._latest.values())

    def alive(self) -> list[Report]:
        """The latest report of each worker that has not been killed."""
        return [report for report in self._latest.values() if report.pid not in self._killed]

    def with_flags(self) -> list[Report]:
        """The latest report of each living worker with flags."""
        return [report for report in self.alive() if report.flags]

    def flag(self) -> str:
        """The flag that the workers evaluate; empty while they look for one."""
        return next((report.flag for report in self._latest.values() if report.flag), "")

    def leader(self) -> Report | None:
        """The leader; None if there is none, or if two workers report that they lead at the moment of a change."""
        leaders = [report for report in self.alive() if report.role == "leader"]
        return leaders[0] if len(leaders) == 1 else None

    def evaluating(self, *, value: FlagValue) -> list[Report]:
        """The latest report of each living worker that evaluates the flag to this value."""
        return [report for report in self.with_flags() if report.value == value]

    def sent(self) -> Requests:
        """The requests to PostHog that the workers made."""
        return Requests(sum(r.requests for r in self.all()), sum(r.full for r in self.all()))

    def alone(self) -> Requests:
        """The requests that the same workers would have made without a cache.

        Each poll of an SDK would have been a request: answered with definitions if the worker did not have them yet,
        otherwise with "unchanged".
        """
        return Requests(sum(r.polls for r in self.all()), sum(r.changes for r in self.all()))
