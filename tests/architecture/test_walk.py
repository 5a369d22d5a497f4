"""The walk of an unchanged poll through the code: how many calls, in how many files and rooms, and how deep."""

from __future__ import annotations

import inspect
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, MethodType
from typing import Any, NamedTuple

import pytest
from posthog import Posthog

import flagcache
import flagcache_posthog
from flagcache.status import Role
from flagcache_posthog import FlagDefinitionCache, from_url
from flagcache_posthog.testing import RemoteStandIn
from tests.support.servers import RedisServer, until

ROOTS = tuple(Path(str(package.__file__)).parent for package in (flagcache, flagcache_posthog))
MakeClient = Callable[[float], tuple[FlagDefinitionCache, Posthog]]
INLINED = {"<dictcomp>", "<listcomp>", "<setcomp>"}
"""Calls before Python 3.12, and none since then: these aren't counted."""


class Walk(NamedTuple):
    """What one poll cost."""

    calls: int
    """Calls of our functions. A generator counts once: Python's version decides whether its end is a call too."""
    files: int
    rooms: int
    """Modules and packages directly in `flagcache`; the provider is one more."""
    depth: int
    """The most of our calls on the stack."""


WALK = Walk(calls=120, files=37, rooms=7, depth=18)
"""An unchanged poll of an attached follower. If the walk is shorter now, write its numbers here. If it is longer, find
the new call in the list that the failed test prints, and take it off the walk of every poll."""


class Call(NamedTuple):
    """One call of one of our functions."""

    depth: int
    file: str
    function: str


class Recorder:
    """Records the calls of our functions that one thread makes."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._generators: set[FrameType] = set()

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:  # noqa: ANN401 - as sys.setprofile has it
        """As `sys.setprofile` calls it."""
        file = file_of(frame) if event == "call" and frame not in self._generators else ""
        if file:
            if frame.f_code.co_flags & inspect.CO_GENERATOR:
                self._generators.add(frame)
            depth = sum(1 for each in stack_of(frame) if file_of(each))
            self.calls.append(Call(depth, file, frame.f_code.co_name))

    @property
    def walk(self) -> Walk:
        """The sums."""
        files = {call.file for call in self.calls}
        rooms = {Path(file).parts[0 if file.startswith("flagcache_posthog") else 1] for file in files}
        return Walk(len(self.calls), len(files), len(rooms), max(call.depth for call in self.calls))

    def __str__(self) -> str:
        files = Counter(call.file for call in self.calls)
        steps = [f"{'  ' * call.depth}{call.file} {call.function}" for call in self.calls]
        return "\n".join([*steps, *(f"{number:4d} {file}" for file, number in files.most_common()), f"{self.walk}"])


def stack_of(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and those that called it."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def file_of(frame: FrameType) -> str:
    """The file of one of our functions, from its package on; empty for any other function."""
    code = frame.f_code
    for root in ROOTS:
        if code.co_filename.startswith(f"{root}/") and code.co_name not in INLINED:
            return f"{root.name}{code.co_filename.removeprefix(str(root))}"
    return ""


@pytest.fixture
def make_client(posthog: RemoteStandIn, redis_server: RedisServer, namespace: str) -> Iterator[MakeClient]:
    """Makes clients of one fleet, each with a cache of its own that attaches it, which have loaded their flags."""
    with ExitStack() as ends:

        def make(poll_interval: float) -> tuple[FlagDefinitionCache, Posthog]:
            cache = from_url(redis_server.url, namespace, refresh_interval=600)
            client = Posthog(
                "phc_test",
                secret_key="phs_0",
                host=posthog.url,
                poll_interval=poll_interval,  # pyright: ignore[reportArgumentType]  # the SDK takes any number
                flag_definition_cache_provider=cache,
                flush_at=1,
            )
            ends.callback(client.shutdown)
            client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
            until(lambda: cache.status().listening, what="the listener")
            return cache, client

        yield make


def walks_of(client: Posthog) -> list[Recorder]:
    """Let the client's own poller poll a few times; what each of its polls walked through."""
    poller, walks, enough = client.poller, list[Recorder](), threading.Event()
    assert poller is not None
    execute = poller.execute

    def recorded(_client: Posthog) -> None:
        walk = Recorder()
        sys.setprofile(walk)
        try:
            execute(*poller.args, **poller.kwargs)
        finally:
            sys.setprofile(None)
            walks.append(walk)
            if len(walks) == 5:
                enough.set()

    poller.execute = MethodType(recorded, client)  # a method of the client, by which the cache knows the thread
    assert enough.wait(20)
    poller.execute = execute
    return walks


def test_an_unchanged_poll_takes_the_short_way(
    make_client: MakeClient,
) -> None:
    """A follower's own poll on a real Redis makes as many calls as noted, and doesn't create a fetcher."""
    make_client(3600.0)
    cache, client = make_client(0.1)
    flags = client.feature_flags
    *_, before, last = walks_of(client)
    assert cache.status().role is Role.FOLLOWER
    assert client.feature_flags is flags
    assert last.walk == before.walk, f"{before}\n{last}"
    assert not [call for call in last.calls if call.file == "flagcache_posthog/fetcher.py"], str(last)
    assert last.walk == WALK, str(last)
