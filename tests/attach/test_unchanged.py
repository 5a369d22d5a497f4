from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import pytest

from flagcache_posthog.testing import PostHogStandIn, StandInControl, make_definitions
from tests.support.attached_clients import ADOPTS, AttachedContext, attached, only_own_fetches, polls_until
from tests.support.fleet_tasks import asks, key_of, load, next_request, poll, revision
from tests.support.real_fleet import MemberContext, RecordingPosthog
from tests.support.servers import until

EVERY = 0.2
Keep = Callable[[AttachedContext], AttachedContext]

Answer = dict[str, object] | None


@pytest.fixture
def posthog() -> Iterator[PostHogStandIn]:
    """A PostHog in the process of the clients, at revision 1."""
    with PostHogStandIn(make_definitions(5)) as standin:
        yield standin


@dataclass(slots=True)
class ProviderRecorder:
    """What a client's provider answered, by thread, and how often the SDK hashed and adopted definitions."""

    answers: list[tuple[str, Answer]] = field(default_factory=list[tuple[str, Answer]])
    adopted: int = 0

    def of(self, thread: str) -> list[Answer]:
        """Return the answers to one thread."""
        return [answer for name, answer in self.answers if name == thread]


def tap(context: MemberContext, patch: pytest.MonkeyPatch) -> ProviderRecorder:
    """Record from now on."""
    found = ProviderRecorder()
    get = context.cache.get_flag_definitions
    adopt = cast("Callable[..., object]", getattr(context.client, ADOPTS))

    def answered() -> object:
        answer = get()
        found.answers.append((threading.current_thread().name, cast("Answer", answer)))
        return answer

    def adopted(*args: object, **options: object) -> object:
        found.adopted += 1
        return adopt(*args, **options)

    patch.setattr(context.cache, "get_flag_definitions", answered)
    patch.setattr(context.client, ADOPTS, adopted)
    return found


def poller_of(context: MemberContext) -> str:
    """Return the name of the client's own poller."""
    assert context.client.poller is not None
    return str(context.client.poller.name)


@pytest.fixture
def context(posthog: StandInControl, redis_url: str, namespace: str, here: Keep) -> AttachedContext:
    """Make a context whose client polls."""
    made = here(attached(posthog, redis_url, namespace, every=EVERY)(0))
    load(made)
    return made


def test_an_unchanged_poll_hands_nothing_over(
    posthog: StandInControl, context: AttachedContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The poller of a client with the newest list gets None: nothing is hashed, and the list stays."""
    until(lambda: context.client.feature_flags, what="flags")
    flags, seen = context.client.feature_flags, tap(context, monkeypatch)
    until(lambda: len(seen.of(poller_of(context))) >= 8, what="8 polls")
    assert set(map(type, seen.of(poller_of(context)))) == {type(None)}
    assert seen.adopted == 0
    assert context.client.feature_flags is flags
    assert only_own_fetches(posthog.served())
    posthog.serve(make_definitions(5, revision=2))
    until(lambda: revision(context) == 2, what="the change")
    assert seen.adopted == 1


def test_other_threads_are_always_given_definitions(context: AttachedContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the client's own poller, or our listener on its behalf, gets None; every other thread gets definitions."""
    until(lambda: context.client.feature_flags, what="flags")
    seen = tap(context, monkeypatch)
    for _ in range(3):
        poll(context)
        assert context.cache.get_flag_definitions() is not None
    assert None not in seen.of(threading.current_thread().name)


def test_zero_flags_are_never_answered_with_none(
    posthog: StandInControl, context: AttachedContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Definitions without flags are returned to each poll, because with None the SDK would fetch."""
    until(lambda: context.client.feature_flags, what="flags")
    posthog.serve(make_definitions(0, revision=None))
    until(lambda: context.client.feature_flags == [], what="no flags")
    seen = tap(context, monkeypatch)
    until(lambda: len(seen.of(poller_of(context))) >= 5, what="5 polls")
    assert all(answer is not None and answer["flags"] == [] for answer in seen.of(poller_of(context)))
    assert only_own_fetches(posthog.served())


def test_a_client_that_lost_its_flags_is_given_them_again(posthog: StandInControl, context: AttachedContext) -> None:
    """A client whose flags the SDK cleared, as after a 401, gets them back at its next poll, and does not fetch."""
    until(lambda: context.client.feature_flags, what="flags")
    kept = context.client.feature_flags
    context.client.feature_flags = []
    until(lambda: context.client.feature_flags, 5 * EVERY, what="the flags")
    assert context.client.feature_flags is kept
    context.client.feature_flags = None  # which the SDK turns into an empty list
    until(lambda: context.client.feature_flags, 5 * EVERY, what="the flags")
    next_request(posthog)
    assert only_own_fetches(posthog.served())
    assert posthog.full_fetches == 1


def test_attached_clients_and_one_without_a_listener_stay_right(
    posthog: StandInControl, redis_url: str, namespace: str, here: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of three clients of one provider, two of them attached, follows every change and gets nothing twice."""
    first = here(attached(posthog, redis_url, namespace, every=EVERY, auto_attach=False)(0))
    second, bare = (
        RecordingPosthog(
            "phc_test",
            secret_key=key_of(index),
            host=posthog.url,
            poll_interval=EVERY,
            flag_definition_cache_provider=first.cache,
            flush_at=1,
        )
        for index in (1, 2)
    )
    first.cache.attach(second)
    contexts = [first, here(AttachedContext(second, first.cache)), here(AttachedContext(bare, first.cache))]
    for each in contexts:
        load(each)
    seen = tap(first, monkeypatch)
    for number in (2, 3, 1, 4):
        posthog.serve(make_definitions(5, revision=number))
        until(lambda: {revision(each) for each in contexts} == {number}, 10 * EVERY, what="all three")  # noqa: B023
    polls = len(seen.of(poller_of(contexts[2])))
    until(lambda: len(seen.of(poller_of(contexts[2]))) >= polls + 4, what="polls of the bare client")
    assert all(None in seen.of(poller_of(each)) for each in contexts)
    assert {id(each.client.feature_flags) for each in contexts} == {id(first.client.feature_flags)}
    assert only_own_fetches(posthog.served())
    assert sum(request.status == 200 for request in asks(posthog)) == 5


def test_the_poll_of_one_client_brings_nothing_to_another(
    posthog: StandInControl, redis_url: str, namespace: str, here: Keep
) -> None:
    """A client that polls rarely has a change at once when another client of its process fetched it."""
    rare = here(attached(posthog, redis_url, namespace, every=0.1, polls=30.0)(0))
    often = RecordingPosthog(
        "phc_test",
        secret_key=key_of(1),
        host=posthog.url,
        poll_interval=0.1,
        flag_definition_cache_provider=rare.cache,
        flush_at=1,
    )
    contexts = [rare, here(AttachedContext(rare.cache.attach(often), rare.cache))]
    for each in contexts:
        load(each)
    posthog.serve(make_definitions(5, revision=2))
    polls_until(contexts[1], 2)
    until(lambda: revision(rare) == 2, 1.5, what="the other client")
