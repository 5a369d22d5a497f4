"""Who may fetch: one worker at a time, on the thread with the grant, and for a limited time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from flagcache.events import FetchFailed, LeadershipLost, LeadershipTaken
from flagcache.settings import SLOW_FETCH, Settings
from tests.support.in_process_fleet import FLEET, Fleet, content, in_thread
from tests.support.servers import until


def test_the_fleet_fetches_once_an_interval(fleet: Fleet) -> None:
    """However often and by however many it is asked, the vendor sees one request an interval."""
    processes = [fleet.process() for _ in range(5)]
    for interval in range(1, 6):
        for _ in range(3):
            for process in processes:
                process.poll()
        assert fleet.upstream.requests == interval
        fleet.next_interval()


def test_a_change_reaches_all_with_the_next_polls(fleet: Fleet) -> None:
    """After one interval the leader has it, and after one more poll all have."""
    processes = [fleet.process() for _ in range(5)]
    for process in processes:
        process.poll()
    fleet.upstream.serves = content(2)
    fleet.next_interval()
    for process in processes:
        process.poll()
    assert [process.flags for process in processes] == [content(2)] * 5


def test_the_lease_is_held_between_fetches(fleet: Fleet) -> None:
    """The same process leads from interval to interval; the others never fetch."""
    leader, *others = [fleet.process() for _ in range(3)]
    for _ in range(5):
        assert leader.poll() is True
        assert [other.poll() for other in others] == [False, False]
        fleet.next_interval()
    assert [event.store for event in leader.events(LeadershipTaken)] == [FLEET]
    assert not any(other.events(LeadershipTaken) for other in others)


def test_a_dead_leader_is_followed(fleet: Fleet) -> None:
    """When the lease of a silent process expires, another leads and fetches."""
    dead, other = fleet.process(), fleet.process()
    dead.poll()
    other.poll()
    fleet.clock.advance(fleet.settings.lease_for() - 1)
    assert other.poll() is False
    fleet.clock.advance(2)
    assert other.poll() is True


def test_a_grant_belongs_to_its_thread(fleet: Fleet) -> None:
    """A thread that was not sent is not let through by another's grant; it gets what the other brings."""
    process = fleet.process()
    assert process.worker.should_fetch() is True
    assert in_thread(process.worker.should_fetch) is False
    assert in_thread(process.worker.definitions) == {"flags": []}
    assert process.worker.definitions() is None
    process.worker.received(content(1))
    assert in_thread(process.worker.definitions) == content(1)


def test_threads_of_one_process_poll_together(fleet: Fleet) -> None:
    """Eight threads that ask at once make one poll, and one of them is sent to fetch."""
    process = fleet.process()
    polling, go_on = threading.Event(), threading.Event()

    def hold(verb: str) -> None:
        polling.set()
        assert go_on.wait(10)

    process.link.before = hold
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(process.worker.should_fetch)
        assert polling.wait(10)
        others = [pool.submit(process.worker.should_fetch) for _ in range(7)]
        until(lambda: all(other.running() for other in others), what="all threads to ask")
        go_on.set()
        assert first.result(10) is True
        assert [other.result(10) for other in others] == [False] * 7
    assert process.link.calls[0] == "poll"
    assert process.link.calls.count("poll") <= 1 + 7  # a thread that came later asks for itself
    assert fleet.store.inspect().granted_at > 0


def test_a_thread_waits_for_the_poll_under_way(fleet: Fleet) -> None:
    """While one thread's poll is under way, another's question makes no second one."""
    process = fleet.process()
    polling, go_on = threading.Event(), threading.Event()

    def hold(verb: str) -> None:
        polling.set()
        assert go_on.wait(10)

    process.link.before = hold
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(process.worker.should_fetch)
        assert polling.wait(10)
        second = pool.submit(process.worker.should_fetch)
        until(second.running, what="the second thread to ask")
        assert not second.done()
        go_on.set()
        assert (first.result(10), second.result(10)) == (True, False)
    assert process.link.calls == ["poll"]


def test_a_poll_under_way_holds_nobody_for_long(fleet: Fleet) -> None:
    """A thread waits for another's poll no longer than a poll can take."""
    fleet.settings = Settings(store_timeout=0.05, cold_start_wait=0.1)
    process = fleet.process()
    polling, go_on = threading.Event(), threading.Event()

    def hold(verb: str) -> None:
        polling.set()
        assert go_on.wait(10)

    process.link.before = hold
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(process.worker.should_fetch)
        assert polling.wait(10)
        assert pool.submit(process.worker.should_fetch).result(5) is False
        go_on.set()
        assert first.result(10) is True


def test_a_first_fetch_that_brings_nothing_has_failed(fleet: Fleet) -> None:
    """Without an entity tag, silence cannot mean "unchanged": the process gives up the lease, and another leads."""
    unable, able = fleet.process(), fleet.process()
    assert unable.worker.should_fetch() is True  # and its fetch fails
    assert able.worker.should_fetch() is False
    assert unable.worker.should_fetch() is False
    (failed,) = unable.events(FetchFailed)
    assert failed.retry_in > 0
    assert [event.store for event in unable.events(LeadershipLost)] == [FLEET]
    assert able.poll() is True
    assert able.flags == content(1)
    assert unable.poll() is False
    assert unable.flags == content(1)


def test_whoever_fails_stays_out_longer_each_time(fleet: Fleet) -> None:
    """A lone process without definitions tries again after pauses that double up to the ceiling, and reports once."""
    fleet.upstream.down = True
    unable = fleet.process()
    pauses: list[float] = []
    for _ in range(400):
        failures = unable.worker.know.failures
        unable.poll()
        if unable.worker.know.failures > failures:
            pauses.append(unable.worker.know.stay_out_until - fleet.clock())
        fleet.clock.advance(1)
    assert len(pauses) >= 5
    for number, pause in enumerate(pauses):
        expected = min(0.5 * 2**number, fleet.settings.refresh_interval)
        assert 0.5 * expected <= pause <= expected
    assert len(unable.events(FetchFailed)) == 1
    fleet.upstream.down = False
    for _ in range(2):  # with the first poll it may only learn that its latest fetch had failed
        fleet.clock.advance(2 * fleet.settings.refresh_interval)
        unable.poll()
    assert unable.flags == content(1)


def test_failing_processes_fetch_no_more_than_three_times_an_interval(fleet: Fleet) -> None:
    """With the vendor down, each of twenty processes may have its turn, but not all in one interval."""
    fleet.upstream.down = True
    processes = [fleet.process() for _ in range(20)]
    for _ in range(10):
        for process in processes:
            process.poll()
    assert fleet.upstream.requests <= 3


def test_silence_after_a_first_success_is_no_failure(fleet: Fleet) -> None:
    """For a process with an entity tag silence means "unchanged": it keeps its lease."""
    process = fleet.process()
    for _ in range(5):
        assert process.poll() is True
        fleet.next_interval()
    assert not process.events(FetchFailed)


def test_a_leader_that_fails_unseen_is_challenged(fleet: Fleet) -> None:
    """Once it had a success, its failures look like "unchanged": after ten intervals another is given a turn."""
    failing, able = fleet.process(), fleet.process()
    failing.poll()
    able.poll()
    fleet.upstream.serves = content(2)
    for _ in range(13):
        fleet.next_interval()
        failing.worker.should_fetch()  # its fetch fails each time
        able.poll()
    assert able.flags == content(2)
    failing.poll()
    assert failing.flags == content(2)


def test_a_fetch_that_takes_too_long_does_not_hold_the_process(fleet: Fleet) -> None:
    """A thread that never comes back does not keep its process from fetching again."""
    process = fleet.process()
    assert in_thread(process.worker.should_fetch) is True
    fleet.clock.advance(max(SLOW_FETCH, fleet.settings.refresh_interval) + 1)
    assert process.worker.should_fetch() is True


def test_a_grant_whose_answer_was_lost_is_given_again(fleet: Fleet) -> None:
    """If the reply with a grant never came, the next poll brings the same grant."""
    process = fleet.process()
    process.poll()
    fleet.next_interval()
    process.link.lose_answers = True
    assert process.worker.should_fetch() is False
    granted = fleet.store.inspect().granted_at
    assert granted == fleet.store_clock()
    process.link.lose_answers = False
    fleet.clock.advance(1)
    assert process.worker.should_fetch() is True
    process.worker.received(content(2))
    stored = fleet.stored
    assert stored is not None
    assert stored.as_of == fleet.store.inspect().granted_at == granted


@pytest.mark.parametrize("wrong", [None, [], {}, {"flags": None}])
def test_what_is_no_definitions_is_refused(fleet: Fleet, wrong: object) -> None:
    """It raises, for the coordinator to log, and neither memory nor store changes."""
    process = fleet.process()
    process.poll()
    before = fleet.stored
    with pytest.raises(Exception, match="flags are not a list"):
        process.worker.received(wrong)
    assert process.worker.definitions() == content(1)
    assert fleet.stored == before


def test_what_is_being_published_counts_as_under_way(fleet: Fleet) -> None:
    """A thread that asks while another one delivers the first definitions is not sent to fetch them as well."""
    process = fleet.process()
    assert process.worker.should_fetch() is True
    answers: list[bool] = []

    def ask(verb: str) -> None:
        if verb == "publish":
            answers.append(in_thread(process.worker.should_fetch))

    process.link.before = ask
    process.worker.received(content(1))
    assert answers == [False]
    assert fleet.stored is not None
