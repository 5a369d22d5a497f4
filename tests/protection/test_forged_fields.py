"""The effect of forged fields in a store: bounded requests, true names, clean lines of text."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import pytest

from flagcache.encoding.payload import digest, encode
from flagcache.events import PayloadRefused
from flagcache.settings import COLD_START_WAIT, Options
from flagcache.stores.redis.store import RedisStore
from flagcache.worker.fetch_limit import MAX_FETCHES
from flagcache_posthog.definitions import PostHogVendor
from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.attached_clients import AttachedContext, attached, events_of
from tests.support.fleet_tasks import all_hold, contexts, history, load, logs, never_lost_flags, poll, status, trouble
from tests.support.real_fleet import Fleet, MemberContext
from tests.support.redis_writer import HOUR, RedisWriter
from tests.support.servers import MakeRedis, RedisServer, until

EVERY, LONG = 0.5, 60.0
YEAR = 366 * 24 * HOUR
KEY = "a key of more than sixteen bytes"
each_fleet = pytest.mark.parametrize("options", [{}, {"signing_key": KEY}], ids=["plain", "signed"])


def forger_of(server: RedisServer, namespace: str, options: Options) -> RedisWriter:
    """Makes the attacker of a fleet with these options."""
    return RedisWriter(server, namespace, "signed" if "signing_key" in options else "plain")


@each_fleet
def test_a_store_made_to_grant_at_each_poll_costs_four_fetches_a_process(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, options: Options
) -> None:
    """However often a failed fetch is forged, a process makes four fetches per interval, and keeps its flags."""
    server = make_redis()
    with Fleet(attached(posthog, server.url, namespace, every=LONG, polls=EVERY, **options), 2) as fleet:
        assert fleet.call(load) == [1, 1]
        forger = forger_of(server, namespace, options)
        for _ in range(99):
            forger.write(outcome="failed", failures=0, granted_1=0, granted_2=0, granted_3=0)
            forger.redis.publish(forger.keys.channel, "free 0 x")
            fleet.call(poll)
        assert MAX_FETCHES < posthog.requests <= 2 * MAX_FETCHES
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


@pytest.mark.parametrize("attach", [True, False], ids=["attached", "by protocol"])
def test_another_content_under_the_true_name_reaches_nobody(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, attach: bool
) -> None:
    """The next process that reads it from a plain store drops it; it does not survive a 304 or a `clear`."""
    server = make_redis()
    make: Callable[[int], MemberContext] = contexts(posthog, server.url, namespace, every=EVERY, challenge_after=2.0)
    if attach:
        make = attached(posthog, server.url, namespace, every=LONG, polls=EVERY)
    with Fleet(make, 2) as fleet:
        assert fleet.call(load) == [1, 1]
        forger = RedisWriter(server, namespace, "plain")
        version = forger.read("version").decode()
        payload = encode(cast("dict[str, object]", make_definitions(5, revision=666)), version)
        forger.write(payload=payload, size=len(payload), as_of=int(forger.read("as_of")) + 1)
        new = fleet.join(2)
        assert [member.call(load) for member in new] == [1, 1]
        RedisStore(server.url, namespace).clear()
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=20.0)
        assert {seen.revision for member in fleet for seen in member.call(history)} <= {None, 1, 2}
        if attach:
            assert events_of(new, PayloadRefused)
        assert all(not trouble(member) for member in fleet)


def test_a_content_of_others_beside_the_true_tag_ends_with_a_clear(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str
) -> None:
    """A writer to a plain store chooses its flags until an operator clears it: then no entity tag is sent."""
    server = make_redis()
    with Fleet(attached(posthog, server.url, namespace, every=EVERY), 1) as fleet:
        assert fleet.call(load) == [1]
        forger = RedisWriter(server, namespace, "plain")
        etag = forger.read("etag")
        fleet.members[0].kill()
        forged = cast("dict[str, object]", make_definitions(5, revision=666))
        payload = encode(forged, digest(forged))
        later = int(forger.read("as_of")) + 1
        forger.write(payload=payload, size=len(payload), version=digest(forged), etag=etag, as_of=later)
        forger.redis.delete(forger.keys.lease)
        (new,) = fleet.join(1)
        assert new.call(load) in (1, 666)
        full = posthog.full_fetches
        RedisStore(server.url, namespace).clear()
        all_hold([new], 1, within=20 * EVERY)
        assert posthog.full_fetches > full


@pytest.mark.parametrize("claims", [False, True], ids=["a lease", "a lease and a fetch"])
@each_fleet
def test_a_lease_of_nobody_on_an_empty_store_keeps_nobody_waiting(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str, options: Options, claims: bool
) -> None:
    """A fleet that starts on it fetches within its first load, and once; also if a fetch seems to have just begun."""
    server = make_redis()
    forger = forger_of(server, namespace, options)
    if claims:
        now = forger.now()
        forger.write(**dict.fromkeys(("granted_1", "granted_2", "granted_3", "led_since", "grant", "renewing"), now))
        forger.write(outcome="open", holder="forger:1:x")
    forger.lead(lasts=YEAR)
    began = time.monotonic()
    with Fleet(attached(posthog, server.url, namespace, every=LONG, **options), 3) as fleet:
        assert fleet.call(load) == [1, 1, 1]
        assert time.monotonic() - began < COLD_START_WAIT
        assert posthog.full_fetches == 1


FIELDS = {
    *("version", "etag", "writer", "project", "epoch", "as_of", "changed_at", "confirmed_at", "size", "payload"),
    *("highest", "grant", "granted_1", "granted_2", "granted_3", "holder", "outcome", "failures", "reporting"),
    *("renewing", "fence", "lease_length", "led_since", "note_status", "note_until", "note_length", "repair_asked"),
    *("replaced_at", "key_missed_at", "deputy", "deputy_seen", "stamp"),
}
"""The fields of the hash; payload and entity tag are encrypted, the version is keyed, all others can be read."""


def test_nothing_in_a_sealed_store_confirms_a_guess(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str
) -> None:
    """No field and no notice has the digest of the definitions, which would confirm a guess at them."""
    server = make_redis()
    store = RedisStore(server.url, namespace, format_and_protection="1-sealed")
    subscription = store.subscribe()
    with Fleet(attached(posthog, server.url, namespace, every=EVERY, encryption_key=KEY), 2) as fleet:
        assert fleet.call(load) == [1, 1]
        version = fleet.members[0].call(status).version
        forger = RedisWriter(server, namespace, "sealed")
        known = forger.fields()
    said: list[bytes] = []
    while (notice := subscription.get(0.2)) is not None:
        said.append(f"{notice.kind} {notice.version}".encode())
    subscription.close()
    store.close()
    guess = digest(fleet_content(1)).encode()
    assert known[b"version"].decode() == version != guess.decode()
    assert any(version.encode() in text for text in said)
    assert guess not in b"".join([*known.values(), *said])
    assert {name.decode() for name in known} <= FIELDS


EVIL = "evil\n2026-01-01 CRITICAL all is lost\x1b[31m\u2028\u202e"


def test_no_text_of_a_store_steers_a_line_or_a_terminal(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str
) -> None:
    """Status, events and log show only printable text, whatever the names of leader, writer and project are."""
    server = make_redis()
    with Fleet(attached(posthog, server.url, namespace, every=LONG, polls=EVERY), 2) as fleet:
        assert fleet.call(load) == [1, 1]
        forger = RedisWriter(server, namespace, "plain")
        for text in (EVIL, EVIL[-2:], "evil \udcff".encode("utf-8", "surrogateescape"), "x" * 1_000_000):
            later = int(forger.read("as_of") or 0) + 1
            forger.write(writer=text, project=text, holder=text, deputy=text, as_of=later)
            forger.lead(cast("str", text), lasts=YEAR)
            fleet.call(poll)
            assert all(_prints(member.call(status).leader, member.call(status).writer) for member in fleet)
            assert all(len(member.call(status).leader) <= 512 for member in fleet)
        lines = [line.text for lines in fleet.call(logs) for line in lines]
        texts = [str(event) for member in fleet for event in member.call(_events)]
        assert _prints(*lines, *texts)
        assert max(map(len, [*lines, *texts])) < 5000


def test_who_leads_is_shown_as_what_prints(posthog: StandInControl, make_redis: MakeRedis, namespace: str) -> None:
    """A leader may have marks that reverse text in its name; they are shown as question marks."""
    server = make_redis()
    with Fleet(attached(posthog, server.url, namespace, every=LONG, polls=EVERY), 1) as fleet:
        assert fleet.call(load) == [1]
        RedisWriter(server, namespace, "plain").lead("a\u202eb:1:x", lasts=YEAR)
        fleet.call(poll)
        until(lambda: fleet.members[0].call(status).leader == "a?b:1:x", 10.0, what="the name of the leader")


def fleet_content(revision: int) -> dict[str, object]:
    """What a worker makes of what the stand-in serves."""
    return PostHogVendor().of_response(make_definitions(5, revision=revision))


def _events(context: object) -> list[object]:
    return list(cast("AttachedContext", context).events)


def _prints(*texts: str) -> bool:
    return all(text.isprintable() for text in texts)
