from __future__ import annotations

import os
import re
import signal
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from flagcache.runtime.uwsgi import advice
from flagcache_posthog.testing import REVISION_FLAG, PostHogStandIn, RemoteStandIn, make_definitions
from tests.support.attached_clients import holder
from tests.support.fleet_tasks import asks
from tests.support.grant_log import GrantLog, log_grants
from tests.support.servers import MakeRedis, free_port, until
from tests.support.snippets import snippet
from tests.support.user_programs import Program, get, posthog_environment

EVERY = 0.5
LEASE = 1.5 * EVERY
LONG = 60.0
WORKERS = 3
LAZY = "lazy-apps = true"

PROBE = """
import os, time
from app import application as users

def application(environ, start_response):
    time.sleep(0.1)  # so that requests at one instant meet different workers
    return [f"{os.getpid()} {users(environ, start_response)[0].decode()}".encode()]
"""

UWSGI = Path(sysconfig.get_path("scripts")) / "uwsgi"
ALWAYS = ("--disable-logging", "--pythonpath", ".", "--binary-path", sys.executable)  # the last as in the docs

pytestmark = pytest.mark.skipif(not UWSGI.exists(), reason="there is no uWSGI for this Python")


@dataclass
class Site:
    """What one uWSGI serves: the docs' own files, with short times."""

    folder: Path
    posthog: RemoteStandIn
    store_url: str
    admin: redis.Redis
    namespace: str
    grants: GrantLog
    port: int = field(default_factory=free_port)

    def run(self, *options: str, without: Sequence[str] = (), load: bool = True, lease: float = LEASE) -> Program:
        """Start uWSGI by the docs' files.

        Args:
            options: further ones, for uWSGI.
            without: lines of the docs' file to leave out.
            load: before the first request.
            lease: in seconds.
        """
        app = snippet("docs/uwsgi.md", "app.py").replace("my-flag", REVISION_FLAG)
        app = app.replace('"my-team"', f'"{self.namespace}", refresh_interval={EVERY}, lease={lease}')
        app = app.replace("provider=cache", f"provider=cache, poll_interval={EVERY}")
        if not load:
            app = app.replace("client.load_feature_flags()\n", "")
        ini = snippet("docs/uwsgi.md", "uwsgi.ini").replace("8000", str(self.port)).replace("app.py", "probe.py")
        for line in without:
            assert f"{line}\n" in ini
            ini = ini.replace(f"{line}\n", "")
        for name, text in (("app.py", app), ("probe.py", PROBE), ("uwsgi.ini", ini)):
            (self.folder / name).write_text(text)
        environ = posthog_environment(self.posthog.url, REDIS_URL=self.store_url)
        return Program(self.folder, [str(UWSGI), *ALWAYS, *options, "uwsgi.ini"], environ)

    def answers(self) -> dict[int, str]:
        """Return the answers of the workers that are free now: pid and revision."""
        with ThreadPoolExecutor(WORKERS) as pool:
            answers = [answer.split() for answer in pool.map(get, [self.port] * WORKERS)]
        return {int(pid): revision for pid, revision in answers}

    def wait_for_revision(self, revision: int, *, within: float = 4 * EVERY + 5) -> set[int]:
        """Wait until all workers answer this; return their pids."""

        def same() -> set[int]:
            seen = self.answers()
            return set(seen) if len(seen) == WORKERS and set(seen.values()) == {f"r{revision}"} else set()

        return until(same, within, every=0.05, what=f"revision {revision} of all workers")

    def check_pace(self) -> None:
        """Check all requests so far: each was granted, at least 0.9 refresh intervals after the previous one."""
        assert self.grants.one_an_interval(asks(self.posthog), EVERY)


@pytest.fixture
def site(tmp_path: Path, make_redis: MakeRedis, namespace: str) -> Iterator[Site]:
    """A folder, a PostHog at revision 1 and a Redis of its own."""
    posthog, redis = PostHogStandIn.spawn(make_definitions(5)), make_redis()
    with log_grants(redis.url, namespace) as grants:
        yield Site(tmp_path, posthog, redis.url, redis.client(), namespace, grants)
    posthog.stop()


def warnings_in(log: str) -> list[str]:
    """Return the lines that flagcache wrote about a process, not about a cache."""
    return re.findall(r"^flagcache \S+: .*$", log, re.MULTILINE)


def check_reload(site: Site, server: Program) -> None:
    """Check one request at the start and per interval, a change, and after SIGHUP new workers and a change for them."""
    server.get(site.port)
    first = site.wait_for_revision(1)
    site.check_pace()
    site.posthog.serve(make_definitions(5, revision=2))
    site.wait_for_revision(2)
    server.send(signal.SIGHUP)
    until(lambda: not first & set(server.processes()), 15.0, every=0.05, what="the old workers to end")
    server.get(site.port)
    assert not first & site.wait_for_revision(2)
    site.posthog.serve(make_definitions(5, revision=3))
    site.wait_for_revision(3)
    site.check_pace()
    assert len(server.processes()) == WORKERS + 1  # and the master


def check_nothing_left(site: Site, server: Program, end: signal.Signals, connected: int) -> None:
    """Check that no process, no connection and no warning is left."""
    assert server.end(end) == 0
    assert server.left_behind() == []
    until(lambda: len(site.admin.client_list()) == connected, 5.0, what="all connections to be closed")
    until(lambda: not holder(site.admin, site.namespace), LEASE + 1, what="the lease to be free")
    assert "Traceback" not in server.log
    assert warnings_in(server.log) == []


def test_a_lazy_fleet_shares_one_fetch_and_leaves_nothing(site: Site) -> None:
    """As in the docs: at SIGTERM and SIGHUP the leader gives up its lease, however long it would last."""
    connected = len(site.admin.client_list())
    with site.run(lease=LONG) as server:
        check_reload(site, server)
        check_nothing_left(site, server, signal.SIGTERM, connected)


def test_a_preloading_fleet_shares_one_fetch_and_leaves_nothing(site: Site) -> None:
    """With `py-call-uwsgi-fork-hooks` flags loaded before the fork work in the workers. The master's lease expires."""
    connected = len(site.admin.client_list())
    with site.run("--py-call-uwsgi-fork-hooks", without=[LAZY]) as server:
        check_reload(site, server)
        check_nothing_left(site, server, signal.SIGINT, connected)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="there that option kills each worker, whatever it serves")
def test_a_fleet_with_the_older_option_shares_one_fetch_and_leaves_nothing(site: Site) -> None:
    """`py-call-osafterfork` works if nothing is loaded before the fork."""
    connected = len(site.admin.client_list())
    with site.run("--py-call-osafterfork", without=[LAZY], load=False) as server:
        check_reload(site, server)
        check_nothing_left(site, server, signal.SIGTERM, connected)


def test_a_fork_without_hooks_is_told_of_in_one_line(site: Site) -> None:
    """By default the clients are dead in the workers: one warning for the whole fleet, with the remedy."""
    with site.run(without=[LAZY], load=False) as server:
        server.get(site.port)
        assert set(site.answers().values()) == {"r1"}
        server.end()
        [warning] = warnings_in(server.log)
        assert "without Python's fork hooks" in warning
        assert "`lazy-apps = true`" in warning
        assert "`py-call-uwsgi-fork-hooks = true`" in warning
        assert server.left_behind() == []


def test_one_process_that_never_forks_is_warned_of_nothing(site: Site) -> None:
    """Without a master and workers the client runs where it was created, and changes are pushed to it."""
    with site.run(without=[LAZY, "master = true", "processes = 3"]) as server:
        assert server.get(site.port).split()[1] == "r1"
        site.posthog.serve(make_definitions(5, revision=2))
        until(lambda: server.get(site.port).split()[1] == "r2", 4 * EVERY + 5, every=0.05, what="the change")
        server.end()
        assert warnings_in(server.log) == []
        assert server.left_behind() == []


# --- what is said ----------------------------------------------------------------------------------------------------


@dataclass
class Uwsgi:
    """The module `uwsgi` as it is in the first process of a fleet with a master."""

    has_threads: int = 1
    numproc: int = WORKERS
    opt: dict[str, object] = field(default_factory=dict[str, object])
    worker: int = 0
    master: int = field(default_factory=os.getpid)

    def worker_id(self) -> int:
        """Return the id of this process."""
        return self.worker

    def masterpid(self) -> int:
        """Return the pid of the master."""
        return self.master


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (None, ""),
        (os, ""),
        (Uwsgi(), "fork hooks"),
        (Uwsgi(numproc=1), "fork hooks"),
        (Uwsgi(opt={"py-call-osafterfork": b"false"}), "fork hooks"),
        (Uwsgi(opt={"py-call-osafterfork": True}), ""),
        (Uwsgi(opt={"py-call-uwsgi-fork-hooks": b"true"}), ""),
        (Uwsgi(worker=1, master=1), ""),
        (Uwsgi(worker=0, master=1), ""),
        (Uwsgi(master=0), "fork hooks"),
        (Uwsgi(master=0, numproc=1), ""),
        (Uwsgi(has_threads=0), "enable-threads"),
        (Uwsgi(has_threads=0, worker=1, master=1), "enable-threads"),
    ],
    ids=[
        "no uWSGI",
        "a module of that name",
        "master",
        "master of one",
        "hooks off",
        "hooks by the older option",
        "hooks",
        "worker",
        "mule",
        "no master",
        "alone",
        "no threads",
        "worker without threads",
    ],
)
def test_who_is_warned_of_what(server: object, said: str) -> None:
    """Only the process that will fork without hooks warns, and each process that runs no threads."""
    advised = advice(server)
    assert said in advised
    assert bool(advised) == bool(said)
