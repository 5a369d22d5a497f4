from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random

import pytest

from flagcache.errors import StoreError
from flagcache.stores.base import Ask, Envelope, Grant, Meta, Notice, Order, Published, Reply, Scope
from flagcache.stores.memory import MemoryStore
from flagcache.stores.sqlite.store import SqliteStore
from tests.support.forked_functions import forked, race

LONG = 1_000_000
"""Milliseconds that no test lasts."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / "flags.db"


def ask(me: str = "me", meta: Meta | None = None, *, may_lead: bool = True) -> Ask:
    """Return the poll of a worker that holds the definitions of this metadata."""
    held, version = (meta.order, meta.version) if meta else (None, "")
    return Ask(me, LONG, LONG, LONG, LONG, may_lead=may_lead, held=held, held_version=version)


def fill(store: SqliteStore, version: str = "v1", payload: bytes = b"definitions") -> Meta:
    """Store definitions, from a process's memory, and return their metadata."""
    at = max(store.inspect().clock, 1)
    meta = Meta(version, store.inspect().epoch, at, at, at)
    assert store.publish("keeper", Envelope(meta, payload), fresh=False, lease=LONG) is Published.STORED
    return meta


def read(store: SqliteStore) -> Reply:
    """Poll as a worker that holds nothing and never leads."""
    return store.poll(ask("reader", may_lead=False))


def execute(path: Path, statement: str, *values: object) -> None:
    """Change the file behind the store's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


# --- the verbs


@pytest.mark.parametrize("seed", range(5))
def test_it_answers_as_the_memory_store_does(path: Path, seed: int) -> None:
    """After any steps in any order, in two namespaces of one file, every answer is that of two memory stores."""
    random, now = Random(seed), [1_000_000]
    memories = {name: MemoryStore(lambda: now[0]) for name in "ab"}
    handles = {name: [SqliteStore(path, name, clock=lambda: now[0]) for _ in range(2)] for name in "ab"}
    seen: set[object] = set()
    for _ in range(400):
        now[0] += random.choice([0, 1, 50, 500, 3000, -2000])
        name = random.choice("ab")
        verb = some_verb(random, now[0])
        answer = verb(random.choice(handles[name]))
        assert answer == verb(memories[name])
        assert handles[name][0].inspect().meta == memories[name].inspect().meta
        seen.add(type(answer) if isinstance(answer, Reply | int) else answer)
    assert {Reply, Published.STORED, Published.STALE} <= seen


def some_verb(random: Random, now: int) -> Callable[[SqliteStore | MemoryStore], object]:
    """Choose a verb, and what to ask with it."""
    me, version = random.choice(["x", "y", "z"]), random.choice(["v1", "v2", "v3"])
    fresh, idle = random.random() < 0.5, random.random() < 0.5
    as_of, epoch = max(0, now - random.choice([0, 1, 1000])), random.choice([0, 0, 1])
    scope = random.choice(list(Scope))
    held = random.choice([None, Order(epoch, as_of)])
    question = Ask(me, 1000, 3000, 500, 5000, idle=idle, last_grant=as_of, held=held, held_version=version)
    content = Envelope(Meta(version, epoch, as_of, as_of, as_of, etag=me), version.encode() * random.randrange(1, 4000))
    verbs: list[Callable[[SqliteStore | MemoryStore], object]] = [
        lambda store: store.poll(question),
        lambda store: store.poll(question),
        lambda store: store.publish(me, content, fresh=fresh, lease=3000),
        lambda store: store.confirm(me, version, Grant(epoch, as_of, now), lease=3000),
        lambda store: store.discard(me, version),
        lambda store: store.fail(me, as_of, scope, status=429, retry_after=900),
        lambda store: store.renew(me, 3000),
        lambda store: store.release(me, idle=idle),
    ]
    return random.choice([*verbs, lambda store: store.clear()] if random.random() < 0.1 else verbs)


# --- processes


def test_twelve_processes_that_make_the_file_at_once_get_one_lease_and_one_grant(tmp_path: Path) -> None:
    """However many processes come first at the same instant: none fails, one leads, one is granted a fetch."""
    for number in range(5):

        def poll(number: int = number) -> str:
            reply = SqliteStore(tmp_path / f"{number}.db", "n", timeout=20).poll(ask(str(os.getpid())))
            return f"{reply.leads} {reply.grant is not None}"

        answers = race([poll] * 12)
        assert sorted(answers) == ["False False"] * 11 + ["True True"]


def test_processes_that_publish_at_once_leave_a_whole_file(path: Path) -> None:
    """Many writers at once: the newest is stored, with its own payload, and the file is sound."""

    def publish(number: int) -> str:
        store = SqliteStore(path, "n", timeout=20)
        for turn in range(20):
            as_of = 1 + turn * 6 + number
            meta = Meta(f"v{as_of}", 0, as_of, as_of, as_of)
            store.publish(str(number), Envelope(meta, b"%d," % as_of * 5000), fresh=False, lease=LONG)
        return "done"

    assert race([partial(publish, number) for number in range(6)]) == ["done"] * 6
    reply = read(SqliteStore(path, "n"))
    assert reply.meta is not None
    assert reply.meta.as_of == 120
    assert reply.payload == b"120," * 5000
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# --- waiting


def test_an_unchanged_poll_waits_for_no_writer(path: Path) -> None:
    """A follower that lacks nothing gets a reply while another process holds the write lock."""
    store = SqliteStore(path, "n", timeout=60)
    store.poll(ask("leader"))
    meta = fill(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        assert store.poll(ask("follower", meta)).unchanged
        assert read(store).payload == b"definitions"
        assert time.monotonic() - start < 30


def test_a_poll_that_must_write_gives_up_after_the_timeout(path: Path) -> None:
    """A write lock that another keeps costs the timeout, once, and then a `StoreError` that names the file."""
    store = SqliteStore(path, "n", timeout=0.2)
    fill(store)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        with pytest.raises(StoreError, match=r"flags\.db.*locked"):
            store.poll(ask())
        assert 0.15 < time.monotonic() - start < 10
        writer.execute("ROLLBACK")
    assert store.poll(ask()).leads


def test_a_verb_waits_for_other_threads_no_longer_than_the_timeout(path: Path) -> None:
    """A thread that stands still in a transaction holds up the others for their timeout only."""
    inside, leave = threading.Event(), threading.Event()

    def clock() -> int:
        inside.set()
        assert leave.wait(60)
        return 1

    store = SqliteStore(path, "n", timeout=0.1, clock=clock)
    thread = threading.Thread(target=lambda: store.renew("other", LONG))
    thread.start()
    assert inside.wait(60)
    with pytest.raises(StoreError, match="another thread"):
        store.inspect()
    leave.set()
    thread.join()
    assert store.inspect().clock == 1


# --- what may be believed


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM payload",
        "UPDATE payload SET body = substr(body, 1, 3)",
        "UPDATE payload SET body = NULL",
        "UPDATE payload SET body = 'definition!'",
    ],
)
def test_a_broken_payload_counts_as_absent_and_is_repaired(path: Path, change: str) -> None:
    """Metadata without a payload, or with a short or wrong one, counts as nothing stored; a holder repairs it."""
    store = SqliteStore(path, "n")
    meta = fill(store)
    execute(path, change)
    assert read(store).meta is None
    assert store.poll(ask("follower", meta, may_lead=False)).republish
    assert store.publish("follower", Envelope(meta, b"definitions"), fresh=False, lease=LONG) is Published.STORED
    assert read(store).payload == b"definitions"


COLUMNS = [
    "epoch", "highest", "version", "as_of", "changed_at", "confirmed_at", "etag", "writer", "project", "payload_size",
    "grant_as_of", "granted_1", "granted_2", "granted_3", "holder", "outcome", "owner", "lease_until", "lease_length",
    "led_since", "note_status", "note_until", "note_length", "repair_asked",
]  # fmt: skip
NEEDED = {"epoch", "version", "as_of", "changed_at", "confirmed_at", "etag", "writer", "project", "payload_size"}


@pytest.mark.parametrize("value", ["garbage", -1, 1.5, float("inf"), 2**53, 2**63 - 1, b"\xff\xfe", None])
@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_with_garbage_counts_as_empty(path: Path, column: str, value: object) -> None:
    """Whatever a column holds, polls are answered, and a new publication repairs the row."""
    store = SqliteStore(path, "n")
    fill(store)
    store.poll(ask("leader"))
    execute(path, f"UPDATE state SET {column} = ?", value)
    reply = read(store)
    if column in NEEDED and not (isinstance(value, str) and column in {"version", "etag", "writer", "project"}):
        text = column in {"version", "etag", "writer", "project"} and isinstance(value, int | float)
        assert (reply.meta is None) is not text  # a number in a text column is text
    store.poll(ask("other"))
    store.renew("leader", LONG)
    store.release("leader", idle=True)
    fill(store, "v2")
    assert read(store).payload == b"definitions"


def test_text_that_is_no_text_counts_as_empty(path: Path) -> None:
    """Bytes that are no UTF-8 in a text column are not believed, and raise nothing."""
    store = SqliteStore(path, "n")
    fill(store)
    execute(path, "UPDATE state SET owner = CAST(x'fffe' AS TEXT), version = CAST(x'fffe' AS TEXT)")
    assert read(store).meta is None
    assert store.poll(ask()).leads


TOO_LONG = ["'x' || hex(zeroblob(500000))", "zeroblob(1000000)", "CAST(zeroblob(1000000) || x'ff' AS TEXT)"]
"""A text, bytes, and what is not UTF-8, in SQL."""


@pytest.mark.parametrize("value", TOO_LONG)
@pytest.mark.parametrize("column", ["etag", "holder", "failures", "replaced_at", "note_stamp"])
def test_a_value_that_no_process_writes_is_removed(path: Path, column: str, value: str) -> None:
    """Each poll would read its megabyte again: the leader's next poll removes it, and the definitions are back."""
    store = SqliteStore(path, "n")
    meta = fill(store)
    store.poll(ask("leader"))
    execute(path, f"UPDATE state SET {column} = {value}")
    assert store.poll(ask("leader", meta)).republish is (column == "etag")
    with closing(sqlite3.connect(path)) as connection:
        [left] = connection.execute(f"SELECT length(CAST({column} AS BLOB)) FROM state").fetchone()
    assert (left or 0) < 1000
    if column == "etag":
        assert store.publish("leader", Envelope(meta, b"definitions"), fresh=False, lease=LONG) is Published.STORED
    assert read(store).payload == b"definitions"


def test_what_cannot_be_stored_is_a_store_error(path: Path) -> None:
    """Text and numbers that SQLite does not take raise nothing else."""
    store = SqliteStore(path, "n")
    with pytest.raises(StoreError):
        store.publish("me", Envelope(Meta("\ud800", 0, 1, 1, 1), b""), fresh=False, lease=LONG)
    with pytest.raises(StoreError):
        store.publish("me", Envelope(Meta("v", 0, 2**70, 1, 1), b""), fresh=False, lease=LONG)
    assert store.inspect().meta is None


# --- notices


def test_a_notice_of_another_process_arrives_soon(path: Path) -> None:
    """A publication by another process is noticed within a few looks."""
    with closing(SqliteStore(path, "n").subscribe()) as subscription:

        def publish() -> str:
            return fill(SqliteStore(path, "n")).version

        with forked(publish) as child:
            assert subscription.get(10) == Notice("new", 0, "v1")
            assert child.answer() == "v1"
        assert subscription.get(0) is None


def test_close_wakes_a_get_under_way(path: Path) -> None:
    """A thread that waits for notices ends at once."""
    subscription = SqliteStore(path, "n").subscribe()
    thread = threading.Thread(target=lambda: subscription.get(600))
    thread.start()
    subscription.close()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("how", ["too many", "deleted"])
def test_a_subscription_that_missed_something_says_so(path: Path, how: str) -> None:
    """If more notices were sent than are kept, or the file was replaced, the stream is lost."""
    store = SqliteStore(path, "n")
    store.clear()
    with closing(store.subscribe()) as subscription:
        if how == "deleted":
            path.unlink()
        else:
            for _ in range(65):
                store.clear()
        with pytest.raises(StoreError, match="replaced, or more"):
            subscription.get(10)


def test_its_address_and_its_repr_tell_where_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is a URL with an absolute path, whatever the later working directory is."""
    monkeypatch.chdir(path.parent)
    store = SqliteStore("flags.db", "n")
    assert store.address == f"sqlite://{path}"
    assert repr(store) == f"<SqliteStore sqlite://{path} namespace='n'>"
