"""One process: identity, clock, forks and exit."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import textwrap
import time
import weakref
from pathlib import Path

import pytest

from flagcache.runtime import process
from tests.support.in_process_fleet import in_thread


class HookRecorder:
    """An object with hooks."""

    def __init__(self, *, fails: bool = False) -> None:
        self.calls: list[str] = []
        self._fails = fails

    def forked(self) -> None:
        """Record the call."""
        self.calls.append("forked")
        if self._fails:
            raise ValueError("in the hook")

    def leave(self) -> None:
        """Record the call."""
        self.calls.append("leave")


def in_child(recorders: list[HookRecorder]) -> str:
    """The hooks that ran in a forked child, as the child reports."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, repr([recorder.calls for recorder in recorders]).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        output = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return output


def run(script: str) -> str:
    """Return what a script prints in a separate process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_an_identity_names_host_and_process_and_is_ones_own() -> None:
    """Two caches of one process are two members of their fleets."""
    first, second = process.identity(), process.identity()
    assert first.startswith(f"{socket.gethostname()}:{os.getpid()}:")
    assert first != second


def test_the_clock_only_goes_forward() -> None:
    """The clock counts seconds and only goes forward."""
    before = process.clock()
    deadline = time.monotonic() + 5
    while process.clock() < before + 0.02:
        assert time.monotonic() < deadline, "the clock stands still"
    assert process.clock() < before + 5


def test_a_child_is_told_of_the_fork_and_the_parent_is_not() -> None:
    """The hook runs before any other code of the child."""
    recorder = HookRecorder()
    process.at_fork(recorder)
    assert in_child([recorder]) == "[['forked']]"
    assert recorder.calls == []


def test_one_that_fails_at_the_fork_keeps_nobody_from_hearing(caplog: pytest.LogCaptureFixture) -> None:
    """The child continues, and the other hooks run."""
    recorders = [HookRecorder(fails=True), HookRecorder(), HookRecorder(fails=True)]
    for recorder in recorders:
        process.at_fork(recorder)
    assert in_child(recorders) == "[['forked'], ['forked'], ['forked']]"


def test_a_fork_from_another_thread_tells_too() -> None:
    """The hook also runs if another thread forks, as servers do."""
    recorder = HookRecorder()
    process.at_fork(recorder)
    assert in_thread(lambda: in_child([recorder])) == "[['forked']]"


def test_nobody_is_kept_alive_by_being_told() -> None:
    """A cache that is no longer used can be collected."""
    recorder = HookRecorder()
    process.at_fork(recorder)
    process.at_exit(recorder)
    gone: list[bool] = []
    weakref.finalize(recorder, gone.append, True)
    del recorder
    gc.collect()
    assert gone == [True]


def test_all_are_told_at_exit() -> None:
    """The hooks run at a normal end of the interpreter; if one fails, the others still run."""
    output = run(
        """
        from flagcache.runtime import process
        class HookRecorder:
            def leave(self):
                print("left")
                raise ValueError("in the hook")
        recorders = [HookRecorder(), HookRecorder()]
        for recorder in recorders:
            process.at_exit(recorder)
        """
    )
    assert output.count("left\n") == 2
    assert "leaving the fleet failed" in output


def test_to_import_it_starts_no_thread_and_opens_nothing() -> None:
    """A cache can be made before a fork."""
    output = run(
        """
        import os, threading
        before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
        import flagcache.coordinator
        after = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
        print(threading.active_count(), after - before)
        """
    )
    assert output == "1 set()\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_of_multiprocessing_is_told_of_its_end(tmp_path: Path, method: str) -> None:
    """It runs once, after other finalizers. In a process that this one forks it does not run."""
    (tmp_path / "ends.py").write_text(
        textwrap.dedent(
            """
            import multiprocessing, os, sys
            from multiprocessing.util import Finalize
            from flagcache.runtime import process

            class HookRecorder:
                def leave(self):
                    print("left", os.getpid() == pid, flush=True)

            recorder = HookRecorder()

            def work():
                global pid
                pid = os.getpid()
                Finalize(None, print, args=("their own",), kwargs={"flush": True}, exitpriority=-10)
                process.at_exit(recorder)
                process.leave_at_end()
                process.leave_at_end()
                if os.fork() == 0:
                    multiprocessing.util._exit_function()
                    os._exit(0)
                os.wait()

            if __name__ == "__main__":
                process.leave_at_end()
                child = multiprocessing.get_context(sys.argv[1]).Process(target=work)
                child.start()
                child.join()
                print("ended", child.exitcode)
                del recorder
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-W", "ignore", str(tmp_path / "ends.py"), method]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    expected = ["their own", "left True", "ended 0"]
    assert (done.stdout.splitlines(), done.stderr) == (expected, "")


def test_the_end_is_expected_without_importing_multiprocessing() -> None:
    """A program that does not use multiprocessing does not import it."""
    output = run(
        """
        import sys
        from flagcache.runtime import process
        process.leave_at_end()
        print("multiprocessing" in sys.modules)
        """
    )
    assert output == "False\n"
