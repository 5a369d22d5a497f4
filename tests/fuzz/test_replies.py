from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagcache.encoding.protection import protection_of
from flagcache.settings import Options, Settings
from flagcache.stores.base import Ask, Grant, Meta, Reply
from flagcache.stores.memory import MemoryStore
from flagcache.stores.spec import StoreSpec
from flagcache_posthog.provider import FlagDefinitionCache
from tests.fuzz import strategies as hostile
from tests.fuzz.conftest import KEY, fuzz, named
from tests.fuzz.damaged_caches import INTERVAL, DamagedFleet, InputCount, damaged_fleet


@dataclass(slots=True)
class ReplyChanges:
    """The changes of the next replies."""

    reply: dict[str, object] = field(default_factory=dict[str, object])
    meta: dict[str, object] = field(default_factory=dict[str, object])


class CompromisedStore(MemoryStore):
    """Replies to polls as a compromised store does, while that is switched on."""

    def __init__(self, changes: ReplyChanges) -> None:
        super().__init__()
        self._changes = changes

    def poll(self, ask: Ask) -> Reply:
        """As `Store.poll`, except for the false values."""
        reply = super().poll(ask)
        if self._changes.meta:
            known = reply.meta or self._meta() or Meta("", 0, 0, 0, 0)
            reply = reply._replace(unchanged=False, meta=known._replace(**self._changes.meta))  # type: ignore[arg-type]
        return reply._replace(**self._changes.reply)  # type: ignore[arg-type]

    def _meta(self) -> Meta | None:
        return self.inspect().meta


@pytest.fixture
def changes() -> ReplyChanges:
    """Return the control of the store's replies."""
    return ReplyChanges()


@pytest.fixture
def store(changes: ReplyChanges) -> CompromisedStore:
    """The store of the fleet."""
    return CompromisedStore(changes)


@pytest.fixture
def both(store: CompromisedStore, namespace: str) -> Iterator[DamagedFleet]:
    """Return the caches that must survive it; they have a key, so they believe only the truth."""

    def make(options: Options) -> FlagDefinitionCache:
        settings = Settings(
            refresh_interval=INTERVAL,
            cold_start_wait=options.get("cold_start_wait") or 0.05,
            challenge_after=options.get("challenge_after") or 0.05,
            on_quota_limited="keep",
        )
        stores = (StoreSpec("the fleet's", lambda: store), StoreSpec("its own", MemoryStore, pace=2))
        return FlagDefinitionCache(namespace, settings, protection_of(KEY, None), stores)

    def version() -> str:
        meta = store.inspect().meta
        return meta.version if meta else ""

    with damaged_fleet(make, version, partial(named, "signed")) as pair:
        yield pair


_whole = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, 1, -1, 2**53, 2**53 - 1, 2**62]))
_text = hostile.texts().map(lambda raw: raw.decode("utf-8", "replace"))
_meta_lies = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("epoch", "as_of", "changed_at", "confirmed_at"), _whole),
        **dict.fromkeys(("etag", "writer", "project"), _text),
        "version": hostile.versions().map(lambda raw: raw.decode("utf-8", "replace")),
    },
)
_reply_lies = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("clock", "lease_left", "granted_at", "backoff_status", "backoff_left"), _whole),
        **dict.fromkeys(("leads", "unchanged", "republish"), st.booleans()),
        "grant": st.none() | st.builds(Grant, _whole, _whole, _whole),
        "payload": st.none() | st.binary(max_size=200),
    },
)


def test_replies(changes: ReplyChanges, both: DamagedFleet, count: InputCount) -> None:
    """Whatever a store answers to a poll, no flag is lost and none but signed ones are used; the next truth is."""

    @fuzz(max_examples=300)
    @given(reply=_reply_lies, meta=_meta_lies)
    def change(reply: dict[str, object], meta: dict[str, object]) -> None:
        count.inputs += 1
        changes.reply, changes.meta = reply, meta
        both.survive()
        changes.reply, changes.meta = {}, {}
        both.heal()

    change()
