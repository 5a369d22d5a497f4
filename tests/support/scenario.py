"""One scenario: a fleet, its PostHog and its store, and the record for the final check.

with Scenario.of(mode, backends, rng) as scenario:
    ...                              # a fault in some process, at some step
    scenario.check_recovery(server)  # all is well again soon, and no rule was broken meanwhile
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from typing_extensions import Self

from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support import final_check
from tests.support.attached_clients import attached
from tests.support.final_check import MemberRecord, ScenarioRecord
from tests.support.fleet_tasks import all_hold, contexts, history, load, logs, status
from tests.support.real_fleet import Fleet, Member, MemberContext
from tests.support.servers import RedisServer, until

__all__ = ["BUSY", "EVERY", "SIZE", "Backends", "Mode", "Scenario"]

EVERY = 0.5
"""Seconds between two fetches of a fleet, and between two polls of a client."""

SIZE = 5
"""Members of a fleet: more than the three that may ever ask PostHog in one interval."""

CHALLENGE = 1.5
"""Seconds; also the length of a lease in protocol mode."""

BUSY = 3.0
"""Seconds that a machine with much else to do may take longer."""


class Mode(Enum):
    """How the clients use the cache: attached, or by the SDK's protocol alone."""

    ATTACHED = "attached"
    PROTOCOL = "protocol"

    @property
    def turn(self) -> float:
        """Seconds until another worker gets a turn after one that can't fetch."""
        return EVERY if self is Mode.ATTACHED else CHALLENGE

    @property
    def converges_within(self) -> float:
        """Seconds in which all hold what PostHog serves, once nothing is wrong any more."""
        return 2 * self.turn + BUSY


@dataclass(frozen=True, slots=True)
class Backends:
    """The PostHog and the store of a fleet."""

    posthog: StandInControl
    store_url: str
    namespace: str


class Scenario:
    """One fleet, and everything that is needed to check it in the end.

    Args:
        mode: How the clients use the cache: attached, or by the SDK's protocol alone.
        backends: The fleet's PostHog and store.
        rng: The source of each choice, so that the same seed makes the same ones.
        fleet: The members.
    """

    def __init__(self, mode: Mode, backends: Backends, rng: random.Random, fleet: Fleet) -> None:
        self.mode = mode
        self.backends = backends
        self.posthog = backends.posthog
        self.rng = rng
        self.fleet = fleet
        self.revision = 1
        self._ended: list[MemberRecord] = []
        self._alone: list[tuple[float, float]] = []
        self._one_key = False
        self._expected: tuple[str, ...] = ()

    @classmethod
    @contextmanager
    def of(cls, mode: Mode, backends: Backends, rng: random.Random, size: int = SIZE) -> Generator[Self]:
        """Start a fleet of this many, which has loaded revision 1."""
        with Fleet(_contexts(mode, backends), size) as fleet:
            scenario = cls(mode, backends, rng, fleet)
            fleet.call(load)
            yield scenario

    @classmethod
    @contextmanager
    def forked(cls, mode: Mode, backends: Backends, rng: random.Random, size: int = 2) -> Generator[Self]:
        """Make and load a client in this process, and fork this many children."""
        context = _contexts(mode, backends)(0)
        try:
            load(context)
            with Fleet(lambda _index: context, size) as fleet:
                scenario = cls(mode, backends, rng, fleet)
                scenario._one_key = True
                yield scenario
        finally:
            context.client.shutdown()

    # --- what happens ------------------------------------------------------------------------------------------------

    def log(self, what: str) -> None:
        """Record an action, for the message of a failure."""
        sys.stdout.write(f"{time.monotonic():.3f} {what}\n")

    def change(self) -> None:
        """Let PostHog move forward by one revision."""
        self.revision += 1
        self.log(f"PostHog serves revision {self.revision}")
        self.posthog.serve(make_definitions(5, revision=self.revision))

    def kill(self, member: Member) -> None:
        """End a member as kill -9 does, and keep what it saw."""
        self.log(f"kill {member}")
        self._ended.append(_record_of(member))
        member.kill()

    def freeze(self, member: Member) -> None:
        """Freeze a member."""
        self.log(f"freeze {member}")
        member.freeze()

    def thaw(self, member: Member) -> None:
        """Let a frozen member continue."""
        self.log(f"thaw {member}")
        member.thaw()

    def join(self, size: int = 1) -> None:
        """Start this many more, and let them load."""
        self.log(f"{size} more")
        for member in self.fleet.join(size):
            member.call(load)

    def join_up_to_date(self, size: int = 1) -> None:
        """Start this many more while nothing is wrong, so that they load the newest at once."""
        self.log(f"{size} more, who must have revision {self.revision}")
        came = [member.call(load) for member in self.fleet.join(size)]
        assert came == [self.revision] * size, f"of {size} newcomers {came} was loaded, not revision {self.revision}"

    @contextmanager
    def store_unreachable(self) -> Generator[None]:
        """Meanwhile the store cannot be reached, so that no two members know of each other; until all have it back."""
        began = time.monotonic()
        try:
            yield
        finally:
            until(self._all_have_store, 4 * EVERY + BUSY, every=0.05, what="all to have their store back")
            self._alone.append((began, time.monotonic() + 2 * EVERY))

    def expect(self, *errors: str) -> None:
        """Expect that members log errors with these words; any other error is a fault."""
        self._expected += errors

    def expect_no_coordination(self) -> None:
        """From the start to the end no two members know of each other."""
        self._alone.append((0.0, float("inf")))

    def let_pass(self, seconds: float) -> None:
        """Wait for a while, so that what comes next comes at any moment."""
        threading.Event().wait(seconds)

    def _all_have_store(self) -> bool:
        return all(each.store_answers for each in self.fleet.call(status))

    # --- how it ends -------------------------------------------------------------------------------------------------

    def settle(self, members: Iterable[Member] | None = None, *, unable: int = 0) -> None:
        """Wait until these, or all, hold what PostHog serves, within the promised time.

        Args:
            members: The members; by default the whole fleet.
            unable: How many members cannot fetch, and may get a turn nevertheless.
        """
        within = self.mode.converges_within + unable * self.mode.turn
        all_hold(self.fleet if members is None else list(members), self.revision, within=within)

    def check_recovery(self, server: RedisServer | None = None) -> None:
        """End the trouble: a change reaches all in time, all leave, and the rules have been kept.

        Args:
            server: The fleet's Redis, to see what is left behind there.
        """
        self.settle()
        self.change()
        self.settle()
        record = ScenarioRecord(
            members=[*self._ended, *map(_record_of, self.fleet)],
            requests=self.posthog.served(),
            truths=self.posthog.truths(),
            interval=EVERY,
            alone=self._alone,
            one_key=self._one_key,
            expected=self._expected,
        )
        faults = [*final_check.faults(record), *final_check.left_behind(self.fleet, server, self.backends.namespace)]
        assert not faults, "\n".join(faults)


def _contexts(mode: Mode, backends: Backends) -> Callable[[int], MemberContext]:
    where = (backends.posthog, backends.store_url, backends.namespace)
    if mode is Mode.ATTACHED:
        return attached(*where, every=EVERY, store_timeout=0.3, fetch_timeout=1.0)
    return contexts(*where, every=EVERY, store_timeout=0.3, lease=CHALLENGE, challenge_after=CHALLENGE)


def _record_of(member: Member) -> MemberRecord:
    return MemberRecord(repr(member), member.index, member.call(history), member.call(logs))
