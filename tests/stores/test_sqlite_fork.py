from __future__ import annotations

import ctypes
import gc
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from flagcache.errors import StoreError
from flagcache.stores.sqlite.store import SqliteStore
from tests.stores.test_sqlite import LONG, ask, fill, read
from tests.support.forked_functions import forked

OPEN_FILES = Path("/proc/self/fd")

SCRIPT = """
import sys
from tests.stores.test_sqlite import fill, read, SqliteStore
store = SqliteStore(sys.argv[1], "n", timeout=20)
print(read(store).payload.decode(), end="")
fill(store, "third", b"by a third process")
store.close()
"""


def libc_fork() -> int:
    """Fork as some servers do: without running Python's hooks."""
    pid: int = ctypes.PyDLL(None).fork()
    return pid


def is_intact(path: Path) -> bool:
    """Look at the file in a process that has nothing to do with this one."""
    script = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone())"
    done = subprocess.run([sys.executable, "-c", script, path], check=True, capture_output=True, text=True)
    return done.stdout == "ok\n"


@contextmanager
def thread_inside(store: Callable[[Callable[[], int]], SqliteStore]) -> Generator[None]:
    """A thread of this process stands still in the middle of a write transaction."""
    inside, leave = threading.Event(), threading.Event()
    calls: list[None] = []

    def clock() -> int:
        calls.append(None)
        if len(calls) == 2:  # the first is the reader's, which then starts over as a writer
            inside.set()
            assert leave.wait(60)
        return time.time_ns() // 1_000_000

    led: list[bool] = []
    thread = threading.Thread(target=lambda: led.append(store(clock).poll(ask("thread")).leads))
    thread.start()
    try:
        assert inside.wait(60)
        yield
    finally:
        leave.set()
        thread.join()
    assert led == [True]


@pytest.mark.parametrize("how", [os.fork, libc_fork])
def test_a_child_uses_the_store_that_its_parent_opened(tmp_path: Path, how: Callable[[], int]) -> None:
    """The same object works on both sides of a fork, and each sees the other's writes."""
    store = SqliteStore(tmp_path / "flags.db", "n")
    fill(store, "parent", b"by the parent")

    def work() -> str:
        payload = read(store).payload
        fill(store, "child", b"by the child")
        return (payload or b"").decode()

    with forked(work, how=how) as child:
        assert child.answer() == "by the parent"
    assert read(store).payload == b"by the child"
    fill(store, "parent-again", b"by the parent")
    assert read(SqliteStore(tmp_path / "flags.db", "n")).payload == b"by the parent"
    assert is_intact(tmp_path / "flags.db")


@pytest.mark.parametrize("how", [os.fork, libc_fork])
def test_a_child_outlives_its_parents_connection(tmp_path: Path, how: Callable[[], int]) -> None:
    """When the parent closes first, the child and processes that come later still see each other's writes."""
    path = tmp_path / "flags.db"
    store = SqliteStore(path, "n")
    fill(store, "parent", b"by the parent")
    opened, closed = os.pipe(), os.pipe()

    def work() -> str:
        fill(store, "child", b"by the child")
        os.write(opened[1], b".")
        os.read(closed[0], 1)
        fill(store, "child-again", b"by the orphan")
        done = subprocess.run([sys.executable, "-c", SCRIPT, path], check=True, capture_output=True, text=True)
        return f"{done.stdout}, {(read(store).payload or b'').decode()}"

    with forked(work, how=how) as child:
        os.read(opened[0], 1)
        store.close()
        os.write(closed[1], b".")
        assert child.answer() == "by the orphan, by a third process"
    for end in (*opened, *closed):
        os.close(end)
    assert is_intact(path)


@pytest.mark.parametrize(
    ("how", "answer"), [(os.fork, "by the parent, by the orphan"), (libc_fork, "its locks ended")], ids=["hook", "none"]
)
def test_a_child_that_comes_too_late_for_its_locks_is_refused(
    tmp_path: Path, how: Callable[[], int], answer: str
) -> None:
    """The hook takes the locks in time; a child without hooks fails if its parent closed before its first use."""
    path = tmp_path / "flags.db"
    store = SqliteStore(path, "n")
    fill(store, "parent", b"by the parent")
    started, closed = os.pipe(), os.pipe()

    def work() -> str:
        os.write(started[1], b".")
        os.read(closed[0], 1)
        try:
            first = read(store).payload or b""
            fill(store, "child", b"by the orphan")
            return f"{first.decode()}, {(read(SqliteStore(path, 'n')).payload or b'').decode()}"
        except StoreError as error:
            return str(error)

    with forked(work, how=how) as child:
        os.read(started[0], 1)
        store.close()
        assert is_intact(path)
        os.write(closed[1], b".")
        assert answer in child.answer()
    for end in (*started, *closed):
        os.close(end)
    assert is_intact(path)


@pytest.mark.skipif(not OPEN_FILES.exists(), reason="needs /proc")
def test_a_child_neither_uses_nor_closes_what_its_parent_opened(tmp_path: Path) -> None:
    """A child opens its own connection, and closes only that one."""
    path = tmp_path / "flags.db"
    stores = [SqliteStore(path, "n"), SqliteStore(path, "n")]
    for store in stores:
        store.inspect()

    def connections() -> int:
        return [file.readlink() for file in OPEN_FILES.iterdir() if file.is_symlink()].count(
            path.with_name("flags.db-wal")
        )

    def work() -> str:
        counts = [connections()]
        for step in (stores[0].close, stores[1].inspect, stores[1].close, stores.clear, gc.collect):
            step()
            counts.append(connections())
        return str(counts)

    with forked(work) as child:
        assert child.answer() == "[2, 2, 3, 2, 2, 2]"


def test_a_childs_end_leaves_the_parents_locks(tmp_path: Path) -> None:
    """After a child that used the store is gone, no other process takes the parent for gone too."""
    path = tmp_path / "flags.db"
    store = SqliteStore(path, "n")
    meta = fill(store)

    def work() -> str:
        assert SqliteStore(path, "n").poll(ask("child")).leads
        store.close()
        return "done"

    with forked(work) as child:
        assert child.answer() == "done"
    # The last process to close deletes the log: this one is not the last.
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM state').fetchall(); c.close()"
    )
    subprocess.run([sys.executable, "-c", script, path], check=True)
    assert path.with_name("flags.db-wal").exists()
    assert store.inspect().meta == meta


def test_a_child_forked_in_mid_transaction_is_refused_at_once(tmp_path: Path) -> None:
    """Its lock table says busy permanently: it gets an error without a wait, and disturbs no transaction."""
    path = tmp_path / "flags.db"
    idle = SqliteStore(path, "n", timeout=60)
    idle.inspect()

    def work() -> str:
        start = time.monotonic()
        for store in (idle, SqliteStore(path, "n", timeout=60)):
            with pytest.raises(StoreError, match="forked while another thread"):
                store.inspect()
            store.close()
        gc.collect()
        with forked(lambda: refused(idle)) as grandchild:
            assert grandchild.answer() == "refused"
        return "at once" if time.monotonic() - start < 20 else "late"

    def refused(store: SqliteStore) -> str:
        with pytest.raises(StoreError, match="forked while another thread"):
            store.inspect()
        return "refused"

    with thread_inside(lambda clock: SqliteStore(path, "n", clock=clock)), forked(work) as child:
        assert child.answer() == "at once"
    assert idle.inspect().leader == "thread"
    assert is_intact(path)


@pytest.mark.skipif(not OPEN_FILES.exists(), reason="needs /proc")
def test_a_daemon_whose_files_were_closed_is_refused(tmp_path: Path) -> None:
    """Files that now have the numbers of the parent's are neither written nor closed; other files work as before."""
    path, strangers = tmp_path / "flags.db", tmp_path / "strangers"
    store = SqliteStore(path, "n")
    fill(store, "parent", b"by the parent")

    def work() -> str:
        numbers = [int(file.name) for file in OPEN_FILES.iterdir() if str(file.resolve()).startswith(str(path))]
        for number in numbers:
            os.dup2(os.open(strangers, os.O_RDWR | os.O_CREAT), number)
        results: list[str] = []
        for each in (store, SqliteStore(path, "n")):
            with pytest.raises(StoreError, match="makers of daemons"):
                each.inspect()
            each.close()
            results.append("refused")
        with forked(lambda: refused(path)) as grandchild:
            results.append(grandchild.answer())
        fill(SqliteStore(tmp_path / "other.db", "n"), "child", b"by the daemon")
        held = all(os.fstat(number).st_ino == strangers.stat().st_ino for number in numbers)
        return f"{results}, {len(numbers)}, {held}, {strangers.stat().st_size}"

    def refused(path: Path) -> str:
        with pytest.raises(StoreError, match="start this process anew"):
            SqliteStore(path, "n").inspect()
        return "refused"

    with forked(work) as child:
        assert child.answer() == "['refused', 'refused', 'refused'], 5, True, 0"
    assert read(store).payload == b"by the parent"
    assert is_intact(path)


def test_a_child_that_ends_as_an_interpreter_does_frees_no_connection(tmp_path: Path) -> None:
    """Clean-up at a child's exit neither ends a transaction of its parent's thread nor closes the file for it."""
    script = f"""
import os, sys
from pathlib import Path
from tests.stores.test_sqlite_fork import *
path = Path({str(tmp_path / "flags.db")!r})
store = SqliteStore(path, "n")
fill(store)
reading, writing = os.pipe()
idle = os.fork()
if idle == 0:
    os.read(reading, 1)
    sys.exit(7)
with thread_inside(lambda clock: SqliteStore(path, "n", clock=clock)):
    busy = os.fork()
    if busy == 0:
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(busy, 0)[1]) == 7
assert read(store).payload == b"definitions" and is_intact(path)
store.close()
gc.collect()
os.write(writing, b".")
assert os.waitstatus_to_exitcode(os.waitpid(idle, 0)[1]) == 7
assert path.with_name("flags.db-wal").exists(), "the last to close it, which deletes the log, was the child"
assert is_intact(path)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_thread_of_the_child_finds_no_lock_that_nobody_will_free(tmp_path: Path) -> None:
    """Threads of a child that come to the store at once, each for the first time, are all answered."""
    store = SqliteStore(tmp_path / "flags.db", "n", timeout=20)
    meta = fill(store)
    store.poll(ask("leader"))

    def work() -> str:
        answers: list[bool] = []
        threads = [
            threading.Thread(target=lambda: answers.append(store.poll(ask("child", meta)).unchanged)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return str(answers)

    with forked(work) as child:
        assert child.answer() == str([True] * 8)


def test_a_store_that_is_dropped_is_closed(tmp_path: Path) -> None:
    """A call of `close` isn't needed: with the last reference the file is closed, and its log is gone."""
    store = SqliteStore(tmp_path / "flags.db", "n")
    assert store.renew("ghost", LONG) is False
    assert (tmp_path / "flags.db-wal").exists()
    del store
    gc.collect()
    assert [file.name for file in tmp_path.iterdir()] == ["flags.db"]
    with closing(sqlite3.connect(tmp_path / "flags.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
