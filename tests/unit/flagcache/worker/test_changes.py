"""Many flags removed at once: their return is logged in the same process."""

from __future__ import annotations

import logging

from flagcache.core.knowledge import Knowledge
from flagcache.events import DefinitionsChanged, FlagsRestored
from flagcache.vendor import Difference
from flagcache.worker.state import ProcessState
from tests.support.in_process_cache import InProcessCache
from tests.support.in_process_fleet import Fleet, content

KEYS = tuple(f"flag-{number}" for number in range(20))


class ReportingProcess:
    """One process, and what it reports of changes."""

    def __init__(self, fleet: Fleet) -> None:
        self.cache = InProcessCache(fleet)
        self.clock = fleet.clock
        self._changes = ProcessState(self.cache.config, Knowledge()).changes

    def change(
        self, flags: int, *, added: tuple[str, ...] = (), removed: tuple[str, ...] = (), own: bool = True
    ) -> None:
        """Hold other definitions, ten seconds later."""
        self.clock.advance(10)
        difference = Difference(added=added, removed=removed)
        event = DefinitionsChanged("team", "v", "before", own, difference, flags)
        self._changes.emit(event, content(1))

    @property
    def restored(self) -> list[FlagsRestored]:
        """What it says of their return."""
        return [event for event in self.cache.seen if isinstance(event, FlagsRestored)]


def test_the_return_of_all_flags_is_an_error_with_its_length(fleet: Fleet) -> None:
    """The return of all flags is an ERROR with its duration, also if another process fetched them."""
    process = ReportingProcess(fleet)
    process.change(0, removed=KEYS)
    process.change(1, added=("another",), removed=())
    assert process.restored == []
    process.change(21, added=KEYS, own=False)
    assert process.restored == [FlagsRestored("team", 20, "flags_gone", logging.ERROR, 20, 20)]
    process.change(22, added=("more",))
    assert len(process.restored) == 1


def test_the_return_of_most_flags_is_a_warning(fleet: Fleet) -> None:
    """The return of at least half of them, in one change or several, is a WARNING; later losses count too."""
    process = ReportingProcess(fleet)
    process.change(5, removed=KEYS[5:])
    process.change(0, removed=KEYS[:5])
    process.change(6, added=KEYS[:6])
    assert process.restored == []
    process.change(10, added=KEYS[6:10])
    assert process.restored == [FlagsRestored("team", 30, "flags_gone", logging.ERROR, 10, 20)]
    process.change(0, removed=KEYS[:10])
    process.change(10, added=KEYS[:10])
    process.change(4, removed=KEYS[:6])
    process.change(10, added=KEYS[:6])
    assert [event.level for event in process.restored] == [logging.ERROR, logging.ERROR, logging.WARNING]


def test_flags_that_another_process_found_gone_are_its_to_tell(fleet: Fleet) -> None:
    """Only the process that reported the loss reports the return; this one said nothing."""
    process = ReportingProcess(fleet)
    process.change(0, removed=KEYS, own=False)
    process.change(20, added=KEYS)
    assert process.restored == []
