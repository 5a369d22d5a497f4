"""What a poll knows of its clients: as they are when it begins, looked at once."""

from __future__ import annotations

import pytest

from flagcache.clients import ClientSnapshot
from flagcache.events import FetchFailed
from flagcache.runtime.callers import thread_record
from flagcache.stores.base import Ask
from flagcache.vendor import Definitions, Fetcher, FetchResult, Unchanged
from tests.support.in_process_fleet import Fleet, Process, in_thread


class ChangingClient:
    """A client without a listener, whose poller runs and which a test changes."""

    listening = asking = False
    polls = polling = has_no_flags = True
    project = ""

    def __init__(self, interval: float = 30.0) -> None:
        self.interval = interval
        self.gone = False
        self.can_fetch = True
        self.looks = 0

    @property
    def poll_interval(self) -> float:
        """As the protocol says; counts how often it is read."""
        self.looks += 1
        return self.interval

    @property
    def fetcher(self) -> Fetcher | None:
        """As the protocol says."""
        return UnchangedFetcher() if self.can_fetch else None

    def has(self, definitions: Definitions) -> bool:
        """It has none."""
        return False

    def differs_from(self, definitions: Definitions) -> bool:
        """It has none."""
        return True

    def close(self) -> None:
        """As the protocol says."""
        self.gone = True

    def poll(self) -> None:
        """It has no listener, so it isn't called."""


class UnchangedFetcher:
    """A fetcher whose vendor says that nothing changed."""

    def fetch(self, etag: str) -> FetchResult:
        """As the protocol says."""
        return Unchanged()

    def cancel(self) -> None:
        """Nothing to end."""


def attached(fleet: Fleet, client: ChangingClient) -> Process:
    """A process with this client."""
    process = fleet.process()
    process.config.clients.add(client)
    return process


def asked(process: Process) -> Ask:
    """What the process asks at its next poll."""
    process.worker.poll()
    return process.link.asks[-1]


def test_a_poll_looks_at_its_clients_once(fleet: Fleet) -> None:
    """The poll itself, the length of the lease and the age from which definitions are stale go by one look."""
    fleet.occupy()
    client = ChangingClient()
    process = attached(fleet, client)
    process.worker.poll()
    assert (client.looks, len(process.link.asks)) == (1, 1)


def test_each_poll_sees_what_changed_since_the_last_one(fleet: Fleet) -> None:
    """A longer poll interval, a key that was taken away and given back, and the end of the client."""
    fleet.occupy()
    client = ChangingClient()
    process = attached(fleet, client)
    before = asked(process)
    client.interval = 100.0
    slower = asked(process)
    client.can_fetch = False
    keyless = asked(process)
    client.can_fetch = True
    again = asked(process)
    client.gone = True
    alone = asked(process)
    assert [ask.lease for ask in (before, slower)] == [60_000, 200_000]
    assert [(ask.reports, ask.may_lead) for ask in (slower, keyless, again, alone)] == [
        (True, True),
        (False, False),
        (True, True),
        (False, True),
    ]


def test_between_polls_each_look_is_fresh(fleet: Fleet) -> None:
    """What a status or the listener asks for is never what an earlier poll saw."""
    fleet.occupy()
    client = ChangingClient()
    process = attached(fleet, client)
    process.worker.poll()
    client.interval, client.can_fetch = 100.0, False
    assert (process.config.lease, process.config.polls_every) == (200.0, 100.0)
    assert not process.config.clients.can_fetch
    client.gone = True
    assert process.config.clients.snapshot == ClientSnapshot(
        (), (), (), can_fetch=False, polling=False, poll_interval=None
    )


def test_only_the_thread_that_polls_keeps_its_look(fleet: Fleet) -> None:
    """Another thread sees the clients as they are now; the polling thread too, if it attaches one meanwhile."""
    clients, first, second = fleet.process().config.clients, ChangingClient(), ChangingClient(interval=60.0)
    clients.add(first)
    with clients.one_snapshot(thread_record()) as seen:
        first.interval = 45.0
        assert clients.snapshot is seen
        assert in_thread(lambda: clients.snapshot.poll_interval) == 45.0
        clients.add(second)
        assert clients.snapshot.live == (first, second)
    assert clients.snapshot.poll_interval == 60.0


@pytest.mark.parametrize("loses", ["its key", "its client"])
def test_a_grant_that_no_client_can_use_any_more_is_given_back(fleet: Fleet, loses: str) -> None:
    """The process says so at once, and another worker gets the next grant."""
    client = ChangingClient()
    process, other = attached(fleet, client), fleet.process()

    def lose(verb: str) -> None:
        if verb == "poll":
            client.can_fetch, client.gone = False, loses == "its client"

    process.link.before = lose
    assert not process.worker.should_fetch()
    assert process.link.calls == ["poll", "fail"]
    assert [event.reason for event in process.events(FetchFailed)] == ["no client can fetch any more"]
    assert other.poll()
