"""The model of a question: its cases, measures and contestants.

A question plays one case with one contestant and returns its readings; `rounds` does so in turn with all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.contestants.contestant import Contestant
from benchmarks.runner.servers import Servers

__all__ = ["Case", "Measure", "Play", "Question", "Readings", "Scale"]

Unit = Literal["", "bytes", "seconds", "times"]
"""Of a measure: a plain number, bytes, seconds, or how many times as much as something else."""

Readings = Mapping[str, Sequence[float]]
"""What one play saw, by the name of the measure: one value, or one a worker, a change or a call."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a run is.

    Attributes:
        rounds: how often each case is played and kept, with each contestant.
        workers: processes of a fleet; None: what each question holds right.
        quick: everything as small as it can be: it shows that the benchmark works, and its times mean nothing.
        seed: of what is drawn: the phases of the workers' polls.
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
        """How many processes to start instead of this usual number."""
        return self.workers or (3 if self.quick else usual)


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is counted or timed.

    Attributes:
        name: in the JSON.
        title: in tables.
        unit: of its values.
        exact: a count that another machine sees too, and no time.
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
        flags: in the definitions, beside the one with their revision.
        variant: what is done to the fleet, where that differs between the cases.
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
        name: of its module, on the command line and in the JSON.
        title: the question itself.
        measures: what its readings are; the first is the one that matters most.
        cases: those of a run of this size.
        play: plays one case with one contestant, on new servers.
        contestants: names of those that can be asked.
    """

    name: str
    title: str
    measures: tuple[Measure, ...]
    cases: Callable[[Scale], Sequence[Case]]
    play: Play
    contestants: Sequence[str]
    drawn: tuple[str, ...] = ()
    """Names of the measures of which a plot is drawn."""
    warm_up: bool = False
    """Whether a first round is played and dropped; most questions drop the beginning of each play instead."""
    repeats: int = 1
    """The number of plays of each case in a round: more than one if a play is short and gives few samples."""
