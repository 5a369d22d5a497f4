# mypy: disallow-untyped-calls=False
# redis-py leaves most of its methods without types.
from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import cast

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache.settings import Options
from flagcache.stores.redis.store import Keys, RedisStore, keys_of
from flagcache.stores.redis.wire import LONGEST_NOTICE
from flagcache_posthog import FlagDefinitionCache, RedisFlagDefinitionCache
from tests.fuzz import strategies as hostile
from tests.fuzz.conftest import KINDS, fuzz, named, well_formed
from tests.fuzz.damaged_caches import INTERVAL, DamagedFleet, InputCount, damaged_fleet
from tests.support.servers import RedisServer


class RedisEditor:
    """Reaches into one namespace in Redis."""

    def __init__(self, server: RedisServer, namespace: str, kind: str) -> None:
        self.keys: Keys = keys_of(namespace, 0, format_and_protection=f"1-{kind}")
        self.admin = server.client()

    def version(self) -> str:
        """What is stored."""
        return (self.get("version") or b"").decode(errors="replace")

    def get(self, field: str) -> bytes | None:
        """One field."""
        return cast("bytes | None", self.admin.hget(self.keys.hash, field))

    def put(self, **fields: bytes | int) -> None:
        """Overwrite fields."""
        self.admin.hset(self.keys.hash, items=[part for item in fields.items() for part in item])


@pytest.fixture
def editor(redis_server: RedisServer, namespace: str, kind: str) -> RedisEditor:
    """Return the attacker that damages the store."""
    return RedisEditor(redis_server, namespace, kind)


@pytest.fixture
def both(redis_server: RedisServer, namespace: str, kind: str, editor: RedisEditor) -> Iterator[DamagedFleet]:
    """Return the caches that must survive it."""

    def make(options: Options) -> FlagDefinitionCache:
        options = {**options, **KINDS[kind]}
        return RedisFlagDefinitionCache(redis_server.url, namespace, refresh_interval=INTERVAL, **options)

    with damaged_fleet(make, editor.version, partial(named, kind)) as pair:
        yield pair


def test_payloads(editor: RedisEditor, both: DamagedFleet, kind: str, count: InputCount) -> None:
    """Whatever is stored as payload: only well-formed definitions are used, with a key only our own."""

    def takes(got: FlagDefinitionCacheData) -> bool:
        return kind == "plain" and well_formed(got)

    @fuzz(max_examples=80)
    @given(forgery=hostile.payloads(), known=st.booleans())
    def spoil(forgery: hostile.Forgery, known: bool) -> None:
        count.inputs += 1
        version = editor.version() if known else "f" * 32
        payload = forgery.of(editor.get("payload") or b"", version)
        editor.put(payload=payload, size=len(payload), version=version.encode(), as_of=_later(editor))
        both.survive(takes)
        both.heal()

    spoil()


FIELDS = (
    *(
        "epoch",
        "as_of",
        "changed_at",
        "confirmed_at",
        "size",
        "highest",
        "grant",
        "granted_1",
        "granted_2",
        "granted_3",
    ),
    *("lease_length", "led_since", "note_status", "note_until", "note_length", "repair_asked", "failures"),
    *("replaced_at", "key_missed_at", "reporting", "renewing", "fence", "deputy_seen"),
)
WORDS = ("version", "etag", "writer", "project", "holder", "outcome", "deputy", "unknown")


@st.composite
def _metadata(draw: st.DrawFn) -> dict[str, bytes | None]:
    """Fields and their new content; None deletes them."""
    spoilt: dict[str, bytes | None] = {}
    for field in draw(st.lists(st.sampled_from(FIELDS), max_size=6, unique=True)):
        spoilt[field] = draw(st.none() | hostile.numbers())
    for field in draw(st.lists(st.sampled_from(WORDS), max_size=3, unique=True)):
        spoilt[field] = draw(st.none() | (hostile.versions() if field == "version" else hostile.texts()))
    return spoilt


@pytest.mark.parametrize("kind", ["plain", "signed"], indirect=True)
def test_metadata(editor: RedisEditor, both: DamagedFleet, count: InputCount) -> None:
    """With any other content of the other fields, or without them, workers notice nothing except an event."""

    @fuzz(max_examples=80)
    @given(spoilt=_metadata())
    def spoil(spoilt: dict[str, bytes | None]) -> None:
        count.inputs += 1
        for field, value in spoilt.items():
            if value is None:
                editor.admin.hdel(editor.keys.hash, field)
            else:
                editor.put(**{field: value})
        both.survive()
        both.heal()

    spoil()


def _of_another_type(admin: redis.Redis, key: str, kind: str, value: bytes) -> None:
    admin.delete(key)
    {
        "string": lambda: admin.set(key, value),
        "list": lambda: admin.rpush(key, value),
        "set": lambda: admin.sadd(key, value),
        "sorted set": lambda: admin.zadd(key, {value: 1}),
        "hash": lambda: admin.hset(key, value, value),
        "stream": lambda: admin.xadd(key, {b"field": value}),
        "bits": lambda: admin.setbit(key, 10_000_000, 1),
        "nothing": lambda: None,
    }[kind]()


TYPES = ("string", "list", "set", "sorted set", "hash", "stream", "bits", "nothing")


@pytest.mark.parametrize("kind", ["plain", "signed"], indirect=True)
def test_keys(editor: RedisEditor, both: DamagedFleet, count: InputCount) -> None:
    """Keys of another type, of megabytes, with and without an end: they are replaced, and the lease is found again."""

    @fuzz(max_examples=50)
    @given(
        where=st.sampled_from(["hash", "lease", "both"]),
        kind=st.sampled_from(TYPES),
        value=hostile.texts().filter(bool),
        lasts=st.sampled_from([0, 1, 50, 1000, 10**12]),
    )
    def spoil(where: str, kind: str, value: bytes, lasts: int) -> None:
        count.inputs += 1
        for key in editor.keys[:2] if where == "both" else (getattr(editor.keys, where),):
            _of_another_type(editor.admin, key, kind, value)
            if lasts:
                editor.admin.pexpire(key, lasts)
        both.survive()
        both.heal()

    spoil()


@pytest.mark.parametrize("kind", ["plain", "signed"], indirect=True)
def test_notices(redis_server: RedisServer, namespace: str, kind: str, count: InputCount) -> None:
    """Whatever is published on the channel, a subscription continues, and only tells processes to ask."""
    store = RedisStore(redis_server.url, namespace, format_and_protection=f"1-{kind}")
    subscription, admin = store.subscribe(), redis_server.client()

    @fuzz(max_examples=300)
    @given(message=hostile.notices())
    def try_message(message: bytes) -> None:
        count.inputs += 1
        admin.publish(store.keys.channel, message)
        if len(message) > LONGEST_NOTICE:  # skipped: what comes after it still arrives
            assert subscription.get(2.0) is None
            admin.publish(store.keys.channel, "new 0 1")
        notice = subscription.get(2.0)
        assert notice is not None
        assert notice.epoch >= 0
        assert len(notice.kind) + len(notice.version) <= 200

    try_message()
    subscription.close()
    store.close()


def _later(editor: RedisEditor) -> int:
    """An order that makes all processes look."""
    stored = editor.get("as_of") or b"0"
    return int(stored) + 1 if stored.isdigit() else 1
