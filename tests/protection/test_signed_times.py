# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""Real workers with a key, on a real Redis that an attacker without a key writes to."""

from __future__ import annotations

import secrets
from typing import cast

import pytest

from flagcache.settings import Options
from flagcache.stores.redis.store import keys_of
from flagcache_posthog.testing import StandInControl, make_definitions
from tests.attach.attached import attached
from tests.fleet.chores import all_hold, history, in_order, load, never_lost_flags, poll, trouble
from tests.fleet.harness import Fleet
from tests.servers import MakeRedis, RedisServer, until

EVERY = 0.5
KEY = secrets.token_hex(16)
KINDS: dict[str, Options] = {"signed": {"signing_key": KEY}, "sealed": {"encryption_key": KEY}}


class Writer:
    """An attacker who can write to Redis, and has no key."""

    def __init__(self, server: RedisServer, namespace: str, protection: str) -> None:
        self.admin = server.client()
        self.keys = keys_of(namespace, 0, format_and_protection=f"1-{protection}")

    def keep(self) -> dict[bytes, bytes]:
        """All fields of the hash."""
        return cast("dict[bytes, bytes]", self.admin.hgetall(self.keys.hash))

    def now(self) -> int:
        """The server's clock."""
        seconds, microseconds = self.admin.time()
        return seconds * 1000 + microseconds // 1000

    def write(self, **fields: bytes | int) -> None:
        """Overwrite fields."""
        self.admin.hset(self.keys.hash, items=[part for item in fields.items() for part in item])

    def roll_back(self, old: dict[bytes, bytes]) -> None:
        """The old envelope under the present time, just granted, just confirmed, and with a forged lease."""
        now = self.now()
        names = ("payload", "size", "version", "etag", "writer", "project", "stamp")
        times = dict.fromkeys(("as_of", "confirmed_at", "changed_at", "highest", "granted_1", "led_since"), now)
        self.write(**{name: old[name.encode()] for name in names}, **times, lease_length=3_600_000)
        self.admin.set(self.keys.lease, "nobody", px=3_600_000)


@pytest.mark.parametrize("kind", KINDS)
def test_no_flag_goes_back_however_often_it_is_written(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, kind: str
) -> None:
    """Once, and then before each poll for ten intervals: flags stay, requests are bounded, a change arrives."""
    server = make_redis()
    with Fleet(attached(posthog, server.url, namespace, every=EVERY, **KINDS[kind]), 3) as fleet:
        fleet.call(load)
        writer = Writer(server, namespace, kind)
        old = writer.keep()
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=6 * EVERY)
        writer.roll_back(old)
        posthog.wait_for_requests(posthog.requests + 3, timeout=20)  # it goes on by itself

        began, before = writer.now(), posthog.requests
        while writer.now() - began < 10 * EVERY * 1000:
            writer.roll_back(old)
            fleet.call(poll)
        intervals = (writer.now() - began) / 1000 / EVERY
        assert posthog.requests - before <= 3 * (intervals + 1)

        posthog.serve(make_definitions(5, revision=3))
        all_hold(fleet, 3, within=16 * EVERY)
        truths = posthog.truths()
        for member in fleet:
            assert never_lost_flags(member)
            assert not trouble(member)
            assert in_order(member.call(history), truths)
        until(lambda: writer.keep().get(b"stamp"), 8 * EVERY, what="the store to be mended")
