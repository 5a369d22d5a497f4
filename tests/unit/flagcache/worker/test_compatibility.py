"""Old and new SDKs in one fleet, whose SDKs fetch: a newer SDK's keys are not lost to an older one."""

from __future__ import annotations

import pytest

from flagcache.core.knowledge import Held
from flagcache.events import LeadershipLost, LeadershipTaken
from flagcache.vendor import Definitions
from flagcache.worker.compatibility import KeysMissing
from tests.support.in_process_fleet import FLEET, Fleet, ManualVendor, Process, content

OLD = ManualVendor("sdk/1", {"flags"})
NEW = ManualVendor("sdk/2", {"flags", "matching"})
FUTURE = ManualVendor("sdk/3", {"flags", "matching", "sixth"})


def whole(revision: int) -> Definitions:
    """All that the vendor serves."""
    return content(revision, matching=2, sixth="kept")


@pytest.fixture(autouse=True)
def all_keys(fleet: Fleet) -> None:
    """The vendor serves more keys than an old SDK knows."""
    fleet.upstream.serves = whole(1)


def started(fleet: Fleet, vendor: ManualVendor) -> Process:
    """A worker that has polled once."""
    process = fleet.process(vendor=vendor)
    process.poll()
    return process


def pass_time(fleet: Fleet, processes: list[Process], intervals: float) -> None:
    """Let all poll every third of an interval; the vendor's answers never go backwards in any worker."""
    for _ in range(round(intervals * 3)):
        fleet.clock.advance(fleet.settings.refresh_interval / 3)
        for process in processes:
            process.poll()


def held(process: Process) -> Held:
    """What it holds."""
    assert process.worker.know.held is not None
    return process.worker.know.held


def leads(process: Process) -> bool:
    """Whether it has the lease."""
    return process.worker.know.view(FLEET).leads


def test_an_old_one_takes_what_a_newer_one_wrote(fleet: Fleet) -> None:
    """An older SDK takes a newer one's definitions with all keys, and ignores those that it doesn't know."""
    started(fleet, NEW)
    old = started(fleet, OLD)
    assert old.flags == content(1, matching=2)
    assert fleet.upstream.requests == 1


def test_an_old_one_leaves_the_lead_to_newer_ones(fleet: Fleet) -> None:
    """In many intervals without a change too, a worker that would lose keys doesn't challenge the leader."""
    new, old = started(fleet, NEW), started(fleet, OLD)
    pass_time(fleet, [old, new], 40)
    assert leads(new)
    assert not old.events(LeadershipTaken)
    fleet.upstream.serves = whole(2)
    pass_time(fleet, [old, new], 2)
    assert old.flags == new.flags == content(2, matching=2)


def test_a_newer_one_soon_has_its_turn(fleet: Fleet) -> None:
    """Where an old one leads and PostHog answers, it brings what is missing with its second poll; then it leads."""
    old = started(fleet, OLD)
    pass_time(fleet, [old], 5)
    new = started(fleet, NEW)
    assert new.flags == content(1)
    assert [(event.keys, event.kept) for event in new.events(KeysMissing)] == [(("matching",), False)]
    pass_time(fleet, [old, new], 1)
    assert new.flags == content(1, matching=2)
    pass_time(fleet, [old, new], 1)
    assert old.flags == content(1, matching=2)
    assert leads(new)
    assert not leads(old)
    assert old.events(LeadershipLost)


def test_newer_ones_take_one_turn_each(fleet: Fleet) -> None:
    """Ten newcomers that cannot fetch do not overrun the vendor: three requests an interval at most."""
    old = started(fleet, OLD)
    pass_time(fleet, [old], 3)
    newcomers = [started(fleet, NEW) for _ in range(10)]
    fleet.upstream.down, before = True, fleet.upstream.requests
    for _ in range(5):
        pass_time(fleet, [old, *newcomers], 1)
    assert fleet.upstream.requests - before <= 3 * 5
    fleet.upstream.down = False
    pass_time(fleet, [old, *newcomers], 12)
    assert {str(each.flags) for each in newcomers} == {str(content(1, matching=2))}


def test_old_ones_alone_go_on_after_the_challenge_time(fleet: Fleet) -> None:
    """A deployment is rolled back: no worker is left that could bring all keys, and changes arrive again."""
    new, *olds = started(fleet, NEW), started(fleet, OLD), started(fleet, OLD)
    new.worker.shutdown()
    fleet.upstream.serves = whole(2)
    patience = fleet.settings.challenge_after / fleet.settings.refresh_interval
    pass_time(fleet, olds, patience - 1)
    assert [each.flags for each in olds] == [content(1, matching=2)] * 2
    pass_time(fleet, olds, 3)
    assert [each.flags for each in olds] == [content(2)] * 2
    fleet.upstream.serves = whole(3)
    pass_time(fleet, olds, 3)
    assert [each.flags for each in olds] == [content(3)] * 2


def test_an_old_one_that_starts_while_nobody_leads_gives_the_lease_back(fleet: Fleet) -> None:
    """It takes a free lease before it has read what is stored: at once the newer one leads again."""
    new = started(fleet, NEW)
    fleet.next_interval()
    new.worker.shutdown()
    old = started(fleet, OLD)
    assert fleet.upstream.requests == 1
    assert fleet.store.inspect().leader == ""
    assert old.flags == content(1, matching=2)


def test_who_holds_a_key_keeps_it(fleet: Fleet) -> None:
    """A newer worker that was away while old ones alone led does not lose the key, and brings it back."""
    new, old = started(fleet, NEW), started(fleet, OLD)
    new.link.cut = True
    fleet.upstream.serves = whole(2)
    pass_time(fleet, [old], 15)
    assert fleet.stored is not None
    assert fleet.stored.writer == "sdk/1"
    new.link.cut = False
    new.etag = "long forgotten"
    seen: list[object] = []
    for _ in range(9):
        pass_time(fleet, [new, old], 1 / 3)
        seen.append((new.flags or {}).get("matching"))
    assert set(seen) == {2}
    assert new.flags == content(2, matching=2)
    assert old.flags == content(2, matching=2)
    assert len(new.events(KeysMissing)) == 1


def test_what_people_cleared_is_not_kept(fleet: Fleet) -> None:
    """After a `clear` the older SDK's definitions are taken: what was held is void."""
    new, old = started(fleet, NEW), started(fleet, OLD)
    new.worker.shutdown()
    fleet.store.clear()
    pass_time(fleet, [old], 1)
    new.poll()
    assert new.flags == content(1)


def test_unknown_keys_are_told_once_and_sent_once(fleet: Fleet) -> None:
    """What is not taken is not sent again at each poll."""
    new, old = started(fleet, NEW), started(fleet, OLD)
    new.link.cut = True
    pass_time(fleet, [old], 15)
    new.link.cut, fleet.upstream.down = False, True
    replies = [len(new.link.asks)]
    pass_time(fleet, [new], 4)
    versions = [ask.held_version for ask in new.link.asks[replies[0] :]]
    assert fleet.stored is not None
    assert versions[0] != fleet.stored.version
    assert set(versions[1:]) == {fleet.stored.version}
    assert len(new.events(KeysMissing)) == 1


def test_three_generations_share_what_the_newest_brings(fleet: Fleet) -> None:
    """In whatever order they start, all end with the newest one's keys, and it leads."""
    old, new, future = (started(fleet, vendor) for vendor in (OLD, NEW, FUTURE))
    pass_time(fleet, [old, new, future], 6)
    assert [each.flags for each in (old, new, future)] == [whole(1)] * 3
    assert leads(future)
    assert held(old).meta.writer == "sdk/3"


def test_one_sdk_alone_knows_no_such_rules(fleet: Fleet) -> None:
    """What workers of one SDK wrote themselves is theirs to lead, whatever its keys."""
    first, second = started(fleet, OLD), started(fleet, OLD)
    first.worker.received(whole(2))
    pass_time(fleet, [first, second], 2)
    assert first.events(KeysMissing) == second.events(KeysMissing) == []
    assert leads(first)
