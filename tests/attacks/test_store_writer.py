"""The effect of a writer without a key on the flags of a plain, a signed and a sealed fleet."""

from __future__ import annotations

import pytest

from flagcache.encoding.payload import digest, encode
from flagcache_posthog.testing import make_definitions
from tests.support.attacked_fleet import KINDS, Attack, KeylessWriter, attacked_fleet
from tests.support.servers import RedisServer

FORGED = 77
"""A revision that PostHog never serves."""

WATCHED = 4.0
"""Seconds: ten refresh intervals."""


def store(writer: KeylessWriter, payload: bytes, version: str) -> None:
    """Replace what is stored by a payload with newer times, and send a notice, so that all read it at once."""
    now = max(writer.now(), int(writer.read("as_of") or 1) + 1)
    writer.write(payload=payload, size=len(payload), version=version, as_of=now, confirmed_at=now, highest=now)
    writer.publish(f"new 0 {version}")


def forge(writer: KeylessWriter) -> None:
    """Store forged definitions."""
    definitions = make_definitions(5, revision=FORGED)
    store(writer, encode(definitions, digest(definitions)), digest(definitions))


def flip(writer: KeylessWriter) -> None:
    """Change one bit of the payload."""
    payload = bytearray(writer.read("payload"))
    if payload:
        payload[len(payload) // 2] ^= 1
        store(writer, bytes(payload), "f" * 64)


def delete(writer: KeylessWriter) -> None:
    """Delete all keys of the fleet in Redis."""
    writer.redis.delete(writer.keys.hash, writer.keys.lease)


def truncate(writer: KeylessWriter) -> None:
    """Keep only the first bytes of the payload."""
    store(writer, writer.read("payload")[:40], "e" * 64)


@pytest.mark.parametrize("times", [1, 20], ids=["one write", "twenty writes"])
@pytest.mark.parametrize("kind", ["signed", "sealed"])
@pytest.mark.parametrize("attack", [forge, flip])
def test_forged_definitions_are_never_used(
    redis_server: RedisServer, namespace: str, kind: str, attack: Attack, times: int
) -> None:
    """With a key, no client ever holds forged or altered definitions, or loses its flags; the fleet recovers."""
    with attacked_fleet(redis_server, namespace, kind) as fleet:
        cost = fleet.run_attack(attack, times=times, seconds=WATCHED)
    assert (cost.wrong, cost.lost) == (set(), 0)


def test_forged_definitions_are_used_without_a_key(redis_server: RedisServer, namespace: str) -> None:
    """A plain fleet uses what others write to its store."""
    with attacked_fleet(redis_server, namespace, "plain") as fleet:
        cost = fleet.run_attack(forge, times=1, seconds=WATCHED)
    assert cost.wrong == {FORGED}
    assert cost.lost == 0


@pytest.mark.parametrize("times", [1, 20], ids=["one write", "twenty writes"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attack", [delete, truncate])
def test_what_is_deleted_is_put_back(
    redis_server: RedisServer, namespace: str, kind: str, attack: Attack, times: int
) -> None:
    """Deleting or breaking what is stored takes no flag from a running worker, whatever the protection."""
    with attacked_fleet(redis_server, namespace, kind) as fleet:
        cost = fleet.run_attack(attack, times=times, seconds=WATCHED)
    assert (cost.wrong, cost.lost) == (set(), 0)
