"""When a process believes a notice of another one's grant, which any client with the right to publish can send."""

from __future__ import annotations

from flagcache.core.knowledge import StoreView
from flagcache.worker.notices import Notices
from flagcache.worker.poll import StorePoller
from flagcache.worker.publish import Publisher
from flagcache.worker.state import ProcessState
from flagcache.worker.trust import Trust
from tests.support.in_process_fleet import FLEET, Fleet

EVERY = 30.0


class ProcessNotices:
    """The notices of one process that holds what was confirmed this many refresh intervals ago."""

    def __init__(self, fleet: Fleet, confirmed: float, *, emptied: bool) -> None:
        process = fleet.process()
        process.poll()
        process.poll()  # which finds what the first one has brought
        know, config = process.worker.know, process.config
        fleet.clock.advance(confirmed * EVERY)
        if emptied:
            know = know.with_view(FLEET, know.view(FLEET)._replace(stored=None))
        self.now = fleet.clock()
        self.state = ProcessState(config, know)
        poller = StorePoller(config, self.state, Publisher(config, self.state), Trust(config, self.state))
        self.notices = Notices(config, self.state, poller)

    def believes(self, as_of: str = "1") -> bool:
        """Whether it counts this grant as the fleet's latest."""
        self.notices.granted(as_of)
        return self.state.know.granted == self.now

    def lead(self) -> None:
        """Have the lease of the fleet's store."""
        self.state.update(lambda know: know.with_view(FLEET, know.view(FLEET)._replace(leads=True)))

    @property
    def view(self) -> StoreView:
        """What it knows of the fleet's store."""
        return self.state.know.view(FLEET)


def test_a_store_that_was_emptied_is_believed_however_old_the_confirmation(fleet: Fleet) -> None:
    """Under eviction each process would fetch for itself: a store that forgets keeps no confirmation."""
    assert ProcessNotices(fleet, 100.0, emptied=True).believes()


def test_a_store_that_has_definitions_is_believed_while_fetches_bring_something(fleet: Fleet) -> None:
    """It may have been emptied since the last poll: until two intervals have passed without a confirmation."""
    assert ProcessNotices(fleet, 1.9, emptied=False).believes()


def test_a_store_that_has_definitions_is_not_believed_for_longer(fleet: Fleet) -> None:
    """A flood of such notices puts off the fleet's fetch for two intervals, and not for good."""
    assert not ProcessNotices(fleet, 2.1, emptied=False).believes()


def test_who_holds_nothing_believes_no_notice(fleet: Fleet) -> None:
    """Its own first fetch waits for none."""
    notices = ProcessNotices(fleet, 0.5, emptied=True)
    notices.state.update(lambda know: know._replace(held=None))
    assert not notices.believes()


def test_a_leader_gives_way_to_the_holder_of_another_grant(fleet: Fleet) -> None:
    """A leader gives way to the holder of another grant; after its own grant it stays leader."""
    for own in (True, False):
        notices = ProcessNotices(fleet, 0.5, emptied=True)
        notices.lead()
        assert notices.believes(str(notices.view.last_grant) if own else "1")
        assert notices.view.leads is own
