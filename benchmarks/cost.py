"""The flag requests of a month, and their price, for each provider.

    python -m benchmarks.cost                     a table for 10, 100 and 1,000 workers
    python -m benchmarks.cost --workers 40 --deploys 5 --changes 3 --poll 60

A pure model. Per day, with N workers that poll every P seconds, D rolling deploys, C changes, and PostHog answering
within f seconds:

    contestant     requests                      of them with definitions
    none           N (86400 / (P + f) + D / 2)   N (C + D)
    example        86400 / (P + f) + D h / 2     C + D h
    republishing   as the example
    protocol       86400 / (P + f)               at most C + D h + 86400 / (10 P)
    attached       86400 / P                     C

and flag requests = requests + 9 x those with definitions: PostHog counts 10 for one with and 1 for one without.

- A client waits P after each answer; an attached leader fetches each P on a thread of its own. A replaced process
  leaves half an interval unused on average: D / 2.
- A new process has no entity tag, so its first request returns definitions: N D of them if each process fetches.
  If a leader fetches, it is one for each new leader whose SDK has not fetched before. A deploy that replaces processes
  in a random order replaces its leaders h = e - 1 = 1.72 times on average: the first one in any case, and then each one
  that was chosen from the processes that are not replaced yet.
- An attached client sends the fleet's entity tag: the first request of a new leader costs an unchanged poll.
- In protocol mode a leader that brings nothing new for ten intervals leaves a turn to another worker, because the SDK
  does not report that PostHog confirmed. The SDK of that worker may have no entity tag yet.
- Crashes and outages are not included, nor is the first start of all on an empty store: it costs N requests with
  definitions without flagcache, and one with it. `benchmarks.scale` simulates all of these.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = [
    "CONTESTANTS",
    "COST_OF_DEFINITIONS",
    "LIMIT_FULL",
    "LIMIT_UNCHANGED",
    "PRICES",
    "Fleet",
    "Month",
    "main",
    "month",
    "price",
    "table",
]

DAY = 86_400.0
DAYS = 30

LIMIT_UNCHANGED, LIMIT_FULL = 6000, 600
"""Requests per minute that PostHog answers for one team, without and with definitions; the others get 429."""

COST_OF_DEFINITIONS = 10
"""Flag requests that PostHog counts for a poll with definitions, also for the first one after a start; one without
definitions counts 1: https://posthog.com/docs/feature-flags/local-evaluation/distributed-environments, as read in
November 2026."""

PRICES: tuple[tuple[float, float], ...] = (
    (1e6, 0.0),
    (2e6, 0.000100),
    (10e6, 0.000045),
    (50e6, 0.000025),
    (math.inf, 0.000010),
)
"""Numbers of flag requests a month, and the price of each one up to that number in US dollars, without taxes and
discounts: https://posthog.com/docs/feature-flags/cutting-costs, in a copy read on 21 November 2026 without a date. The
first million is free, and shared with all other flag requests of an organisation."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet, and the events of its day."""

    workers: int
    poll: float = 30.0
    """Seconds between two polls of a client, and between two requests of a fleet: the SDK's default."""
    deploys: int = 20
    changes: int = 10
    fetch: float = 0.3
    """Seconds that PostHog takes to answer."""

    @property
    def one(self) -> float:
        """Number of requests a day of one client that always polls PostHog."""
        return DAY / (self.poll + self.fetch)

    @property
    def new_leaders(self) -> float:
        """Number of changes of the leader a day because of deploys."""
        return self.deploys * (math.e - 1)


@dataclass(frozen=True, slots=True)
class Month:
    """The requests of a fleet to PostHog in a month."""

    requests: float
    full: float
    """Number of requests that return definitions."""

    @property
    def flag_requests(self) -> float:
        """Number of flag requests that PostHog counts."""
        return self.requests + (COST_OF_DEFINITIONS - 1) * self.full


def _none(fleet: Fleet) -> Month:
    n = fleet.workers
    return Month(n * (fleet.one + fleet.deploys / 2), n * (fleet.changes + fleet.deploys))


def _leased(fleet: Fleet) -> Month:
    return Month(fleet.one + fleet.new_leaders / 2, fleet.changes + fleet.new_leaders)


def _protocol(fleet: Fleet) -> Month:
    return Month(fleet.one, fleet.changes + fleet.new_leaders + DAY / (10 * fleet.poll))


def _attached(fleet: Fleet) -> Month:
    return Month(DAY / fleet.poll, fleet.changes)


CONTESTANTS: dict[str, tuple[str, Callable[[Fleet], Month]]] = {
    "none": ("no provider", _none),
    "example": ("the SDK's example", _leased),
    "republishing": ("the example, republishing", _leased),
    "protocol": ("flagcache by protocol, at most", _protocol),
    "attached": ("flagcache attached", _attached),
}
"""Title and requests of one day, by the names that the other benchmarks give them."""


def month(contestant: str, fleet: Fleet) -> Month:
    """Return the requests of a fleet of this contestant in a month of thirty days."""
    day = CONTESTANTS[contestant][1](fleet)
    return Month(DAYS * day.requests, DAYS * day.full)


def price(flag_requests: float) -> float:
    """Return the price in US dollars of this many flag requests in a month, if there are no others."""
    dollars = below = 0.0
    for limit, each in PRICES:
        dollars += max(0.0, min(flag_requests, limit) - below) * each
        below = limit
    return dollars


def is_refused(contestant: str, fleet: Fleet) -> bool:
    """Whether PostHog answers some polls with 429, because they exceed a team's limits.

    If each process asks for itself, PostHog must answer all polls of a minute, and after a change all of them in full.
    """
    each_minute = fleet.workers * 60 / (fleet.poll + fleet.fetch)
    return contestant == "none" and (each_minute > LIMIT_UNCHANGED or fleet.workers > LIMIT_FULL)


def table(fleets: Sequence[Fleet]) -> str:
    """Return the table in Markdown: a row for each contestant, a column for each fleet."""
    lines = [
        "| flag requests a month | " + " | ".join(f"{fleet.workers:,} workers" for fleet in fleets) + " |",
        "|---" * (len(fleets) + 1) + "|",
    ]
    for name, (title, _) in CONTESTANTS.items():
        cells = [_cell(name, fleet) for fleet in fleets]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(contestant: str, fleet: Fleet) -> str:
    count = month(contestant, fleet).flag_requests
    refused = " (429s)" if is_refused(contestant, fleet) else ""
    return f"{round(count, -3):,.0f}: ${price(count):,.0f}{refused}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="A month of flag requests, and what it costs.")
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 100, 1000], help="sizes of the fleets")
    parser.add_argument("--poll", type=float, default=30.0, help="seconds between two polls")
    parser.add_argument("--deploys", type=int, default=20, help="rolling deploys a day")
    parser.add_argument("--changes", type=int, default=10, help="changes of flags a day")
    options = parser.parse_args(arguments)
    fleets = [Fleet(n, options.poll, options.deploys, options.changes) for n in options.workers]
    print(table(fleets))


if __name__ == "__main__":
    main()
