from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import cast

import pytest

from flagcache.encoding.payload import digest, encode
from flagcache.events import DefinitionsRepaired, ForeignKey, PayloadRefused
from flagcache.settings import Options
from flagcache_posthog.testing import StandInControl, make_definitions
from tests.support.attached_clients import AttachedContext, attached, events_of
from tests.support.fleet_tasks import (
    all_hold,
    contexts,
    history,
    in_order,
    leader,
    load,
    logs,
    never_lost_flags,
    next_request,
    poll,
    trouble,
)
from tests.support.other_thread_provider import OtherThreadProvider
from tests.support.real_fleet import Fleet, Member
from tests.support.redis_writer import RedisWriter
from tests.support.servers import MakeRedis, until

EVERY = 0.5
LONG = 60.0
"""A refresh interval that no test outlives."""
OLD, NEW = secrets.token_hex(16), secrets.token_hex(16)

SIGNED: Options = {"signing_key": OLD}
SEALED: Options = {"encryption_key": OLD}
BOTH: Options = {"signing_key": OLD, "encryption_key": NEW}
each_kind = pytest.mark.parametrize("options", [SIGNED, SEALED, BOTH], ids=["signed", "sealed", "both"])


class Forger(RedisWriter):
    """An attacker with every right in Redis, and without a key."""

    def write(self, **fields: str | bytes | int) -> None:
        """Overwrite fields, with an `as_of` above the stored one, so that every worker reads them."""
        super().write(**{"as_of": int(self.read("as_of")) + 1, **fields})

    def put(self, payload: bytes, version: str) -> None:
        """Store forged definitions."""
        self.write(payload=payload, size=len(payload), version=version)


def is_sound(fleet: Iterable[Member], posthog: StandInControl) -> bool:
    """Whether no worker lost a flag, went back, or saw an exception in the SDK."""
    truths = posthog.truths()
    return all(
        never_lost_flags(member) and not trouble(member) and in_order(member.call(history), truths) for member in fleet
    )


@each_kind
def test_a_protected_fleet_is_one_fleet(
    posthog: StandInControl, store_url: str, namespace: str, options: Options
) -> None:
    """Signed or sealed, one fetch serves all, a change reaches all, and an unchanged fleet gets 304 from PostHog."""
    with Fleet(attached(posthog, store_url, namespace, every=EVERY, **options), 5) as fleet:
        assert fleet.call(load) == [1] * 5
        assert posthog.full_fetches == 1
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=4 * EVERY)
        next_request(posthog)
        next_request(posthog)
        assert posthog.full_fetches == 2
        leader(fleet).kill()
        posthog.serve(make_definitions(5, revision=3))
        all_hold(fleet, 3, within=8 * EVERY)
        assert not events_of(fleet, PayloadRefused)
        assert is_sound(fleet, posthog)


def test_fleets_of_unlike_protection_never_meet(posthog: StandInControl, store_url: str, namespace: str) -> None:
    """Plain, signed and sealed workers of one namespace have a lease each, and none discards what another wrote."""
    kinds: list[Options] = [{}, SIGNED, SEALED, BOTH]
    makes = [attached(posthog, store_url, namespace, every=LONG, **kind) for kind in kinds]
    with Fleet(lambda index: makes[index % len(makes)](index), 2 * len(makes)) as fleet:
        assert fleet.call(load) == [1] * 2 * len(makes)
        assert posthog.full_fetches == len(kinds)
        assert not events_of(fleet, PayloadRefused)


def test_nothing_readable_is_in_a_sealed_store(posthog: StandInControl, make_redis: MakeRedis, namespace: str) -> None:
    """A sealed store shows neither a flag nor a key in any field of any key."""
    server = make_redis()
    with Fleet(attached(posthog, server.url, namespace, every=LONG, **SEALED), 1) as fleet:
        fleet.call(load)
        forger = Forger(server, namespace, "sealed")
        everything = b"".join(forger.fields().values())
        assert forger.read("payload") in everything
        for secret in (OLD, "flag", "phs_"):
            assert secret.encode() not in everything


def _unsigned(forger: Forger) -> None:
    forged = cast("dict[str, object]", make_definitions(5, revision=666))
    forger.put(encode(forged, digest(forged)), digest(forged))


def _under_the_old_version(forger: Forger) -> None:
    version = forger.read("version").decode()
    forger.put(encode(cast("dict[str, object]", make_definitions(5, revision=666)), version), version)


def _an_altered_byte(forger: Forger) -> None:
    payload = bytearray(forger.read("payload"))
    payload[-1] ^= 1
    forger.put(bytes(payload), "f" * 32)


def _our_own_under_another_version(forger: Forger) -> None:
    forger.write(version="f" * 32)


def _another_entity_tag(forger: Forger) -> None:
    forger.write(etag='W/"forged"')


def _another_project(forger: Forger) -> None:
    forger.write(project="team=666")


@pytest.mark.parametrize("protection", ["signed", "sealed"])
@pytest.mark.parametrize(
    "forge",
    [
        _unsigned,
        _under_the_old_version,
        _an_altered_byte,
        _our_own_under_another_version,
        _another_entity_tag,
        _another_project,
    ],
)
def test_what_was_forged_is_refused_and_repaired(
    posthog: StandInControl,
    make_redis: MakeRedis,
    namespace: str,
    protection: str,
    forge: Callable[[Forger], None],
) -> None:
    """A forged envelope is discarded with an event and never used; the holders bring back theirs without a fetch."""
    server = make_redis()
    options = SIGNED if protection == "signed" else SEALED
    with Fleet(attached(posthog, server.url, namespace, every=LONG, polls=EVERY, **options), 3) as fleet:
        fleet.call(load)
        forger = Forger(server, namespace, protection)
        forge(forger)
        new = fleet.join(2)
        assert [member.call(load) for member in new] == [1, 1]
        until(lambda: events_of(fleet, DefinitionsRepaired), 6 * EVERY, what="the holders to repair it")
        assert {len(events_of([member], PayloadRefused)) for member in fleet} in ({0, 1}, {1})
        assert posthog.requests == 1
        assert is_sound(fleet, posthog)


def test_a_swapped_entity_tag_hides_no_change(posthog: StandInControl, make_redis: MakeRedis, namespace: str) -> None:
    """The tag of the next definitions beside the present ones does not make PostHog answer "unchanged"."""
    server = make_redis()
    with Fleet(attached(posthog, server.url, namespace, every=EVERY, **SIGNED), 3) as fleet:
        fleet.call(load)
        forger = Forger(server, namespace, "signed")
        before = forger.read("etag")
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=4 * EVERY)
        after = forger.read("etag")
        posthog.serve(make_definitions(5, revision=1))
        all_hold(fleet, 1, within=4 * EVERY)
        assert before != after
        for _ in range(3):
            forger.write(etag=after)
            fleet.call(poll)
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=6 * EVERY)
        assert is_sound(fleet, posthog)


def test_an_old_envelope_of_ours_lasts_until_the_next_fetch(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str
) -> None:
    """A replayed envelope, which signatures cannot detect, is replaced by the fleet's next fetch."""
    server = make_redis()
    with Fleet(attached(posthog, server.url, namespace, every=EVERY, **SIGNED), 3) as fleet:
        fleet.call(load)
        forger = Forger(server, namespace, "signed")
        fields = ("payload", "size", "version", "etag", "writer", "project")
        old = {field: forger.read(field) for field in fields}
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=4 * EVERY)
        forger.write(**old)
        fleet.call(poll)
        all_hold(fleet, 2, within=6 * EVERY)
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)


@pytest.mark.parametrize("kind", ["signing_key", "encryption_key"])
def test_keys_are_rotated_under_a_running_fleet(
    posthog: StandInControl, store_url: str, namespace: str, kind: str
) -> None:
    """Rolled out in the documented order, a new key replaces the old one: nothing is refused, and no fetch is made."""
    steps: list[str | list[str]] = [OLD, [OLD, NEW], [NEW, OLD], NEW]

    def make(index: int) -> AttachedContext:
        options = cast("Options", {kind: steps[index // 2]})
        return attached(posthog, store_url, namespace, every=EVERY, **options)(index)

    with Fleet(make, 2) as fleet:
        assert fleet.call(load) == [1, 1]
        for step, _ in enumerate(steps[1:], start=1):
            came = fleet.join(2)
            assert [member.call(load) for member in came] == [step] * 2
            posthog.serve(make_definitions(5, revision=step + 1))
            all_hold(fleet, step + 1, within=6 * EVERY)
            for member in fleet.members[2 * step - 2 : 2 * step]:
                member.kill()
            posthog.wait_for_requests(posthog.requests + 2, timeout=10)
        assert not events_of(fleet, PayloadRefused)
        assert posthog.full_fetches == len(steps)
        assert is_sound(fleet, posthog)


def test_workers_with_keys_of_their_own_do_not_starve(posthog: StandInControl, store_url: str, namespace: str) -> None:
    """Two halves of a fleet without a common key each report it, have flags, and get the changes."""
    makes = [attached(posthog, store_url, namespace, every=EVERY, signing_key=key) for key in (OLD, NEW)]
    with Fleet(lambda index: makes[index % 2](index), 4) as fleet:
        fleet.call(load)
        all_hold(fleet, 1, within=20 * EVERY)
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=20 * EVERY)
        assert len(events_of(fleet, ForeignKey)) == 2
        assert is_sound(fleet, posthog)


def test_what_nobody_could_read_is_not_published(posthog: StandInControl, store_url: str, namespace: str) -> None:
    """If SDKs fetch, definitions above the limit are kept by each that fetched them, said once; each gets its turn."""
    posthog.serve(make_definitions(2))
    with Fleet(
        contexts(posthog, store_url, namespace, every=EVERY, wrap=OtherThreadProvider, max_decoded_bytes=4096), 3
    ) as fleet:
        assert fleet.call(load) == [1] * 3
        posthog.serve(make_definitions(40, revision=2))
        all_hold(fleet, 2, within=60 * EVERY)  # two have to wait for a leader to have been silent for long
        posthog.serve(make_definitions(2, revision=3))
        all_hold(fleet, 3, within=60 * EVERY)
        said = [line.text for lines in fleet.call(logs) for line in lines if "cannot be shared" in line.text]
        assert len(said) == 3
        assert "4096" in said[0]
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)
