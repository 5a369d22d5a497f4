"""Servers in C may fork without Python's fork hooks: our code doesn't run, and dead threads look alive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

from flagcache_posthog.testing import StandInControl
from tests.support.servers import RedisServer

SCRIPT = """
    import ctypes, json, os, sys, threading, time
    from pathlib import Path
    from posthog import Posthog
    from flagcache import RedisFlagDefinitionCache
    from flagcache.runtime import process

    url, host = sys.argv[1:]
    cache = RedisFlagDefinitionCache(url, f"unheard-{os.getpid()}", refresh_interval=60, auto_attach=False)
    client = cache.attach(
        Posthog(
            "phc_test",
            secret_key="phs_0",
            host=host,
            poll_interval=60,
            flag_definition_cache_provider=cache,
            sync_mode=True,  # no thread that wakes every now and then to send events
        )
    )
    client.load_feature_flags()
    parents = cache.status()


    def naps(task):
        # How often this thread has gone to sleep.
        try:
            return (task / "status").read_text().partition("\\nvoluntary")[2]
        except OSError:
            return "it has ended"

    def others():
        return {task.name: naps(task) for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())}

    # Without hooks a child inherits Python's own locks as they are, and hangs where one is held: that of the
    # threading module by a thread that ends, or glibc's part of the interpreter lock while any thread waits for it. So
    # every other thread has to be at rest: it slept all the while this one did, and nothing is due to wake it.
    before = None
    while before != (before := others()):
        time.sleep(0.3)
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        asked = cache.should_fetch_flag_definitions()
        held = cache.get_flag_definitions()
        status = cache.status()
        listening = [entry for entry in os.listdir("/proc/self/task")]
        report = {"asked": asked, "flags": len(held["flags"]), "role": status.role.value, "pid": status.pid,
                "is_own": status.pid == os.getpid() and status.worker != parents.worker, "tasks": len(listening)}
        print(json.dumps(report), flush=True)
        process.leave()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    cache.should_fetch_flag_definitions()
    print(json.dumps({"role": cache.status().role.value, "worker": cache.status().worker == parents.worker}))
    client.shutdown()
"""


def test_a_fork_without_hooks_is_a_worker_of_its_own(posthog: StandInControl, redis_server: RedisServer) -> None:
    """A call in the child makes it a worker with a running listener; one log line says what is wrong there."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), redis_server.url, posthog.url],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    child, parent = map(json.loads, done.stdout.splitlines())
    assert child["is_own"]
    assert (child["asked"], child["role"], child["flags"]) == (False, "follower", 6)
    assert child["tasks"] == 2  # the one that forked, and the listener
    assert parent == {"role": "leader", "worker": True}
    [said] = [line for line in done.stderr.splitlines() if line.startswith("flagcache ")]
    assert "was forked without Python's fork hooks" in said
    assert posthog.requests == 1
