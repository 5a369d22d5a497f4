"""The summary of many samples, and the ratio of two contestants."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Summary", "percentile", "ratios", "summarize"]


@dataclass(frozen=True, slots=True)
class Summary:
    """All samples of one measure, one case and one contestant.

    Attributes:
        n: number of samples.
        p50: the median: half of them are no larger.
        p90: 90 of a hundred are no larger.
        p99: 99 of a hundred are no larger; with fewer samples the largest.
        max: the largest.
        ratio: `p50` relative to the best other contestant's; None if there is none, or if that is 0.
    """

    n: int
    p50: float
    p90: float
    p99: float
    max: float
    ratio: float | None = None


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest sample such that this many percent are no larger: measured, never interpolated."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def summarize(samples: Iterable[float]) -> Summary:
    """Return the figures of one measure; there must be samples."""
    ordered = sorted(samples)
    p50, p90, p99 = (percentile(ordered, percent) for percent in (50, 90, 99))
    return Summary(len(ordered), p50, p90, p99, ordered[-1])


def ratios(medians: Mapping[str, float], ours: Iterable[str]) -> dict[str, float | None]:
    """Return each contestant's median relative to the best other's.

    The best other one has the smallest median of those that are not flagcache and not the contestant itself.

    Args:
        medians: by contestant.
        ours: the names of flagcache's forms.
    """
    others = {name: value for name, value in medians.items() if name not in set(ours)}
    found: dict[str, float | None] = {}
    for name, value in medians.items():
        best = min((other for rival, other in others.items() if rival != name), default=0.0)
        found[name] = value / best if best > 0 else None
    return found
