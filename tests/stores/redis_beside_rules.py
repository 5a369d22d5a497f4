# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
"""One namespace twice: in Redis, as the scripts leave it, and as a state of the rules.

The scripts go by the server's clock. So each verb runs on the server first, and then under the rules at the clock
that it ran at: a poll tells it, for all others it lies between two looks at the clock, and one of the milliseconds in
between must explain what came out. Time passes by moving all stored times back, in both; only the lease, whose time the
server counts by itself, is compared with a tolerance, and its lengths never end near a step.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar, cast

import redis

from flagcache.stores.base import Ask, Meta
from flagcache.stores.redis.store import Keys, RedisStore
from flagcache.stores.rules import verbs as rules
from flagcache.stores.rules.state import Outcome, State

T = TypeVar("T")

LEASE_TOLERANCE = 2000
"""Milliseconds by which a lease may seem to end earlier or later: a slow machine between two commands."""

TIMES = (
    *("as_of", "changed_at", "confirmed_at", "highest", "grant", "granted_1", "granted_2", "granted_3"),
    *("led_since", "note_until", "repair_asked", "reporting", "renewing", "fence", "deputy_seen"),
    *("replaced_at", "key_missed_at"),
)
"""The fields of the hash that hold a time."""

LENGTHS = ("epoch", "size", "lease_length", "note_status", "note_length", "failures")
"""The other numbers in it."""


TEXTS = ("version", "etag", "writer", "project", "holder", "deputy", "stamp", "note_stamp", "epoch_stamp")
LONGEST = {"version": 64, "etag": 1024, "writer": 512, "project": 512, "holder": 512, "deputy": 512}
"""Bytes of each."""
STAMPS = ("stamp", "note_stamp", "epoch_stamp")
LONGEST_STAMP = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def agree(on_server: object, by_rules: object) -> None:
    """Fail unless both are the same."""
    assert on_server == by_rules, f"on the server:\n  {on_server}\nby the rules:\n  {by_rules}"


def move_times_back(client: redis.Redis, keys: Keys, milliseconds: int) -> None:
    """Let time pass for what a server stores: all its times move back, and the lease ends sooner."""
    command = cast("Callable[..., object]", client.execute_command)
    raw = cast("dict[bytes, bytes]", command("HGETALL", keys.hash))
    for name in TIMES:
        if time := _whole(raw.get(name.encode())):
            command("HSET", keys.hash, name, time - milliseconds)
    left = cast("int", command("PTTL", keys.lease))
    if left > 0:
        command("PEXPIRE", keys.lease, left - milliseconds)  # nothing left: the key goes


class ComparedStores:
    """Runs verbs on both and compares their replies and what they store."""

    def __init__(self, client: redis.Redis, store: RedisStore) -> None:
        self.client = client
        self.store = store
        self.state = State()
        self.payload = b""

    def now(self) -> int:
        """The server's clock."""
        seconds, microseconds = cast("tuple[int, int]", self._command("TIME"))
        return seconds * 1000 + microseconds // 1000

    def poll(self, ask: Ask) -> None:
        """Poll both."""
        seen = self.store.poll(ask)
        self.state, expected = rules.poll(self.state, ask, seen.clock, size=len(self.payload))
        if expected.payload is not None:
            expected = expected._replace(payload=self.payload)
        assert abs(seen.lease_left - expected.lease_left) <= LEASE_TOLERANCE
        agree(seen._replace(lease_left=0), expected._replace(lease_left=0))
        self.compare()

    def run(self, on_server: Callable[[], T], by_rules: Callable[[State, int], tuple[State, T]]) -> T:
        """Run a verb on both."""
        before = self.now()
        seen = on_server()
        after = self.now()
        found = self._stored()
        outcomes = [by_rules(self.state, clock) for clock in range(before, after + 1)]
        state, expected = next((o for o in outcomes if _same(o[0], found) and o[1] == seen), outcomes[-1])
        agree(seen, expected)
        self.state = state
        self.compare()
        return seen

    def compare(self) -> None:
        """Hold what the server stores and shows against the model, which then takes over the lease's end."""
        found = self._stored()
        agree(_without_lease_end(found), _without_lease_end(self.state))
        assert _same(found, self.state)
        if self.state.meta:
            agree(self._command("HGET", self.store.keys.hash, "payload"), self.payload)
        self.state = self.state._replace(lease_until=found.lease_until)
        seen = self.store.inspect()
        expected = rules.snapshot(self.state, len(self.payload) if self.state.meta else 0, seen.clock)
        assert abs(seen.lease_left - expected.lease_left) <= LEASE_TOLERANCE
        agree(seen._replace(lease_left=0), expected._replace(lease_left=0))

    def damage(self, field: str, value: str) -> None:
        """Spoil a field of the hash; the model knows what is left."""
        if self._command("HEXISTS", self.store.keys.hash, field):
            self._command("HSET", self.store.keys.hash, field, value)
            self.state = self._stored()

    def pass_time(self, milliseconds: int) -> None:
        """Move all stored times back; less than nothing: step the clock back."""
        move_times_back(self.client, self.store.keys, milliseconds)
        self.state = _moved(self.state, milliseconds, self.now())
        self.compare()

    def lengthen_lease(self, length: int) -> None:
        """Set the lease's end in both, after a verb that lets it end soon, near a later step."""
        if not self.state.owner:
            return
        self._command("PEXPIRE", self.store.keys.lease, length)
        self._command("HSET", self.store.keys.hash, "lease_length", length)
        self.state = self.state._replace(lease_until=self.now() + length, lease_length=length)
        self.compare()

    def forget(self) -> None:
        """Remove the keys."""
        self._command("DEL", self.store.keys.hash, self.store.keys.lease)

    def _command(self, *words: str | int) -> object:
        return cast("Callable[..., object]", self.client.execute_command)(*words)

    def _hash(self) -> dict[str, bytes]:
        raw = cast("dict[bytes, bytes]", self._command("HGETALL", self.store.keys.hash))
        return {name.decode(): value for name, value in raw.items()}

    def _stored(self) -> State:
        """Read what the server stores, by a reading of its own."""
        raw, lease = self._hash(), self.store.keys.lease
        number = {name: _whole(raw.get(name)) for name in (*TIMES, *LENGTHS)}
        text = {name: raw.get(name, b"").decode() for name in TEXTS}
        text |= {name: "" for name in STAMPS if len(text[name]) > LONGEST_STAMP}
        sound = {name: len(text[name]) <= LONGEST[name] and not _CONTROL.search(text[name]) for name in LONGEST}
        complete = all(_is_whole(raw.get(name)) for name in ("as_of", "changed_at", "confirmed_at", "size"))
        meta = None
        complete = complete and re.fullmatch(r"[A-Za-z0-9._-]+", text["version"]) is not None
        complete = complete and all(sound[name] for name in TEXTS[:4])
        if complete and number["size"] and number["size"] == len(raw.get("payload", b"")):
            meta = Meta(
                *(text["version"], number["epoch"], number["as_of"], number["changed_at"], number["confirmed_at"]),
                *(text["etag"], text["writer"], text["project"], text["stamp"]),
            )
        owner, left = cast("bytes | None", self._command("GET", lease)), cast("int", self._command("PTTL", lease))
        outcome = raw.get("outcome", b"").decode()
        return State(
            meta=meta,
            epoch=number["epoch"],
            epoch_stamp=text["epoch_stamp"],
            highest=max(number["highest"], number["grant"], meta.as_of if meta else 0),
            grant=number["grant"],
            granted=(number["granted_1"], number["granted_2"], number["granted_3"]),
            holder=text["holder"] if sound["holder"] else "",
            outcome=Outcome(outcome) if outcome in set(Outcome) else Outcome.DONE,
            owner=owner.decode() if owner else "",
            lease_until=self.now() + left if owner else 0,
            lease_length=number["lease_length"],
            led_since=number["led_since"],
            failures=number["failures"],
            reporting=number["reporting"],
            renewing=number["renewing"],
            fence=number["fence"] if number["fence"] <= number["grant"] else 0,
            deputy=text["deputy"] if sound["deputy"] else "",
            deputy_seen=number["deputy_seen"],
            backoff_status=number["note_status"],
            backoff_until=number["note_until"],
            backoff_length=number["note_length"],
            backoff_stamp=text["note_stamp"],
            repair_asked=number["repair_asked"],
            replaced_at=number["replaced_at"],
            key_missed_at=number["key_missed_at"],
        )


def _is_whole(value: bytes | None) -> bool:
    return value is not None and value.isdigit() and int(value) < 2**53


def _whole(value: bytes | None) -> int:
    return int(value) if value is not None and _is_whole(value) else 0


def _without_lease_end(state: State) -> State:
    return state._replace(lease_until=0)


def _same(one: State, other: State) -> bool:
    lease = not one.owner or abs(one.lease_until - other.lease_until) <= LEASE_TOLERANCE
    return lease and _without_lease_end(one) == _without_lease_end(other)


def _moved(state: State, milliseconds: int, clock: int) -> State:
    """The state after time has passed; Redis forgets a lease that has ended."""

    def back(time: int) -> int:
        return time and time - milliseconds

    newest, second, third = (back(time) for time in state.granted)
    meta = state.meta and state.meta._replace(
        as_of=back(state.meta.as_of),
        changed_at=back(state.meta.changed_at),
        confirmed_at=back(state.meta.confirmed_at),
    )
    until = back(state.lease_until)
    return state._replace(
        meta=meta,
        highest=back(state.highest),
        grant=back(state.grant),
        granted=(newest, second, third),
        owner=state.owner if until > clock else "",
        lease_until=until if until > clock else 0,
        led_since=back(state.led_since),
        backoff_until=back(state.backoff_until),
        reporting=back(state.reporting),
        renewing=back(state.renewing),
        fence=back(state.fence),
        deputy_seen=back(state.deputy_seen),
        repair_asked=back(state.repair_asked),
        replaced_at=back(state.replaced_at),
        key_missed_at=back(state.key_missed_at),
    )
