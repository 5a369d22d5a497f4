from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from flagcache.errors import StoreError
from flagcache.stores.base import Ask, Envelope, Meta, Notice, Published, Reply
from flagcache.stores.sqlite import SqliteStore
from tests.stores.forks import forked, race

LONG = 1_000_000
"""Milliseconds that no test lasts."""

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts, or becomes another user")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / "flags.db"


def ask(me: str = "me", meta: Meta | None = None, *, may_lead: bool = True) -> Ask:
    """Return the poll of a worker who holds what the metadata tell of."""
    held, version = (meta.order, meta.version) if meta else (None, "")
    return Ask(me, LONG, LONG, LONG, LONG, may_lead=may_lead, held=held, held_version=version)


def fill(store: SqliteStore, version: str = "v1", payload: bytes = b"definitions") -> Meta:
    """Store definitions, from a process's memory, and return their metadata."""
    at = max(store.inspect().clock, 1)
    meta = Meta(version, store.inspect().epoch, at, at, at)
    assert store.publish("keeper", Envelope(meta, payload), fresh=False, lease=LONG) is Published.STORED
    return meta


def read(store: SqliteStore) -> Reply:
    """Poll as somebody who holds nothing and never leads."""
    return store.poll(ask("reader", may_lead=False))


def execute(path: Path, statement: str, *values: object) -> None:
    """Change the file behind the store's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


@contextmanager
def mounted(path: Path, options: str) -> Generator[Path]:
    """A small file system of the test's own."""
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


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

    assert race([lambda number=number: publish(number) for number in range(6)]) == ["done"] * 6
    reply = read(SqliteStore(path, "n"))
    assert reply.meta is not None
    assert reply.meta.as_of == 120
    assert reply.payload == b"120," * 5000
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# --- waiting


def test_an_unchanged_poll_waits_for_no_writer(path: Path) -> None:
    """A follower who lacks nothing is answered while another process holds the write lock."""
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
    """Metadata whose payload is gone, shorter or no bytes tell of nothing; whoever holds the definitions repairs them."""
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
    """Whatever a column holds, polls are answered, and a new publication makes all well."""
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


def test_what_cannot_be_stored_is_a_store_error(path: Path) -> None:
    """Text and numbers that SQLite does not take raise nothing else."""
    store = SqliteStore(path, "n")
    with pytest.raises(StoreError):
        store.publish("me", Envelope(Meta("\ud800", 0, 1, 1, 1), b""), fresh=False, lease=LONG)
    with pytest.raises(StoreError):
        store.publish("me", Envelope(Meta("v", 0, 2**70, 1, 1), b""), fresh=False, lease=LONG)
    assert store.inspect().meta is None


# --- the file


def test_nobody_else_may_read_the_files(path: Path) -> None:
    """The file, its log and its shared memory are of mode 0600 even where the umask allows all."""
    old = os.umask(0)
    try:
        store = SqliteStore(path, "n")
        fill(store)
        modes = {file.name: oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()}
        assert modes == {"flags.db": "0o600", "flags.db-wal": "0o600", "flags.db-shm": "0o600"}
    finally:
        os.umask(old)
    store.close()
    assert [file.name for file in path.parent.iterdir()] == ["flags.db"]


def test_a_directory_that_others_may_write_is_told_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A user's own directory is used as it is; that others may write it is logged, once."""
    path.parent.chmod(0o777)
    for namespace in ("a", "b"):
        SqliteStore(path, namespace).inspect()
    assert [r.levelno for r in caplog.records if "others may write" in r.message] == [logging.WARNING]


def test_a_missing_directory_is_named(path: Path) -> None:
    """A path in a directory that does not exist is an error that says what to make."""
    with pytest.raises(StoreError, match=r"nowhere does not exist; make it"):
        SqliteStore(path.parent / "nowhere" / "flags.db", "n").inspect()


@pytest.mark.parametrize("application", [0, 77])
def test_a_database_of_another_program_is_left_alone(path: Path, application: int) -> None:
    """Somebody else's database stays as it is, byte for byte."""
    execute(path, "CREATE TABLE theirs (a)")
    execute(path, f"PRAGMA application_id={application}")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        SqliteStore(path, "n").inspect()
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["flags.db"]


def test_a_newer_format_is_left_alone(path: Path) -> None:
    """A file that a newer flagcache made is refused, with what to do, and not set aside."""
    store = SqliteStore(path, "n")
    meta = fill(store)
    store.close()
    execute(path, "PRAGMA user_version=2")
    with pytest.raises(StoreError, match=r"flags\.db: its format is 2.*upgrade"):
        store.inspect()
    execute(path, "PRAGMA user_version=1")
    assert store.inspect().meta == meta


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    """A file that was only touched is as good as none."""
    path.touch(0o644)
    store = SqliteStore(path, "n")
    fill(store)
    assert path.stat().st_mode & 0o777 == 0o600


def damage(path: Path, how: str) -> None:
    """Break the file while nobody has it open."""
    content = path.read_bytes()
    match how:
        case "garbage":
            path.write_bytes(b"no database at all " * 1000)
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case _:
            path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


@pytest.mark.parametrize("how", ["garbage", "truncated", "overwritten"])
def test_a_broken_file_is_set_aside_and_made_anew(path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is no sound database is kept under another name, reported once, and the store works at once."""
    store = SqliteStore(path, "n")
    fill(store, payload=os.urandom(100_000))
    store.close()
    damage(path, how)
    content = path.read_bytes()
    assert store.poll(ask()).leads
    other = SqliteStore(path, "n")
    assert not other.poll(ask("other")).leads
    fill(other)
    assert read(store).payload == b"definitions"
    aside = path.with_name("flags.db.corrupt-1")
    assert aside.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "corrupt-1" in caplog.text


def test_a_file_that_breaks_while_it_is_open_is_set_aside(path: Path) -> None:
    """Damage under an open store shows at the next read of it; all handles then meet in the new file."""
    store, other = SqliteStore(path, "n"), SqliteStore(path, "n")
    fill(store, payload=os.urandom(100_000))
    other.inspect()
    execute(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    fill(SqliteStore(path, "other"))
    assert other.poll(ask("other")).leads
    assert not store.poll(ask()).leads
    assert path.with_name("flags.db.corrupt-1").exists()


def test_processes_that_find_the_same_broken_file_set_it_aside_once(path: Path) -> None:
    """However many find it at the same instant: one new file, one lease."""
    path.write_bytes(b"no database at all " * 1000)

    def poll() -> str:
        return str(SqliteStore(path, "n", timeout=20).poll(ask(str(os.getpid()))).leads)

    assert sorted(race([poll] * 8)) == ["False"] * 7 + ["True"]
    assert len(list(path.parent.glob("*.corrupt-*"))) == 1


def test_broken_files_do_not_fill_the_disk(path: Path) -> None:
    """Of files that break again and again only some are kept."""
    store = SqliteStore(path, "n")
    for _ in range(12):
        path.write_bytes(b"no database at all " * 100)
        store.inspect()
    assert len(list(path.parent.glob("*.corrupt-*"))) == 9


@pytest.mark.parametrize("log_too", [True, False])
def test_a_deleted_file_is_made_anew(path: Path, *, log_too: bool) -> None:
    """All handles notice at their next verb that the file was deleted, and meet in the new one; no log is mixed up."""
    stores = [SqliteStore(path, "n") for _ in range(3)]
    for store in stores:
        store.inspect()
    fill(stores[0], "old", payload=b"old" * 1000)
    for file in path.parent.iterdir():
        if log_too or file == path:
            file.unlink()
    assert stores[0].inspect().meta is None
    meta = fill(stores[0], "new")
    assert stores[1].inspect().meta == meta
    stores[2].close()  # the last one that has the old file open: the new one's log stays
    assert read(SqliteStore(path, "n")).payload == b"definitions"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@ROOT
def test_a_file_that_may_only_be_read_still_answers(path: Path) -> None:
    """Who may not write the file is told what is stored, while somebody leads; what needs a write is an error."""
    store = SqliteStore(path, "n")
    store.poll(ask("leader"))
    meta = fill(store)
    for parent in [*path.parents][:-2]:
        parent.chmod(0o755)
    for file in path.parent.iterdir():
        file.chmod(0o644)

    def look() -> str:
        os.setgid(65534)
        os.setuid(65534)
        reader = SqliteStore(path, "n")
        assert reader.poll(ask("follower")).payload == b"definitions"
        assert reader.poll(ask("follower", meta)).unchanged
        with pytest.raises(StoreError, match="readonly"):
            reader.clear()
        return "done"

    with forked(look) as child:
        assert child.answer() == "done"
    assert store.poll(ask("leader", meta)).leads


@ROOT
def test_a_read_only_file_system_still_answers(tmp_path: Path) -> None:
    """On a file system that became read-only the last definitions can be read."""
    with mounted(tmp_path / "disk", "size=4m") as disk:
        store = SqliteStore(disk / "flags.db", "n")
        fill(store)
        store.close()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert read(store).payload == b"definitions"
        with pytest.raises(StoreError, match="readonly"):
            store.poll(ask())
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert store.poll(ask()).leads


@ROOT
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """A publication that finds no room is an error; what was stored before stays, and is read."""
    with mounted(tmp_path / "disk", "size=256k") as disk:
        store = SqliteStore(disk / "flags.db", "n")
        meta = fill(store)
        newer = Envelope(Meta("v2", 0, meta.as_of + 1, 1, 1), os.urandom(400_000))
        for _ in range(3):
            with pytest.raises(StoreError, match="full"):
                store.publish("me", newer, fresh=False, lease=LONG)
            assert read(store).payload == b"definitions"
        store.close()
        assert SqliteStore(disk / "flags.db", "n").inspect().meta == meta


# --- notices


def test_a_notice_of_another_process_arrives_soon(path: Path) -> None:
    """A publication elsewhere is told within a few looks."""
    with closing(SqliteStore(path, "n").subscribe()) as subscription:

        def publish() -> str:
            return fill(SqliteStore(path, "n")).version

        with forked(publish) as child:
            assert subscription.get(10) == Notice("new", 0, "v1")
            assert child.answer() == "v1"
        assert subscription.get(0) is None


def test_close_wakes_a_get_under_way(path: Path) -> None:
    """A thread that waits for notices is let go at once."""
    subscription = SqliteStore(path, "n").subscribe()
    thread = threading.Thread(target=lambda: subscription.get(600))
    thread.start()
    subscription.close()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("how", ["too many", "deleted"])
def test_a_subscription_that_missed_something_says_so(path: Path, how: str) -> None:
    """When more was told than is kept, or the file is another one, the stream is lost."""
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
    """The address is a URL with an absolute path, from wherever it is asked later."""
    monkeypatch.chdir(path.parent)
    store = SqliteStore("flags.db", "n")
    assert store.address == f"sqlite://{path}"
    assert repr(store) == f"<SqliteStore sqlite://{path} namespace='n'>"
