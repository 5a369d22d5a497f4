"""The counting: what the workers reported, added up. Pure: it reads no clock and asks nobody."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flagcache.cli.demo.messages import FlagValue, Report

__all__ = ["Ledger", "Requests"]

_FULL_COST = 10
"""Flag requests that PostHog bills for definitions sent; an answer of "unchanged" is one."""


@dataclass(frozen=True, slots=True)
class Requests:
    """What PostHog is asked for definitions."""

    requests: int
    full: int
    """How many were answered with definitions."""

    @property
    def billed(self) -> int:
        """The same in flag requests, as PostHog bills them."""
        return self.requests + (_FULL_COST - 1) * self.full


class Ledger:
    """The latest report of each worker that ever was, in the order of their first ones."""

    def __init__(self) -> None:
        self._latest: dict[int, Report] = {}
        self._killed: set[int] = set()
        self.flags_lost = 0
        """How often a worker that had flags was seen without."""

    def take(self, reports: Iterable[Report]) -> None:
        """Note what workers told."""
        for report in reports:
            before = self._latest.get(report.pid)
            if before is not None and before.flags and not report.flags:
                self.flags_lost += 1
            self._latest[report.pid] = report

    def killed(self, pid: int) -> None:
        """Note that this worker is no more; what it counted stays."""
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
        """Those that live and have flags."""
        return [report for report in self.alive() if report.flags]

    def flag(self) -> str:
        """The flag that the workers evaluate; empty while they look for one."""
        return next((report.flag for report in self._latest.values() if report.flag), "")

    def leader(self) -> Report | None:
        """Who leads now; None while nobody does, or two believe it in the moment of a change."""
        leaders = [report for report in self.alive() if report.role == "leader"]
        return leaders[0] if len(leaders) == 1 else None

    def evaluating(self, *, value: FlagValue) -> list[Report]:
        """Those that live and evaluate the flag to this."""
        return [report for report in self.with_flags() if report.value == value]

    def sent(self) -> Requests:
        """What the workers' SDKs were sent to ask PostHog."""
        return Requests(sum(r.requests for r in self.all()), sum(r.full for r in self.all()))

    def alone(self) -> Requests:
        """What the same workers would have asked without a cache.

        Each poll of an SDK would have been a request: one that is answered with definitions where the worker had not
        had them yet, else with "unchanged".
        """
        return Requests(sum(r.polls for r in self.all()), sum(r.changes for r in self.all()))
