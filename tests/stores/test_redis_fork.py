"""Connections to Redis in processes that fork, and in those whose files other code closes, as daemons do."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import os
import signal
import socket
import stat
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from flagcache.stores.redis.connection import RedisLink
from tests.support.forked_functions import forked
from tests.support.redis_links import ECHO, clients_seen_by
from tests.support.servers import RedisServer, until

OPEN_FILES = Path("/proc/self/fd")
REPLY = [b"k", b"a", 7]


def libc_fork() -> int:
    """Fork as some servers do: without running Python's hooks."""
    pid: int = ctypes.PyDLL(None).fork()
    return pid


def sockets() -> set[int]:
    """The descriptors of this process that are connected to a Redis by a unix socket."""
    return {number for number in [int(entry.name) for entry in OPEN_FILES.iterdir()] if leads_to_redis(number)}


def leads_to_redis(number: int) -> bool:
    """Whether this descriptor is such a connection."""
    with contextlib.suppress(OSError):
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return False
        with socket.socket(fileno=os.dup(number)) as each:
            return each.family is socket.AF_UNIX and str(each.getpeername()).startswith("/tmp/redis-")
    return False


@contextmanager
def at_work(server: RedisServer) -> Generator[tuple[RedisLink, set[int]]]:
    """A link with an idle connection and one that listens, and their descriptors."""
    before = sockets()
    with closing(RedisLink(server.url, timeout=5)) as link, closing(link.subscribe("news")) as subscription:
        link.run(ECHO, ["k"], ["a"])
        numbers = sockets() - before
        assert len(numbers) == 2
        yield link, numbers
        assert link.run(ECHO, ["k"], ["a"]) == REPLY
        server.client().publish("news", "read all about it")
        assert subscription.get(5) == b"read all about it"


def taken_by_others(numbers: set[int]) -> dict[int, int]:
    """Close these descriptors as a daemonizing library does, let others use the numbers, and return their readers."""
    readers: dict[int, int] = {}
    for number in sorted(numbers):
        reading, writing = (fcntl.fcntl(end, fcntl.F_DUPFD, 1000) for end in os.pipe())
        os.dup2(writing, number)
        os.set_blocking(reading, False)
        readers[number] = reading
    return readers


def unharmed(readers: dict[int, int]) -> bool:
    """Whether nothing was written by these numbers, and they are still open."""
    for number, reading in readers.items():
        with pytest.raises(BlockingIOError):
            os.read(reading, 1)
        os.write(number, b"x")
        assert os.read(reading, 1) == b"x"
    return True


def test_a_child_closes_what_it_inherited(redis_server: RedisServer) -> None:
    """A child closes its copies before its other code runs; parent and server don't notice."""
    with at_work(redis_server) as (_link, numbers), forked(lambda: str(sockets() & numbers)) as child:
        assert child.answer() == "set()"


@pytest.mark.parametrize("how", [os.fork, libc_fork])
def test_a_child_never_touches_numbers_that_others_have_now(redis_server: RedisServer, how: Callable[[], int]) -> None:
    """With and without fork hooks, closing, forgetting and using the parent's link touches no other files."""
    with at_work(redis_server) as (link, numbers):

        def work() -> str:
            readers = taken_by_others(numbers)
            with closing(RedisLink(redis_server.url, timeout=5)) as own:
                right = [link.run(ECHO, ["k"], ["a"]) == REPLY, own.run(ECHO, ["k"], ["a"]) == REPLY]
            link.close()
            gc.collect()
            return str([*right, unharmed(readers)])

        with forked(work, how=how) as child:
            assert child.answer() == "[True, True, True]"


def test_files_closed_under_a_link_cost_it_a_new_connection(redis_server: RedisServer) -> None:
    """In the process that opened them, nothing uses or closes a descriptor that another file has by now."""
    with forked(lambda: _closed_under(redis_server)) as child:
        assert child.answer() == "True"


def _closed_under(server: RedisServer) -> str:
    before = sockets()
    link = RedisLink(server.url, timeout=5)
    link.run(ECHO, ["k"], ["a"])
    subscription = link.subscribe("news")
    readers = taken_by_others(sockets() - before)
    assert link.run(ECHO, ["k"], ["a"]) == REPLY
    with pytest.raises(Exception, match="closed by other code"):
        subscription.get(5)
    subscription.close()
    link.close()
    return str(len(readers) == 2 and unharmed(readers))


def test_no_connection_outlives_the_process_that_opened_it(redis_server: RedisServer) -> None:
    """When a parent is killed the server knows at once, although a child of it lives on."""
    admin = redis_server.client()
    before = len(clients_seen_by(admin))
    release, hold = os.pipe()

    def work() -> str:
        link = RedisLink(redis_server.url, timeout=5)
        link.run(ECHO, ["k"], ["a"])
        if os.fork() == 0:
            os.close(hold)
            os.read(release, 1)  # until the test is over
            os._exit(0)
        signal.pause()
        return "not reached"

    try:
        with forked(work) as parent:
            until(lambda: len(clients_seen_by(admin)) > before, what="the parent to connect")
            until(lambda: Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text(), what="its child")
            os.kill(parent.pid, signal.SIGKILL)
            until(lambda: len(clients_seen_by(admin)) == before, what="its connection to end")
    finally:
        os.close(hold)
        os.close(release)
