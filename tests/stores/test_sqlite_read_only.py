"""A store on a read-only mount, while others write through another mount."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache.errors import StoreError
from flagcache.stores.sqlite.store import SqliteStore
from flagcache_posthog import SqliteFlagDefinitionCache
from flagcache_posthog.testing import make_definitions
from tests.stores.test_sqlite import ask, execute, fill, read
from tests.stores.test_sqlite_file import mounted

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts"),
    pytest.mark.skipif(sys.platform != "linux", reason="mounts as Linux does"),
]


@pytest.fixture
def views(tmp_path: Path) -> Generator[tuple[Path, Path]]:
    """One file, through a mount on which it can be written and one on which it cannot."""
    with mounted(tmp_path / "writable", "size=4m") as writable, bound(writable, tmp_path / "read-only") as view:
        yield writable / "flags.db", view / "flags.db"


@contextmanager
def bound(what: Path, path: Path) -> Generator[Path]:
    """The same file system once more, read-only."""
    path.mkdir()
    for command in (["--bind", str(what)], ["-o", "remount,bind,ro"]):
        if subprocess.run(["mount", *command, str(path)], check=False).returncode:
            pytest.skip("this machine does not allow a mount")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


WRITER = """
import sqlite3, sys
from pathlib import Path
from flagcache.stores.base import Envelope, Meta
from flagcache.stores.sqlite.store import SqliteStore

path = Path(sys.argv[1])
store = SqliteStore(path, "n")
for line in sys.stdin:
    version = line.strip()
    seen = store.inspect()
    meta = Meta(version, 0, *[max(seen.clock, seen.meta.as_of + 1 if seen.meta else 0)] * 3)
    print(store.publish("keeper", Envelope(meta, version.encode()), fresh=False, lease=1).value, flush=True)
store.close()
with sqlite3.connect(path) as connection:
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
"""


class PublishingProcess:
    """A process that publishes on request, and holds its file open in between.

    It is not a fork of this one, whose SQLite has the file open for reading only.
    """

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", WRITER, str(path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def publish(self, version: str) -> None:
        """Have it write this."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{version}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "stored\n"

    def end(self) -> None:
        """Have it close its file, and go."""
        self._process.communicate()
        assert self._process.returncode == 0

    def kill(self) -> None:
        """Have it go without closing anything."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def start() -> Generator[Callable[[Path], PublishingProcess]]:
    """Start writers, none of which outlives the test."""
    writers: list[PublishingProcess] = []

    def make(path: Path) -> PublishingProcess:
        writers.append(PublishingProcess(path))
        return writers[-1]

    yield make
    for writer in writers:
        writer.kill()


def test_what_a_living_writer_writes_is_read(
    views: tuple[Path, Path], start: Callable[[Path], PublishingProcess]
) -> None:
    """Each change is in its log, which a reader on the read-only mount sees with its next question."""
    writable, view = views
    writer = start(writable)
    writer.publish("v0")
    reader = SqliteStore(view, "n")
    for version in ("v1", "v2", "v3"):
        writer.publish(version)
        assert read(reader).payload == version.encode()
    writer.kill()
    assert read(reader).payload == b"v3"
    assert read(SqliteStore(view, "n")).payload == b"v3"  # also one that comes after its end


def test_a_writer_that_comes_later_is_heard(
    views: tuple[Path, Path], start: Callable[[Path], PublishingProcess]
) -> None:
    """A reader that found a file without a log looks again: for a log, for another one, for a changed file."""
    writable, view = views
    reader = SqliteStore(view, "n")
    for life in range(3):
        writer = start(writable)
        writer.publish(f"v{life}")
        if life:
            assert read(reader).payload == f"v{life}".encode()
        writer.end()
        assert read(reader).payload == f"v{life}".encode()


def test_a_log_in_the_place_of_another_is_read(
    views: tuple[Path, Path], start: Callable[[Path], PublishingProcess]
) -> None:
    """If the mounts share no locks, as over a network, the last writer takes its log away under a reader."""
    writable, view = views
    reader = SqliteStore(view, "n")
    for version in ("v1", "v2"):
        writer = start(writable)
        writer.publish(version)
        assert read(reader).payload == version.encode()
        writer.end()
        for suffix in ("-wal", "-shm"):
            writable.with_name(f"flags.db{suffix}").unlink()
        assert read(reader).payload == version.encode()


def test_looking_again_and_again_keeps_nothing_open(views: tuple[Path, Path]) -> None:
    """A reader that opens the file again closes what it had."""
    writable, view = views
    reader = SqliteStore(view, "n")
    counts: list[int] = []
    for number in range(12):
        store = SqliteStore(writable, "n")
        fill(store, f"v{number}")
        store.close()
        read(reader)
        counts.append(len([*Path("/proc/self/fd").iterdir()]))
    assert counts[-1] <= counts[2]


def test_a_log_without_its_index_hides_nothing_else(
    views: tuple[Path, Path], start: Callable[[Path], PublishingProcess]
) -> None:
    """A log whose index (`-shm`) is gone, and cannot be made here: what the file itself has is better than nothing."""
    writable, view = views
    store = SqliteStore(writable, "n")
    fill(store, "v1")
    store.close()
    writer = start(writable)
    writer.publish("v2")
    writer.kill()
    writable.with_name("flags.db-shm").unlink()
    assert read(SqliteStore(view, "n")).payload == b"definitions"


def test_it_can_be_written_again_once_the_mount_can(tmp_path: Path) -> None:
    """A reader notices at its next poll that the file system was mounted again."""
    with mounted(tmp_path / "disk", "size=4m") as disk:
        fill(SqliteStore(disk / "flags.db", "n"))
        subprocess.run(["mount", "-o", "remount,ro", disk], check=False)
        store = SqliteStore(disk / "flags.db", "n")
        read(store)
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert store.poll(ask()).leads


def test_a_file_of_an_earlier_release_is_read(views: tuple[Path, Path]) -> None:
    """A file of an earlier release is read although it lacks columns, which cannot be added here."""
    writable, view = views
    store = SqliteStore(writable, "n")
    meta = fill(store)
    store.close()
    execute(writable, "ALTER TABLE state DROP COLUMN deputy")
    execute(writable, "PRAGMA wal_checkpoint(TRUNCATE)")
    reply = read(SqliteStore(view, "n"))
    assert (reply.meta, reply.payload) == (meta, b"definitions")


def test_a_broken_file_stays_where_it_is(views: tuple[Path, Path]) -> None:
    """Nothing can be set aside there; the error says why, and a sound file is read when it comes."""
    writable, view = views
    store = SqliteStore(writable, "n")
    fill(store, payload=os.urandom(100_000))
    store.close()
    content = writable.read_bytes()
    writable.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    reader = SqliteStore(view, "n")
    with pytest.raises(StoreError):
        read(reader)
    writable.write_bytes(content)
    assert read(reader).meta is not None


def test_a_process_that_only_reads_follows_a_fleet(views: tuple[Path, Path]) -> None:
    """`role="reader"` on the read-only mount returns what the writers' fleet has."""
    writable, view = views
    leader = SqliteFlagDefinitionCache(writable, "team")
    reader = SqliteFlagDefinitionCache(view, "team", role="reader")
    for revision in (1, 2):
        definitions = cast("FlagDefinitionCacheData", make_definitions(2, revision=revision))
        leader.should_fetch_flag_definitions()
        leader.on_flag_definitions_received(definitions)
        assert reader.should_fetch_flag_definitions() is False
        assert reader.get_flag_definitions() == definitions
        assert reader.status().store_answers
    leader.shutdown()
    reader.shutdown()
