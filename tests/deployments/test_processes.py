"""Every way to create a process, with the client of docs/processes.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from flagcache.stores.redis.store import keys_of
from flagcache_posthog.testing import RemoteStandIn, make_definitions
from tests.support.fleet_tasks import asks
from tests.support.grant_log import log_grants
from tests.support.servers import RedisServer, newest_binary, until
from tests.support.snippets import snippet
from tests.support.user_programs import Program, posthog_environment

EVERY = 0.5
SELDOM = 20.0
"""Seconds between two polls in tests that show a lease which was not given up, or that count exactly."""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One server for all programs here."""
    with RedisServer(newest_binary()) as server:
        yield server


def program(folder: Path, store_url: str, posthog: RemoteStandIn, script: str, *args: str, every: float) -> Program:
    """A user's script next to the docs' `app.py`; the fleet has the name of the folder."""
    text = snippet("docs/processes.md", "app.py")
    text = text.replace('"my-team"', f'"{folder.name}", refresh_interval={every}')
    if store_url.startswith("sqlite"):
        text = text.replace("RedisFlagDefinitionCache(", "from_url(").replace("import Redis", "import from_url #")
        text = text.replace("import from_url #FlagDefinitionCache", "import from_url")
    (folder / "app.py").write_text(text.replace("provider=cache", f"provider=cache, poll_interval={every}"))
    (folder / "script.py").write_text(HEAD + script)
    environment = posthog_environment(posthog.url, REDIS_URL=store_url)
    return Program(folder, [sys.executable, "-W", "ignore", "script.py", *args], environment)


def printed_lines(running: Program, number: int = 1) -> list[dict[str, Any]]:
    """Wait until it has printed this many lines, and return them."""

    def lines() -> list[str]:
        return [line for line in running.log.splitlines() if line.startswith("{") and line.endswith("}")]

    until(lambda: len(lines()) >= number, 40, every=0.02, what=f"{number} lines in\n{running.log}")
    return [cast("dict[str, Any]", json.loads(line)) for line in lines()]


HEAD = """
import json, os, subprocess, sys, threading, time
import app

def revision():
    return app.posthog.evaluate_flags("user", only_evaluate_locally=True).get_flag("revision")

def print_json(**what):
    sys.stdout.write(json.dumps(what) + "\\n")
    sys.stdout.flush()

def files():
    return len(os.listdir("/proc/self/fd"))

def role():
    return app.cache.status().role.value
"""

MULTIPROCESSING = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

def work(gate):
    found = revision()
    gate.wait(20)
    print_json(revision=found, role=role())

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    if sys.argv[2] == "executor":
        with multiprocessing.Manager() as manager, ProcessPoolExecutor(3, mp_context=context) as pool:
            list(pool.map(work, [manager.Barrier(3)] * 3))
    else:
        gate = context.Barrier(3)
        children = [context.Process(target=work, args=(gate,)) for _ in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
            assert child.exitcode == 0
    print_json(ended=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("method", "how"), [("fork", "process"), ("spawn", "process"), ("forkserver", "process"), ("fork", "executor")]
)
def test_children_of_multiprocessing_share_one_fetch_and_hand_over(
    tmp_path: Path, server: RedisServer, posthog: RemoteStandIn, method: str, how: str
) -> None:
    """Each child has flags at once, PostHog gets one request, and a leader's end leaves no lease to wait for."""
    admin = server.client()
    with program(tmp_path, server.url, posthog, MULTIPROCESSING, method, how, every=SELDOM) as running:
        *children, _ended = printed_lines(running, 4)
        assert [child["revision"] for child in children] == ["r1"] * 3
        assert sorted(child["role"] for child in children).count("leader") == 1
        assert posthog.requests == 1
        assert not admin.exists(keys_of(tmp_path.name, 0).lease)
        assert "Traceback" not in running.log


ENDING = """
child = os.fork()
if child == 0:
    print_json(revision=revision(), role=role())
    {last_line}
    os._exit(0)
os.waitpid(child, 0)
print_json(ended=True)
time.sleep(60)
"""


def test_a_line_hands_over_before_a_process_ends_without_exit_hooks(
    tmp_path: Path, server: RedisServer, posthog: RemoteStandIn
) -> None:
    """After the SDK's own shutdown no lease is left, although it would have lasted long."""
    script = ENDING.format(last_line=snippet("docs/processes.md", "the last line").splitlines()[1])
    with program(tmp_path, server.url, posthog, script, every=SELDOM) as running:
        assert printed_lines(running, 2) == [{"revision": "r1", "role": "leader"}, {"ended": True}]
        assert not server.client().exists(keys_of(tmp_path.name, 0).lease)


FORKING = """
app.posthog.load_feature_flags()
revision()
app.posthog.flush()  # or the SDK's own connection would come in between
while role() != "leader" or "flagcache-fetch" in {thread.name for thread in threading.enumerate()}:
    time.sleep(0.01)
time.sleep(0.3)
def state():
    return {"files": files(), "threads": threading.active_count(), "role": role(), "me": app.cache.status().worker}
print_json(**state())
sys.stdin.readline()
right = 0
for number in range(120):
    child = os.fork()
    if child == 0:
        os._exit(0 if revision() == "r1" and role() == "new" else 1)
    right += os.waitpid(child, 0)[1] == 0
    if number % 10 == 0:
        subprocess.run(["true"], check=True)
        subprocess.run(["true"], check=True, preexec_fn=os.setsid)
print_json(right=right, **state())
time.sleep(60)
"""


def test_a_process_that_forks_all_day_stays_as_it_is(
    tmp_path: Path, server: RedisServer, posthog: RemoteStandIn
) -> None:
    """Short-lived children take no lease and make no request; they leave nothing in the parent or in Redis."""
    admin = server.client()

    def seen() -> tuple[int, object, object]:
        return len(admin.client_list()), admin.get(lease), admin.info("stats")["total_connections_received"]

    lease = keys_of(tmp_path.name, 0).lease
    with program(tmp_path, server.url, posthog, FORKING, every=SELDOM) as running:
        [before] = printed_lines(running)
        assert (before["role"], posthog.requests) == ("leader", 1)
        at_server = seen()
        running.type("go\n")
        after = printed_lines(running, 2)[1]
        assert after == {**before, "right": 120}
        assert seen() == at_server
        assert posthog.requests == 1
        assert "Traceback" not in running.log


IMPORTS = """
before = set(sys.modules)
app.posthog.load_feature_flags()
revision()
while not os.path.isdir(os.path.join(os.environ["XDG_STATE_HOME"], "flagcache")):
    time.sleep(0.01)
app.cache.shutdown()
print_json(new=[name for name in set(sys.modules) - before if name.startswith("flagcache")])
"""


def test_nothing_of_ours_is_imported_on_a_thread(tmp_path: Path, server: RedisServer, posthog: RemoteStandIn) -> None:
    """A child forked during an import would hang at the same import: everything is imported when a cache is made."""
    with program(tmp_path, server.url, posthog, IMPORTS, every=SELDOM) as running:
        assert printed_lines(running) == [{"new": []}]


UVLOOP = """
import asyncio, uvloop

async def main():
    app.posthog.load_feature_flags()
    before = role(), app.cache.status().worker
    ended = []
    for _ in range(5):
        programs = [await asyncio.create_subprocess_exec("true") for _ in range(4)]
        programs.append(await asyncio.create_subprocess_exec("true", preexec_fn=os.setsid))
        ended += [await asyncio.wait_for(each.wait(), 20) for each in programs]
    print_json(ended=ended, revision=revision(), same=before == (role(), app.cache.status().worker))
    await asyncio.sleep(60)

uvloop.run(main())
"""


def test_subprocesses_under_uvloop_concern_nobody(tmp_path: Path, server: RedisServer, posthog: RemoteStandIn) -> None:
    """Forks of uvloop run our hooks: programs start, and neither PostHog nor the fleet sees a new worker."""
    admin = server.client()
    connections = len(admin.client_list())
    with program(tmp_path, server.url, posthog, UVLOOP, every=SELDOM) as running:
        [result] = printed_lines(running)
        assert result == {"ended": [0] * 25, "revision": "r1", "same": True}
        assert posthog.requests == 1
        assert len(admin.client_list()) - connections <= 2  # one to ask, one to listen
        assert "Traceback" not in running.log


DAEMON = """
app.posthog.load_feature_flags()
assert app.posthog.feature_flags
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    time.sleep(0.2)  # the daemon's first deeds are seen by a parent
    os._exit(0)
os.closerange(3, 1024)
for name in range(40):  # the first one takes the numbers
    os.open(f"stranger-{name}", os.O_RDWR | os.O_CREAT)
taken = {number: os.fstat(number) for number in range(3, 43)}
os.write(1, b"PID %d\\n" % os.getpid())
seen, deadline = None, time.monotonic() + 60
while seen != "r2" and time.monotonic() < deadline:
    if revision() != seen:
        seen = revision()
        status = app.cache.status()
        print_json(revision=seen, store=status.store_in_charge, role=status.role.value)
    time.sleep(0.02)
app.posthog.shutdown()
def same(number, then):
    now = os.fstat(number)
    return (now.st_ino, now.st_size) == (then.st_ino, 0)
import gc; gc.collect()
print_json(unharmed=all(same(number, then) for number, then in taken.items()))
"""


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_a_daemon_goes_on_although_its_files_were_closed(
    tmp_path: Path, server: RedisServer, posthog: RemoteStandIn, kind: str
) -> None:
    """A daemon has flags at once and gets a change; files that have the numbers of its parent's stay open."""
    url = server.url if kind == "redis" else f"sqlite:///{tmp_path / 'flags.db'}"
    with log_grants(url, tmp_path.name) as grants, program(tmp_path, url, posthog, DAEMON, every=EVERY) as running:
        assert printed_lines(running)[0]["revision"] == "r1"
        posthog.serve(make_definitions(5, revision=2))
        second, last = printed_lines(running, 3)[1:]
        assert second["revision"] == "r2"
        assert last == {"unharmed": True}
        if kind == "redis":
            assert "s?db=0" in second["store"]
            assert second["role"] in {"leader", "follower"}
            assert grants.one_an_interval(asks(posthog), EVERY)
        assert "Traceback" not in running.log
        pid = int(running.log.partition("PID ")[2].split()[0])
        until(lambda: not Path(f"/proc/{pid}").exists(), 20, what="the daemon to end")
