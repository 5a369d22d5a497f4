"""The system refuses threads for a while: that costs push or a fetch, never the polls, and it recovers."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

import pytest

from flagcache.cli.health import HealthServer
from flagcache.errors import FlagcacheError
from flagcache.events import FetchFailed
from flagcache.runtime.log_prefix import prefix
from flagcache.settings import Settings
from flagcache.status import Role
from flagcache.vendor import Refused
from flagcache_posthog._lifecycle import load_clients
from flagcache_posthog.asgi import flags_lifespan
from flagcache_posthog.definitions import PostHogVendor
from flagcache_posthog.fetcher import PostHogFetcher
from flagcache_posthog.refresher import Project, Refresher
from flagcache_posthog.testing import RemoteStandIn, make_definitions
from tests.support.attached_clients import AttachedContext, attached, events, listens
from tests.support.fleet_tasks import all_hold, asks, load, never_lost_flags, revision, status, trouble
from tests.support.real_fleet import Fleet, MemberContext
from tests.support.refused_threads import allow_threads, forbid_threads, refuse_threads
from tests.support.servers import RedisServer, free_port, until
from tests.support.user_programs import get

pytestmark = pytest.mark.usefixtures("no_threads_left")

EVERY = 0.5


def forbid(_context: MemberContext) -> None:
    """Let no thread start in the member."""
    forbid_threads()


def allow(_context: MemberContext) -> None:
    """Let threads start again."""
    allow_threads()


def without_thread(context: MemberContext) -> list[FetchFailed]:
    """Return the fetches of the member that failed for lack of a thread."""
    return [event for event in events(context) if isinstance(event, FetchFailed) and "thread" in event.reason]


def test_a_worker_goes_on_after_a_fetch_that_got_no_thread(
    posthog: RemoteStandIn, redis_server: RedisServer, namespace: str
) -> None:
    """A fetch that cannot start has failed: when threads can be had again, the worker fetches, and takes changes."""
    make = attached(posthog, redis_server.tcp_url, namespace, every=EVERY)
    with Fleet(make, 1) as fleet:
        [member] = fleet.members
        member.call(load)
        member.call(forbid)
        until(lambda: member.call(without_thread), 20 * EVERY, every=0.05, what="a fetch to fail")
        member.call(allow)
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=20 * EVERY)
        assert member.call(listens)
        assert never_lost_flags(member)
        assert not [line for line in trouble(member) if "Traceback" in line]
        assert len(member.call(without_thread)) == 1


def test_another_worker_fetches_meanwhile(posthog: RemoteStandIn, redis_server: RedisServer, namespace: str) -> None:
    """A leader that gets no thread gives up its lease: another one fetches, and shares changes."""
    make = attached(posthog, redis_server.tcp_url, namespace, every=EVERY)
    with Fleet(make, 2) as fleet:
        first, second = fleet.members
        first.call(load)
        second.call(load)
        assert first.call(status).role is Role.LEADER
        first.call(forbid)
        until(lambda: second.call(status).role is Role.LEADER, 20 * EVERY, every=0.05, what="the other to lead")
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=20 * EVERY)


class _Refreshing:
    """A refresher that runs in a member, in addition to the member's commands."""

    def __init__(self, refresher: Refresher) -> None:
        self.refresher = refresher
        threading.Thread(target=refresher.run, daemon=True).start()


_refreshing: list[_Refreshing] = []


def refresh(_context: MemberContext, host: str, url: str, namespace: str) -> None:
    """Run a refresher in the member."""
    project = Project("phc_test", "phs_refresher", host)
    _refreshing.append(_Refreshing(Refresher(url, namespace, project, refresh_interval=EVERY)))


def is_well(_context: MemberContext) -> bool:
    """Whether the refresher has a fresh store."""
    return _refreshing[0].refresher.ready


def test_a_refresher_goes_on_after_a_fetch_that_got_no_thread(
    posthog: RemoteStandIn, redis_server: RedisServer, namespace: str
) -> None:
    """A refresher asks PostHog again as soon as the system allows threads."""
    make: Callable[[int], MemberContext] = attached(posthog, redis_server.tcp_url, f"{namespace}-other")
    with Fleet(make, 1) as fleet:
        [member] = fleet.members
        member.call(refresh, posthog.url, redis_server.tcp_url, namespace)
        until(lambda: member.call(is_well), 20 * EVERY, every=0.05, what="definitions in the store")
        member.call(forbid)
        until(lambda: not member.call(is_well), 40 * EVERY, every=0.05, what="them to be stale")
        before = len(asks(posthog))
        member.call(allow)
        until(lambda: len(asks(posthog)) > before + 2, 20 * EVERY, every=0.05, what="requests")
        until(lambda: member.call(is_well), 20 * EVERY, every=0.05, what="definitions to be fresh")


def test_a_listener_that_gets_no_thread_costs_push_and_no_poll(
    posthog: RemoteStandIn,
    redis_server: RedisServer,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The client's own polls bring changes, and each tries again. The trouble and its end are logged once."""
    allow_listener = refuse_threads(monkeypatch, "flagcache-listener")
    with closing_context(attached(posthog, redis_server.url, namespace, every=EVERY)(0)) as context:
        load(context)
        posthog.serve(make_definitions(5, revision=2))
        until(lambda: revision(context) == 2, 10 * EVERY, what="the change")
        assert not listens(context)
        messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        [lost] = messages
        assert lost.startswith(f"{prefix(namespace)}: no thread to listen for changes (can't start new thread)")
        allow_listener()
        again = f"{prefix(namespace)}: listening for changes again after "
        until(lambda: any(m.startswith(again) for m in caplog.messages), 10 * EVERY, what="it to say so")
        assert listens(context)


def test_a_fetch_names_the_thread_that_it_lacked(posthog: RemoteStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch without a thread for its deadline is not made, and says why."""
    refuse_threads(monkeypatch, "flagcache-deadline")
    fetcher = PostHogFetcher(
        api_key="phc_test",
        secret_key="phs_test",
        host=posthog.url,
        vendor=PostHogVendor(),
        settings=Settings(),
        namespace="team",
    )
    result = fetcher.fetch("")
    assert isinstance(result, Refused)
    assert result.reason == "OSError: no thread for the deadline: can't start new thread"


def test_clients_without_a_thread_are_loaded_one_after_the_other(
    posthog: RemoteStandIn, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper that loads several clients loads them all."""
    refuse_threads(monkeypatch, "flagcache-load")
    with ExitStack() as ends:
        contexts = [
            ends.enter_context(closing_context(attached(posthog, "memory://", f"{namespace}-{number}")(number)))
            for number in range(3)
        ]
        load_clients([context.client for context in contexts])
        assert [revision(context) for context in contexts] == [1, 1, 1]


def test_a_lifespan_without_a_thread_loads_and_ends(
    posthog: RemoteStandIn, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application starts, with flags, and ends in order."""
    refuse_threads(monkeypatch, "flagcache-lifespan")
    context = attached(posthog, "memory://", namespace)(0)

    async def live() -> int | None:
        async with flags_lifespan(context.client)(None):
            return revision(context)

    assert asyncio.run(live()) == 1
    assert context.client.poller is not None
    assert not context.client.poller.is_alive()


def test_probes_are_answered_again_after_some_got_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many connections were closed for lack of a thread, the next is answered; a server without one says so."""
    port = free_port()
    with HealthServer(("127.0.0.1", port), {"/": lambda: (True, {})}):
        allow_handlers = refuse_threads(monkeypatch, "process_request_thread")
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.settimeout(10)
                assert connection.recv(1) == b""
        allow_handlers()
        assert get(port) == '{"ok": true}\n'
    refuse_threads(monkeypatch, "flagcache-health")
    with pytest.raises(FlagcacheError, match="no thread"), HealthServer(("127.0.0.1", port), {}):
        pass


@contextmanager
def closing_context(context: AttachedContext) -> Generator[AttachedContext]:
    """Shut its client down at the end."""
    try:
        yield context
    finally:
        context.client.shutdown()
