"""A client without a secret key: a reader if the SDK loads without a key, and always one ERROR in the log."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Literal

import pytest

from flagcache_posthog import FlagDefinitionCache, MemoryFlagDefinitionCache, _lifecycle, from_url
from flagcache_posthog._lifecycle import load_clients
from flagcache_posthog.testing import RemoteStandIn, make_definitions
from tests.support.attached_clients import attached, errors, holder
from tests.support.fleet_tasks import all_hold, asks, evaluated, load, logs, status
from tests.support.own_threads import threads_of
from tests.support.real_fleet import Fleet, MemberContext, RecordingPosthog
from tests.support.request_pace import let_pass
from tests.support.servers import RedisServer, until
from tests.support.user_programs import posthog_environment

EVERY = 0.4

MakeClient = Callable[..., RecordingPosthog]


def keyless(posthog: RemoteStandIn, cache: FlagDefinitionCache) -> RecordingPosthog:
    """A client without a secret key."""
    return RecordingPosthog(
        "phc_test", host=posthog.url, poll_interval=EVERY, flag_definition_cache_provider=cache, flush_at=1
    )


@pytest.fixture
def make_client(posthog: RemoteStandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeClient]:
    """Makes clients without a key, which are shut down at the end; the helpers know no clients but these."""
    monkeypatch.setattr(_lifecycle, "_clients", weakref.WeakSet[object]())
    monkeypatch.setattr(_lifecycle, "_caches", weakref.WeakSet[object]())
    with ExitStack() as ends:

        def make(cache: FlagDefinitionCache) -> RecordingPosthog:
            client = keyless(posthog, cache)
            ends.callback(client.shutdown)
            return client

        yield make


# --- if the SDK loads without a key: its poller in a forked child does -----------------------------------------------


@pytest.mark.parametrize("auto_attach", [True, False])
def test_a_forked_child_reads_what_the_fleet_stored(
    posthog: RemoteStandIn, redis_server: RedisServer, namespace: str, auto_attach: bool
) -> None:
    """A child without a key gets each change, sends PostHog no request, never leads, and logs once what is wrong."""
    cache = from_url(redis_server.url, namespace, refresh_interval=EVERY, auto_attach=auto_attach)
    context = MemberContext(keyless(posthog, cache), cache)
    admin = redis_server.client()
    try:
        with Fleet(lambda _index: context, 2) as readers:
            until(lambda: all(each.role.value != "new" for each in readers.call(status)), 10.0, what="them to poll")
            assert holder(admin, namespace) == 0
            assert not asks(posthog)
            with Fleet(attached(posthog, redis_server.url, namespace, every=EVERY), 1) as fleet:
                fleet.call(load)
                all_hold(readers, 1, within=20 * EVERY)
                posthog.serve(make_definitions(5, revision=2))
                all_hold([*readers, *fleet], 2, within=20 * EVERY)
            until(lambda: holder(admin, namespace) == 0, 20 * EVERY, what="the lease to run out")
            before = len(asks(posthog))
            let_pass(4 * EVERY)
            assert holder(admin, namespace) == 0
            assert len(asks(posthog)) == before
            all_hold(readers, 2, within=1.0)
            for lines in readers.call(logs):
                assert len([line for line in lines if "no secret key" in line.text]) == 1
                assert not [line for line in lines if "Traceback" in line.text]
    finally:
        context.client.shutdown()


# --- if it loads nothing, and never calls its cache ------------------------------------------------------------------


def ask_whether_ready(context: MemberContext) -> None:
    """As a readiness probe does."""
    assert not context.cache.ready()


def shut_down(context: MemberContext) -> None:
    """As an application does at its end."""
    context.client.shutdown()


def load_all(_context: MemberContext) -> None:
    """As the server helpers do before the first request."""
    load_clients()


MOMENTS = (ask_whether_ready, shut_down, load_all)


@pytest.mark.parametrize("auto_attach", [True, False], ids=["auto", "not attached"])
@pytest.mark.parametrize("role", ["worker", "reader"])
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
def test_it_is_one_error_with_the_remedy(
    make_client: MakeClient,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
    moment: Callable[[MemberContext], None],
    role: Literal["worker", "reader"],
    auto_attach: bool,
) -> None:
    """The ERROR is logged when the cache, a server helper or the client first calls us, and not again."""
    cache = MemoryFlagDefinitionCache(namespace, role=role, auto_attach=auto_attach)
    context = MemberContext(make_client(cache), cache)
    load(context)
    assert evaluated(context) is None
    moment(context)
    [error] = errors(caplog)
    assert error.startswith(f"flagcache[{namespace}] ")
    assert "no secret key" in error
    assert "Set secret_key=" in error
    for again in MOMENTS:
        again(context)
    assert len(errors(caplog)) == 1


def test_a_client_with_a_key_is_no_error(
    posthog: RemoteStandIn, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A disabled client, and a cache without a client, log no error. The search attaches no client with a key."""
    cache = MemoryFlagDefinitionCache(namespace)
    assert not cache.ready()
    more = {"host": posthog.url, "flag_definition_cache_provider": cache, "flush_at": 1}
    clients = [
        RecordingPosthog("phc_test", secret_key="phs_0", **more),
        RecordingPosthog("phc_test", disabled=True, **more),
    ]
    assert not cache.ready()
    assert threads_of() == []
    for client in clients:
        client.shutdown()
    assert not errors(caplog)


PROGRAM = """
import os
from posthog import Posthog
from flagcache import MemoryFlagDefinitionCache

cache = MemoryFlagDefinitionCache("cron")
client = Posthog("phc_test", host=os.environ["POSTHOG_HOST"], flag_definition_cache_provider=cache)
print(client.evaluate_flags("user", only_evaluate_locally=True).get_flag("flag-1"))
"""


def test_at_the_latest_it_is_an_error_when_the_process_ends(posthog: RemoteStandIn) -> None:
    """A program that never shuts down its client logs the ERROR at its end."""
    environ = posthog_environment(posthog.url)
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.strip() == "None"
    assert ran.stderr.count("no secret key") == 1
    assert "Traceback" not in ran.stderr
