from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from flagcache.errors import StoreError
from flagcache.stores.base import Envelope, Meta
from flagcache.stores.sqlite.store import SqliteStore
from tests.stores.test_sqlite import LONG, ask, execute, fill, read
from tests.support.forked_functions import forked, race

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts, or becomes another user")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / "flags.db"


@contextmanager
def mounted(path: Path, options: str) -> Generator[Path]:
    """A small file system of the test's own."""
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=False).returncode:
        pytest.skip("this machine does not allow a mount")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def test_nobody_else_may_read_the_files(path: Path) -> None:
    """The file, its log and its shared memory have mode 0600 even if the umask allows all."""
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


@pytest.mark.parametrize(("name", "reason"), [("x" * 300, "file name too long"), ("file", "not a directory")])
def test_a_directory_that_cannot_be_one_is_told_by_the_systems_reason(path: Path, name: str, reason: str) -> None:
    """No error advises to create what can't be created, or what exists."""
    (path.parent / "file").write_text("a file")
    with pytest.raises(StoreError, match=reason):
        SqliteStore(path.parent / name / "flags.db", "n").inspect()


@ROOT
def test_a_directory_without_rights_is_named_once(path: Path) -> None:
    """The reason is in the system's own words, without the path, which the address has."""
    for parent in [*path.parents][:-2]:
        parent.chmod(0o755)

    def refused() -> str:
        os.setgid(65534)
        os.setuid(65534)
        with pytest.raises(StoreError) as caught:
            SqliteStore(path, "n").poll(ask("other"))
        return f"{caught.value.kind}: {caught.value.what}"

    with forked(refused) as child:
        assert child.answer() == "rights: permission denied"


@pytest.mark.parametrize("application", [0, 77])
def test_a_database_of_another_program_is_left_alone(path: Path, application: int) -> None:
    """Another program's database stays as it is, byte for byte."""
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
    """Break the file while no process has it open."""
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
    """What is no sound database is kept under another name, reported once, and the store works at once.

    A file that is garbage from its first byte on may be the user's own, unless only we use its name.
    """
    store = SqliteStore(path, "n", replace_foreign=how == "garbage")
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
    """Damage under an open store is found at its next read; then all handles use the new file."""
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
    """However many processes find it at the same instant, there is one new file and one lease."""
    path.write_bytes(b"no database at all " * 1000)

    def poll() -> str:
        return str(SqliteStore(path, "n", timeout=20, replace_foreign=True).poll(ask(str(os.getpid()))).leads)

    assert sorted(race([poll] * 8)) == ["False"] * 7 + ["True"]
    assert len(list(path.parent.glob("*.corrupt-*"))) == 1


def test_broken_files_do_not_fill_the_disk(path: Path) -> None:
    """Of files that break repeatedly only some are kept."""
    store = SqliteStore(path, "n", replace_foreign=True)
    for _ in range(12):
        path.write_bytes(b"no database at all " * 100)
        store.inspect()
    assert len(list(path.parent.glob("*.corrupt-?"))) == 9


@pytest.mark.parametrize("log_too", [True, False])
def test_a_deleted_file_is_made_anew(path: Path, *, log_too: bool) -> None:
    """All handles notice at their next verb that the file was deleted, and use the new one; no logs are mixed up."""
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


def descriptors() -> int:
    """How many files this process has open."""
    return len([*Path("/proc/self/fd").iterdir()])


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not tell what is open")
@pytest.mark.parametrize("how", ["deleted", "replaced", "broken"])
def test_files_that_go_are_closed(path: Path, how: str) -> None:
    """Each file that was deleted, replaced or set aside costs no descriptor, and the next one's log stays whole."""
    stores = [SqliteStore(path, "n") for _ in range(2)]
    counts: list[int] = []
    for number in range(10):
        fill(stores[0], f"v{number}", payload=os.urandom(20_000))
        for store in stores:
            assert (meta := store.inspect().meta) is not None
            assert meta.version == f"v{number}"
        counts.append(descriptors())
        if how == "deleted":
            path.unlink()
        elif how == "replaced":
            SqliteStore(path.with_name("other.db"), "n").inspect()
            for suffix in ("-wal", "-shm"):
                path.with_name(f"flags.db{suffix}").unlink()
            path.with_name("other.db").rename(path)
        else:
            execute(path, "PRAGMA wal_checkpoint(TRUNCATE)")
            with path.open("r+b") as file:
                file.seek(4096)
                file.write(b"\xff" * (path.stat().st_size - 4096))
        if how != "broken":
            assert stores[0].inspect().meta is None
    assert counts[-1] <= counts[1]


def test_who_closes_a_deleted_file_leaves_the_new_ones_log(path: Path) -> None:
    """The last process that has a deleted file open takes nothing from the file that has its name now."""
    opened, made = os.pipe(), os.pipe()

    def work() -> str:
        store = SqliteStore(path, "n")
        fill(store, "old")
        os.write(opened[1], b".")
        os.read(made[0], 1)
        store.close()
        return "done"

    with forked(work) as child:
        os.read(opened[0], 1)
        path.unlink()
        store = SqliteStore(path, "n")
        meta = fill(store, "new")
        os.write(made[1], b".")
        assert child.answer() == "done"
    for end in (*opened, *made):
        os.close(end)
    assert path.with_name("flags.db-wal").exists()

    with forked(lambda: str(SqliteStore(path, "n").inspect().meta)) as child:
        assert child.answer() == str(meta)


@ROOT
def test_a_file_that_may_only_be_read_still_answers(path: Path) -> None:
    """A process that may not write the file can read it while another one leads; what needs a write is an error."""
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
