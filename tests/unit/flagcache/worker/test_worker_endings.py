"""How a process leaves its fleet: it hands over, and may return."""

from __future__ import annotations

import threading

import pytest

from flagcache.core import knowledge
from flagcache.core.knowledge import Knowledge
from flagcache.events import LeadershipLost
from flagcache.stores.base import Reply
from flagcache.stores.memory import MemoryStore
from tests.support.in_process_fleet import FLEET, Fleet, content


def test_a_leader_that_leaves_hands_over(fleet: Fleet) -> None:
    """Another leads at its next poll, and does not fetch before it is time."""
    leader, other = fleet.process(), fleet.process()
    leader.poll()
    other.poll()
    leader.worker.shutdown()
    assert [event.store for event in leader.events(LeadershipLost)] == [FLEET]
    assert other.poll() is False
    assert other.worker.know.view(FLEET).leads
    fleet.next_interval()
    assert other.poll() is True


def test_a_deputy_that_has_left_asks_its_store_nothing_at_exit(fleet: Fleet) -> None:
    """Its store may be gone by then, which would be logged."""
    deputy = fleet.process()
    deputy.poll()
    state = deputy.worker._state  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    view = state.know.view(FLEET)._replace(leads=False, deputy=True)
    state.update(lambda know: know.with_view(FLEET, view))
    deputy.link.calls.clear()
    deputy.worker.shutdown()
    deputy.worker.leave(at_exit=True)
    assert deputy.link.calls == ["release"]


def test_a_leader_that_leaves_in_mid_fetch_is_followed_at_once(fleet: Fleet) -> None:
    """Its grant came to nothing, so that the next leader need not wait for the interval."""
    leader, other = fleet.process(), fleet.process()
    assert leader.worker.should_fetch() is True
    leader.worker.shutdown()
    assert other.poll() is True


@pytest.mark.parametrize("at_exit", [True, False], ids=["at exit", "shutdown"])
def test_who_leaves_in_the_midst_of_a_poll_keeps_no_lease(fleet: Fleet, at_exit: bool) -> None:
    """The poll of another thread may take the lease after the goodbye has begun: that is given up as well."""
    process = fleet.process()
    asks, may_ask = threading.Event(), threading.Event()

    def hold(verb: str) -> None:
        if verb == "poll":
            asks.set()
            assert may_ask.wait(10)

    process.link.before = hold
    poll = threading.Thread(target=process.poll)
    leave = threading.Thread(target=lambda: process.worker.leave(at_exit=at_exit))
    poll.start()
    assert asks.wait(10)
    leave.start()
    leave.join(0.3)  # as long as it waits for the poll
    may_ask.set()
    poll.join(10)
    leave.join(10)
    assert fleet.store.inspect().leader == ""


def test_who_left_at_exit_asks_no_store_again(fleet: Fleet) -> None:
    """A daemon thread may still poll while the interpreter comes to its end."""
    process = fleet.process()
    process.poll()
    process.worker.leave(at_exit=True)
    asked = list(process.link.calls)
    fleet.next_interval()
    assert process.worker.should_fetch() is False
    assert process.worker.definitions() == content(1)
    assert process.link.calls == asked


def test_a_follower_that_leaves_takes_nothing_from_the_leader(fleet: Fleet) -> None:
    """It has nothing to give up, and asks for nothing."""
    leader, other = fleet.process(), fleet.process()
    leader.poll()
    other.poll()
    other.worker.shutdown()
    assert "release" not in other.link.calls
    assert fleet.store.inspect().leader == leader.worker.me


def test_leaving_closes_the_store_and_the_next_call_opens_it_again(fleet: Fleet) -> None:
    """The SDK may call after `shutdown`; what is held is held still."""
    process = fleet.process()
    process.poll()
    process.worker.shutdown()
    process.worker.shutdown()
    assert process.link.closed == 1  # a second shutdown has no lease to give up, and opens nothing
    fleet.next_interval()
    assert process.poll() is True
    assert process.flags == content(1)


def test_leaving_while_the_store_is_away_raises_nothing(fleet: Fleet) -> None:
    """The lease ends by itself then."""
    process = fleet.process()
    process.poll()
    process.link.cut = True
    process.worker.shutdown()
    assert process.worker.know.view(FLEET).leads is False
    assert process.link.closed == 1


def test_a_shutdown_from_a_signal_handler_does_not_deadlock(fleet: Fleet) -> None:
    """The handler runs on the thread that it interrupted, in the middle of any call of the store."""
    process = fleet.process()
    process.poll()
    fleet.next_interval()
    interrupted: list[str] = []

    def handler(verb: str) -> None:
        if verb != "release" and not interrupted:
            interrupted.append(verb)
            process.worker.shutdown()

    process.link.before = handler
    thread = threading.Thread(target=process.poll, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive(), "shutdown within a poll hangs"
    assert interrupted == ["poll"]


def test_a_shutdown_from_a_signal_handler_under_the_workers_lock_does_not_deadlock(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even while what the process knows is being swapped."""
    process = fleet.process()
    process.poll()
    fleet.next_interval()
    apply_reply = knowledge.apply_reply

    def interrupted(know: Knowledge, store_name: str, reply: Reply, now: float, asked: float) -> Knowledge:
        process.worker.shutdown()
        return apply_reply(know, store_name, reply, now, asked)

    monkeypatch.setattr(knowledge, "apply_reply", interrupted)
    thread = threading.Thread(target=process.poll, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive(), "shutdown within a poll hangs"


def test_a_shutdown_from_a_signal_handler_in_the_memory_store_does_not_deadlock(fleet: Fleet) -> None:
    """A shutdown in a signal handler doesn't deadlock under the memory store's lock, at a look at its clock."""
    process = fleet.process()
    process.poll()
    fleet.next_interval()
    interrupted: list[bool] = []

    def clock() -> int:
        if not interrupted:
            interrupted.append(True)
            process.worker.shutdown()
        return fleet.store_clock()

    process.link.store = MemoryStore(clock)
    thread = threading.Thread(target=process.poll, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive(), "shutdown within a poll hangs"
    assert interrupted
