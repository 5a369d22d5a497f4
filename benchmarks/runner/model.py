"""The model of a question: its cases, measures and contestants.

A question plays one case with one contestant and returns the readings; `rounds` does that with all contestants in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.contestants.contestant import Contestant
from benchmarks.runner.servers import Servers

__all__ = ["Case", "Measure", "Play", "Question", "Readings", "Scale"]

Unit = Literal["", "bytes", "seconds", "times"]
"""The unit of a measure: a plain number, bytes, seconds, or a ratio."""

Readings = Mapping[str, Sequence[float]]
"""The readings of one play, by the name of the measure: one value, or one for each worker, change or call."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of a run.

    Attributes:
        rounds: how often each case is played and kept, with each contestant.
        workers: processes of a fleet; None: as each question sets it.
        quick: everything as small as possible, to show that the benchmark works; the times mean nothing.
        seed: of the random numbers: the phases of the workers' polls.
    """

    rounds: int = 3
    workers: int | None = None
    quick: bool = False
    seed: int = 1

    @property
    def interval(self) -> float:
        """Seconds between two polls of a client, and between two fetches of a fleet."""
        return 0.3 if self.quick else 2.0

    def fleet(self, usual: int) -> int:
        """Return how many processes to start instead of this usual number."""
        return self.workers or (3 if self.quick else usual)


@dataclass(frozen=True, slots=True)
class Measure:
    """One quantity that is counted or timed.

    Attributes:
        name: in the JSON.
        title: in tables.
        unit: of its values.
        exact: it is a count that doesn't depend on the machine, not a time.
    """

    name: str
    title: str
    unit: Unit = ""
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One setting of a question.

    Attributes:
        name: in the JSON and in tables.
        workers: processes of the fleet, or processes that are started one after the other.
        flags: flags in the definitions, besides the one with the revision.
        variant: what happens to the fleet, if that differs between the cases.
    """

    name: str
    workers: int
    flags: int
    variant: str = ""


Play = Callable[[Servers, Contestant, Case], Readings]


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        name: its module, also on the command line and in the JSON.
        title: the question itself.
        measures: of its readings; the first one matters most.
        cases: returns the cases of a run of this size.
        play: plays one case with one contestant, on new servers.
        contestants: names of those that can answer it.
    """

    name: str
    title: str
    measures: tuple[Measure, ...]
    cases: Callable[[Scale], Sequence[Case]]
    play: Play
    contestants: Sequence[str]
    drawn: tuple[str, ...] = ()
    """Names of the measures that have a plot."""
    warm_up: bool = False
    """Whether a first round is played and dropped; most questions drop the beginning of each play instead."""
    repeats: int = 1
    """The number of plays of each case in a round: more than one if a play is short and gives few samples."""
