"""Another program's file at the path of a store: it is left unchanged, and named."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest

from flagcache.errors import StoreError
from flagcache.stores.sqlite.store import SqliteStore
from flagcache_posthog import SqliteFlagDefinitionCache
from tests.stores.test_sqlite import execute, fill
from tests.stores.test_sqlite_file import ROOT, damage, path
from tests.support.forked_functions import forked

__all__ = ["path"]

NOBODY = 65534


@pytest.fixture
def public() -> Generator[Path]:
    """A directory as /tmp is: each may make files there, and none may touch another's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o1777)
        yield folder


def look_like_a_database(file: Path) -> None:
    """Make a database of another program, and break it."""
    execute(file, "CREATE TABLE theirs (a)")
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executemany("INSERT INTO theirs VALUES (?)", [("x" * 500,) for _ in range(100)])


@pytest.mark.parametrize("content", [b"[settings]\nkey = 1\n", b"{}", b"\0" * 5000, bytes(range(256)) * 20])
def test_a_file_that_is_no_database_is_left_alone(path: Path, content: bytes) -> None:
    """A user's own file, whatever it holds: refused, with the remedy, and not moved."""
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"flags\.db: .*not made by flagcache.*another path"):
            SqliteStore(path, "n").inspect()
    assert [file.name for file in path.parent.iterdir()] == ["flags.db"]
    assert path.read_bytes() == content


@pytest.mark.parametrize("how", ["truncated", "overwritten"])
def test_a_broken_database_of_another_program_is_left_alone(path: Path, how: str) -> None:
    """It may be the only copy of what its program can still rescue."""
    look_like_a_database(path)
    damage(path, how)
    content = path.read_bytes()
    with pytest.raises(StoreError, match=r"flags\.db: "):
        fill(SqliteStore(path, "n"))
    assert [file.name for file in path.parent.iterdir()] == ["flags.db"]
    assert path.read_bytes() == content


def test_the_cache_goes_on_without_it(path: Path) -> None:
    """A process evaluates and fetches for itself; the file stays."""
    path.write_text("mine")
    cache = SqliteFlagDefinitionCache(path, "team", cold_start_wait=0)
    assert cache.should_fetch_flag_definitions() is True
    assert cache.status().store_answers is False
    cache.shutdown()
    assert path.read_text() == "mine"


def test_the_name_that_is_ours_alone_takes_nothing_else(path: Path) -> None:
    """The fallback's file in its own directory: any other file there is renamed."""
    path.write_text("not ours")
    store = SqliteStore(path, "n", replace_foreign=True)
    fill(store)
    assert path.with_name("flags.db.corrupt-1").read_text() == "not ours"


@ROOT
def test_another_users_link_is_not_followed(public: Path, tmp_path: Path) -> None:
    """In a shared directory each user may create a link to a file of flagcache: it is neither used nor moved."""
    mine = tmp_path / "diary"
    mine.write_text("mine")
    link = public / "flags.db"
    link.symlink_to(mine)
    os.lchown(link, NOBODY, NOBODY)
    for replace in (False, True):
        with pytest.raises(StoreError, match=r"link.*another user \(65534\)"):
            SqliteStore(link, "n", replace_foreign=replace).inspect()
    mine.unlink()
    with pytest.raises(StoreError, match="link"):
        SqliteStore(link, "n").inspect()  # and nothing is made at its target
    assert list(tmp_path.iterdir()) == []


@ROOT
def test_a_link_laid_while_the_store_is_open_is_not_followed(public: Path, tmp_path: Path) -> None:
    """A link in the place of the file does not lead to another file."""
    store = SqliteStore(public / "flags.db", "n")
    fill(store)
    (public / "flags.db").unlink()
    (public / "flags.db").symlink_to(tmp_path / "elsewhere")
    os.lchown(public / "flags.db", NOBODY, NOBODY)
    with pytest.raises(StoreError, match="link"):
        store.inspect()
    assert list(tmp_path.iterdir()) == []


def test_links_of_ones_own_are_followed(path: Path) -> None:
    """A link of this user is followed, also relative ones and links to links."""
    (path.parent / "real").mkdir()
    (path.parent / "real" / "first.db").symlink_to("flags.db")
    path.symlink_to(Path("real") / "first.db")
    fill(SqliteStore(path, "n"))
    assert (path.parent / "real" / "flags.db").is_file()
    assert path.is_symlink()


@ROOT
def test_a_link_of_root_is_followed(public: Path) -> None:
    """An administrator may put the file elsewhere for all."""
    home = public / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    (public / "flags.db").symlink_to(home / "flags.db")

    def work() -> str:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        fill(SqliteStore(public / "flags.db", "n"))
        return "done"

    with forked(work) as child:
        assert child.answer() == "done"
    assert (home / "flags.db").is_file()


def test_links_in_a_circle_are_an_error(path: Path) -> None:
    """Links in a circle raise an error and cause no endless loop."""
    path.symlink_to(path.with_name("other"))
    path.with_name("other").symlink_to(path)
    with pytest.raises(StoreError):
        SqliteStore(path, "n").inspect()
