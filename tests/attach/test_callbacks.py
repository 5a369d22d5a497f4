"""What `on_event` and a logging filter may do: evaluate a flag, raise, and be slow."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import cast

import pytest
from posthog import Posthog

from flagcache.events import DefinitionsChanged, Event, FetchFailed, LeadershipTaken
from flagcache.settings import Options
from flagcache_posthog import from_url
from flagcache_posthog.testing import RemoteStandIn, StandInControl, make_definitions, revision_of
from tests.support.servers import until

pytestmark = pytest.mark.usefixtures("no_threads_left")

EVERY = 0.5
AT_ONCE = 5.0
"""Seconds that a first evaluation takes at most, on a busy machine. One that waits for itself takes over ten."""


class EvaluatingCallback:
    """An `on_event` that evaluates a flag at each event, and records the event."""

    def __init__(self) -> None:
        self.client: Posthog | None = None
        self.seen: list[tuple[Event, int | None, bool]] = []
        """Each event, with the revision that the client held then, and whether the flag was found."""

    def __call__(self, event: Event) -> None:
        """As `on_event`."""
        if self.client is not None:
            revision = revision_of({"flags": self.client.feature_flags})
            self.seen.append((event, revision, is_on(self.client)))


def is_on(client: Posthog) -> bool:
    """Whether a local evaluation finds a flag."""
    return bool(client.evaluate_flags("user", only_evaluate_locally=True).keys)


@contextmanager
def client_of(
    posthog: StandInControl,
    url: str,
    namespace: str,
    on_event: Callable[[Event], object],
    *,
    auto_attach: bool = True,
    idle: bool = False,
) -> Generator[Posthog]:
    """A client in this process, not loaded yet; `idle`: with another client on its cache, which never loads."""
    options: Options = {"auto_attach": auto_attach}
    cache = from_url(url, namespace, refresh_interval=EVERY, on_event=on_event, **options)
    clients = [
        Posthog(
            "phc_test",
            secret_key="phs_test",
            host=posthog.url,
            poll_interval=cast("int", EVERY),  # the SDK accepts fractions too
            flag_definition_cache_provider=cache,
            flush_at=1,
        )
        for _ in range(2 if idle else 1)
    ]
    if idle:
        cache.attach(clients[1])
    if isinstance(on_event, EvaluatingCallback):
        on_event.client = clients[0]
    try:
        yield clients[0]
    finally:
        for client in clients:
            client.shutdown()


@pytest.mark.parametrize("auto_attach", [True, False], ids=["listens", "polls"])
def test_a_callback_that_evaluates_does_not_wait_for_its_own_poll(
    posthog: RemoteStandIn, store_url: str, namespace: str, auto_attach: bool
) -> None:
    """A first evaluation whose events evaluate too is as quick as another, and has flags; so have later events."""
    on_event = EvaluatingCallback()
    with client_of(posthog, store_url, namespace, on_event, auto_attach=auto_attach) as client:
        began = time.monotonic()
        assert is_on(client)
        assert time.monotonic() - began < AT_ONCE
        assert any(isinstance(event, LeadershipTaken) for event, _, _ in on_event.seen)
        posthog.serve(make_definitions(5, revision=2))
        until(lambda: revision_of({"flags": client.feature_flags}) == 2, what="the change")
        until(lambda: on_event.seen[-1][2], what="an event with flags")


def test_a_callback_on_a_failed_fetch_does_not_wait(posthog: RemoteStandIn, store_url: str, namespace: str) -> None:
    """On the thread of the fetch itself an evaluation does not wait for the fetch."""
    on_event = EvaluatingCallback()
    posthog.fail(401)
    with client_of(posthog, store_url, namespace, on_event) as client:
        began = time.monotonic()
        assert not is_on(client)
        assert time.monotonic() - began < AT_ONCE
        until(lambda: any(isinstance(event, FetchFailed) for event, _, _ in on_event.seen), what="the failure")


class EvaluatingFilter(logging.Filter):
    """A filter of the log that evaluates a flag for each line."""

    def __init__(self) -> None:
        super().__init__()
        self.client: Posthog | None = None
        self.lines = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """As `logging.Filter`."""
        del record
        if self.client is not None:
            self.lines += 1
            is_on(self.client)
        return True


@pytest.fixture
def evaluating() -> Iterator[EvaluatingFilter]:
    """A filter of the logger `flagcache`."""
    logger, log_filter = logging.getLogger("flagcache"), EvaluatingFilter()
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addFilter(log_filter)
    yield log_filter
    logger.removeFilter(log_filter)
    logger.setLevel(level)


def test_a_filter_of_the_log_may_evaluate(
    posthog: RemoteStandIn, store_url: str, namespace: str, evaluating: EvaluatingFilter
) -> None:
    """A first evaluation whose log lines evaluate too is as quick as another."""
    with client_of(posthog, store_url, namespace, lambda _: None) as client:
        evaluating.client = client
        began = time.monotonic()
        assert is_on(client)
        assert time.monotonic() - began < AT_ONCE
        assert evaluating.lines


def test_a_change_is_told_when_the_client_has_it(posthog: RemoteStandIn, store_url: str, namespace: str) -> None:
    """If a listener runs, the event of a change comes when the client has the flags, also for the first ones."""
    on_event = EvaluatingCallback()
    with client_of(posthog, store_url, namespace, on_event) as client:

        def changes() -> list[tuple[Event, int | None, bool]]:
            return [each for each in on_event.seen if isinstance(each[0], DefinitionsChanged)]

        is_on(client)
        for number in (1, 2, 3):
            posthog.serve(make_definitions(5, revision=number))
            until(lambda: len(changes()) == number, what="the event")  # noqa: B023 - called at once
        assert [revision for _, revision, _ in changes()] == [1, 2, 3]


def test_a_change_that_no_client_takes_is_told_all_the_same(
    posthog: RemoteStandIn, store_url: str, namespace: str
) -> None:
    """If one client never loads, the event comes a second later, or at the end if that is sooner."""
    received: list[Event] = []
    with client_of(posthog, store_url, namespace, received.append, idle=True) as client:
        is_on(client)
        until(lambda: any(isinstance(event, DefinitionsChanged) for event in received), 3.0, what="the event")
        posthog.serve(make_definitions(5, revision=2))
        until(lambda: revision_of({"flags": client.feature_flags}) == 2, what="the change")
    assert sum(isinstance(event, DefinitionsChanged) for event in received) == 2


def test_a_callback_that_raises_harms_nothing(posthog: RemoteStandIn, store_url: str, namespace: str) -> None:
    """If `on_event` raises, flags still come, and so do changes."""
    received: list[Event] = []

    def fail(event: Event) -> None:
        received.append(event)
        raise RuntimeError("a mistake of the user's")

    with client_of(posthog, store_url, namespace, fail) as client:
        assert is_on(client)
        posthog.serve(make_definitions(5, revision=2))
        until(lambda: revision_of({"flags": client.feature_flags}) == 2, what="the change")
        until(lambda: sum(isinstance(event, DefinitionsChanged) for event in received) == 2, what="both events")


def test_a_callback_that_takes_long_is_named_once(
    posthog: RemoteStandIn, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A slow `on_event` is logged once, with the event and the remedy."""
    free = threading.Event()

    def wait_too_long(event: Event) -> None:
        if isinstance(event, (LeadershipTaken, DefinitionsChanged)):
            free.wait(1.1)

    with client_of(posthog, "memory://", namespace, wait_too_long) as client:
        is_on(client)
        lines = [line for line in caplog.messages if "on_event=" in line]
        assert len(lines) == 1
        assert "LeadershipTaken" in lines[0]
        assert "wait_too_long" in lines[0]
        free.set()
    assert len([line for line in caplog.messages if "on_event=" in line]) == 1
