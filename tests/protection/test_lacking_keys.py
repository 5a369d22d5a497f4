"""Workers with and without the key of the stored definitions: neither half starves, in whatever order they run."""

from __future__ import annotations

import secrets
from typing import cast

from flagcache.encoding.codec import Codec
from flagcache.encoding.payload import digest
from flagcache.encoding.protection import Signed
from flagcache.events import DefinitionsRepaired, ForeignKey
from flagcache.stores.base import Published
from flagcache.stores.redis.store import RedisStore
from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.attached_clients import AttachedContext, attached, events_of, timed_load
from tests.support.fleet_tasks import load, never_lost_flags, revision, status
from tests.support.real_fleet import Fleet
from tests.support.servers import RedisServer, until

LONG = 60.0
"""Seconds between two polls, and between two fetches: no test lasts as long."""

SOON = 6.0
"""Seconds within which a newcomer starts: two of waiting for a holder, a fetch, and a slow machine's part."""

OURS, THEIRS = secrets.token_hex(16), secrets.token_hex(16)


def halves(posthog: StandInControl, url: str, namespace: str, *, theirs: range) -> Fleet:
    """Start three workers; those whose numbers are in `theirs` have another key, later ones too."""

    def make(index: int) -> AttachedContext:
        key = THEIRS if index in theirs else OURS
        return attached(posthog, url, namespace, every=LONG, signing_key=key)(index)

    return Fleet(make, 3)


def test_short_lives_with_another_key_starve_nobody(
    posthog: StandInControl, redis_server: RedisServer, namespace: str
) -> None:
    """Processes of a wrong deployment come and go: they fetch for themselves, and the fleet's own newcomers start."""
    with halves(posthog, redis_server.url, namespace, theirs=range(3, 6)) as fleet:
        assert fleet.call(load) == [1] * 3
        strangers = fleet.join(3)
        for member in strangers:
            assert member.call(timed_load) < SOON
            assert member.call(revision) == 1
            member.kill()
        ours = fleet.join(1)
        assert ours[0].call(timed_load) < SOON
        assert posthog.requests <= 4  # the fleet's, and at most one of each stranger
        old = [*fleet.members[:3], *ours]
        assert not events_of(old, ForeignKey)
        assert not events_of(old, DefinitionsRepaired)


def leave_behind(url: str, namespace: str) -> None:
    """Store what a worker with the other key fetched later."""
    store = RedisStore(url, namespace, format_and_protection="1-signed")
    meta = store.inspect().meta
    assert meta is not None
    definitions = cast("dict[str, object]", make_definitions(5, revision=2))
    meta = meta._replace(version=digest(definitions), as_of=meta.as_of + 1, etag="")
    envelope = Codec(namespace, Signed(THEIRS), limit=1 << 20).write(definitions, meta)
    assert store.publish("them", envelope, fresh=False, lease=1) is Published.STORED
    store.close()


def test_holders_replace_what_newcomers_cannot_read(
    posthog: StandInControl, redis_server: RedisServer, namespace: str
) -> None:
    """Others left their definitions behind, and PostHog fails: a newcomer asks the holders, who give theirs at once."""
    with halves(posthog, redis_server.url, namespace, theirs=range(0)) as fleet:
        assert fleet.call(load) == [1] * 3
        until(lambda: all(member.call(status).listening for member in fleet), what="the listeners")
        posthog.fail(503)
        leave_behind(redis_server.url, namespace)
        [new] = fleet.join(1)
        assert new.call(timed_load) < SOON
        assert new.call(revision) == 1
        assert len(events_of(fleet, DefinitionsRepaired)) == 1
        assert not events_of(fleet, ForeignKey)
        assert posthog.requests == 1
        assert all(never_lost_flags(member) for member in fleet)
