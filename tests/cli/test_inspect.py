"""`flagcache inspect` changes nothing, neither in a healthy store nor in one that a worker would repair."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from flagcache.cli import main
from flagcache.stores.redis.store import RedisStore, keys_of
from flagcache.stores.sqlite.store import SqliteStore
from tests.stores.test_sqlite import execute, fill
from tests.support.forked_functions import forked
from tests.support.servers import RedisServer

KEPT: list[SqliteStore] = []
"""Stores of a process that is about to end without closing them."""


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return when each file was changed, and its content."""
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in sorted(folder.iterdir())}


def inspected(url: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the version that is shown, or the error."""
    status = main(["inspect", url, "n", "--json"])
    out, err = capsys.readouterr()
    if status:
        return err
    meta = json.loads(out)["meta"]
    return "none" if meta is None else str(meta["version"])


def _closed(path: Path) -> str:
    store = SqliteStore(path, "n")
    fill(store, "v1")
    store.close()
    return "v1"


def _killed(path: Path) -> str:
    """A file whose writer was killed and left a log."""

    def write() -> str:
        KEPT.append(SqliteStore(path, "n"))
        fill(KEPT[-1], "v2")
        return "v2"

    with forked(write) as child:
        return child.answer()


def _without_its_index(path: Path) -> str:
    """A copy of a file and its log, without the index."""
    version = _killed(path)
    path.with_name("flags.db-shm").unlink()
    return version


def _of_an_earlier_release(path: Path) -> str:
    version = _closed(path)
    execute(path, "ALTER TABLE state DROP COLUMN deputy")
    return version


def _broken(path: Path) -> str:
    store = SqliteStore(path, "n")
    fill(store, "v1", payload=os.urandom(50_000))
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    return "broken"


def _no_wal(path: Path) -> str:
    """A file without WAL, which a worker would switch on."""
    version = _closed(path)
    execute(path, "PRAGMA journal_mode=DELETE")
    return version


@pytest.mark.parametrize("made", [_closed, _killed, _without_its_index, _of_an_earlier_release, _broken, _no_wal])
def test_a_file_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str], made: Callable[[Path], str]) -> None:
    """The file, its log and its index keep every byte, and the content of the log is shown."""
    expected = made(tmp_path / "flags.db")
    before = content(tmp_path)
    for _ in range(2):
        shown = inspected(f"sqlite:///{tmp_path}/flags.db", capsys)
        assert shown == expected if expected != "broken" else "malformed" in shown
        assert content(tmp_path) == before


def test_a_living_writers_file_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file with a log is shown, and its writer continues."""
    url, opened, closing = f"sqlite:///{tmp_path}/flags.db", os.pipe(), os.pipe()

    def write() -> str:
        store = SqliteStore(tmp_path / "flags.db", "n")
        fill(store, "v1")
        os.write(opened[1], b".")
        os.read(closing[0], 1)
        fill(store, "v2")
        return "done"

    with forked(write) as child:
        os.read(opened[0], 1)
        before = content(tmp_path)
        assert inspected(url, capsys) == "v1"
        assert content(tmp_path) == before
        os.write(closing[1], b".")
        assert child.answer() == "done"
    for end in (*opened, *closing):
        os.close(end)
    assert inspected(url, capsys) == "v2"


def test_a_key_of_a_foreign_type_stays_in_redis(
    redis_server_any: RedisServer, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker would remove the key; `inspect` leaves it, and shows that nothing readable is stored."""
    admin, keys = redis_server_any.client(), keys_of("n", 0)
    admin.delete(*keys[:2])
    admin.rpush(keys.hash, namespace)
    admin.rpush(keys.lease, namespace)
    before = [cast("bytes", admin.dump(key)) for key in keys[:2]]
    assert inspected(redis_server_any.url, capsys) == "none"
    assert [admin.dump(key) for key in keys[:2]] == before
    admin.delete(*keys[:2])


def test_nothing_is_written_to_redis(redis_server_any: RedisServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a field nor a time to live changes, also if nothing is stored."""
    admin, keys = redis_server_any.client(), keys_of("n", 0)
    admin.delete(*keys[:2])
    assert inspected(redis_server_any.url, capsys) == "none"
    assert not admin.exists(*keys[:2])
    RedisStore(redis_server_any.url, "n", timeout=10.0).clear()
    before = admin.dump(keys.hash)
    assert inspected(redis_server_any.url, capsys) == "none"
    assert admin.dump(keys.hash) == before
    admin.delete(*keys[:2])
