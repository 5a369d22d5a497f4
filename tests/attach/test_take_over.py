from __future__ import annotations

import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, cast

import pytest

from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.attached_clients import adopted_at, attached, holder, leader_of, leads, polls_until, subscribed
from tests.support.fleet_tasks import (
    all_hold,
    asks,
    leader,
    load,
    never_lost_flags,
    shutdown,
    trouble,
)
from tests.support.grant_log import log_grants
from tests.support.real_fleet import Fleet, Member, MemberContext
from tests.support.servers import MakeRedis, RedisServer, free_port, until

EVERY = 0.5
LONG = 30.0

APPLICATION = """
import os
from posthog import Posthog
from flagcache_posthog import from_url

cache = from_url(os.environ["STORE"], os.environ["NAMESPACE"], refresh_interval=30)
client = cache.attach(Posthog(
    "phc_test", secret_key="phs_0", host=os.environ["POSTHOG"], poll_interval=30, flag_definition_cache_provider=cache,
))
client.load_feature_flags()

def application(environ, start_response):
    start_response("200 OK", [])
    return []
"""
"""A web application, loaded by each worker, that polls too seldom to notice anything in time by itself."""


# --- a killed leader -------------------------------------------------------------------------------------------------


def test_a_change_after_the_leader_was_killed_reaches_all(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """If the leader is killed before a change, at a refresh every 2 s, all have it in 4 s, for 11 flag requests."""
    with Fleet(attached(posthog, redis_url, namespace, every=2.0), 8) as fleet:
        fleet.call(load)
        leading = leader(fleet)
        posthog.reset_counts()
        leading.kill()
        began = time.monotonic()
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=6.0)
        assert max(adopted_at(member, 2) for member in fleet) - began < 5.0
        assert posthog.flag_requests <= 11
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


def test_a_killed_leader_is_followed_when_its_lease_ends(
    posthog: StandInControl, store_url: str, namespace: str
) -> None:
    """Followers know when the lease of a dead leader ends, and do not wait for their next poll, half a minute away."""
    with Fleet(attached(posthog, store_url, namespace, every=EVERY, polls=LONG, lease=1.0), 3) as fleet:
        fleet.call(load)
        leader(fleet).kill()
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=3.0)


# --- a leader that leaves --------------------------------------------------------------------------------------------


def test_a_released_lease_is_taken_at_once(posthog: StandInControl, store_url: str, namespace: str) -> None:
    """After the leader's shutdown another leads and pushes within a second, although polls are 30 s apart."""
    make = attached(posthog, store_url, namespace, every=0.6, polls=LONG)
    with log_grants(store_url, namespace) as grants, Fleet(make, 4) as fleet:
        fleet.call(load)
        first = leader(fleet)
        first.call(shutdown)
        rest = [member for member in fleet if member is not first]
        second = leader_of(rest, within=1.5)
        posthog.serve(make_definitions(5, revision=2))
        second.call(polls_until, 2)
        all_hold(rest, 2, within=2.0)
        assert grants.one_an_interval(asks(posthog), 0.6)


def test_a_gunicorn_worker_hands_over_when_it_is_ended(
    posthog: StandInControl, redis_server: RedisServer, namespace: str, tmp_path: Path
) -> None:
    """After SIGTERM to the gunicorn worker that leads, another one leads long before the lease of 45 s would expire."""
    admin = redis_server.client()
    (tmp_path / "shop.py").write_text(APPLICATION)
    environment = {"STORE": redis_server.url, "NAMESPACE": namespace, "POSTHOG": posthog.url}
    options = f"--workers=3 --bind=127.0.0.1:{free_port()} --no-control-socket --log-level=critical"
    gunicorn = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *options.split(), "shop:application"],
        cwd=tmp_path,
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        subscribed(admin, namespace, 3, within=20.0)
        leading = holder(admin, namespace)
        others = _children(gunicorn.pid) - {leading}
        os.kill(leading, signal.SIGTERM)
        until(lambda: holder(admin, namespace) in others, 3.0, what="another one of the workers to lead")
        assert posthog.full_fetches == 1
    finally:
        gunicorn.send_signal(signal.SIGTERM)
        gunicorn.wait(10)
    assert holder(admin, namespace) == 0  # the last one gave it up too


def _children(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


# --- a leader that lives and does nothing ----------------------------------------------------------------------------


def kill_poller(context: MemberContext) -> None:
    """Let the client's poller die at its next poll, by an exception that is not an `Exception`."""
    poller = context.client.poller
    assert poller is not None
    threading.excepthook = lambda _args: None  # no traceback needs to be printed

    def die() -> NoReturn:
        raise SystemExit

    poller.execute = die


def block_poller(context: MemberContext) -> None:
    """Let the client's poller hang for good at its next poll; a push is still served."""
    poller = context.client.poller
    assert poller is not None
    execute = cast("Callable[[], None]", poller.execute)

    def hang() -> None:
        if threading.current_thread() is poller:
            threading.Event().wait()
        execute()

    poller.execute = hang


@pytest.mark.parametrize("spoil", [kill_poller, block_poller], ids=["dead", "stuck"])
def test_a_leader_whose_poller_does_not_poll_is_followed(
    posthog: StandInControl, redis_url: str, namespace: str, spoil: Callable[[MemberContext], None]
) -> None:
    """If the poller of the leader's client is dead or stuck, its lease is not renewed: another worker leads."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY, fetch_timeout=0.5), 3) as fleet:
        fleet.call(load)
        spoilt = leader(fleet)
        spoilt.call(spoil)
        rest = [member for member in fleet if member is not spoilt]
        leader_of(rest, within=8 * EVERY)
        posthog.serve(make_definitions(5, revision=2))
        all_hold(rest, 2, within=4 * EVERY)
        until(lambda: not leads(spoilt), 2.0, what="it to notice")


# --- a follower ------------------------------------------------------------------------------------------------------


def count_polls(context: MemberContext) -> None:
    """From now on record each poll that the client's own poller makes."""
    poller = context.client.poller
    assert poller is not None
    execute = cast("Callable[[], None]", poller.execute)

    def counted() -> None:
        if threading.current_thread() is poller:
            logging.getLogger("flagcache").warning("a poll")  # the member's process keeps it
        execute()

    poller.execute = counted


def polls(context: MemberContext) -> int:
    """Return how many were recorded."""
    return sum(line.text == "a poll" for line in context.logs)


def _scripts_run_by(server: RedisServer, member: Member, meanwhile: Callable[[], None]) -> int:
    """Return how many scripts this process had Redis run meanwhile: each has its name."""
    me = f":{member.pid}:"
    admin = server.client()
    with server.client().monitor() as monitor:  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        meanwhile()
        admin.echo("that is all")
        commands = (str(cast("dict[str, object]", each)["command"]) for each in monitor.listen())
        seen = list(itertools.takewhile(lambda words: words != "ECHO that is all", commands))
    return sum(each.startswith("EVALSHA") and me in each for each in seen)


def test_a_follower_sends_nothing_but_its_polls(posthog: StandInControl, make_redis: MakeRedis, namespace: str) -> None:
    """Over many intervals an idle follower sends Redis one command for each poll of its client, and no heartbeat."""
    server = make_redis()
    with Fleet(attached(posthog, server.url, namespace, every=0.2), 2) as fleet:
        fleet.call(load)
        subscribed(server.client(), namespace, 2)
        leading = leader(fleet)
        following = next(member for member in fleet if member is not leading)
        following.call(count_polls)
        before = following.call(polls)
        sent = _scripts_run_by(
            server, following, lambda: posthog.wait_for_requests(posthog.requests + 12, timeout=10.0)
        )
        polled = following.call(polls) - before
        assert polled >= 10
        assert abs(sent - polled) <= 1  # one may be under way at either end
