"""Thread-locals belong to a greenlet, also if gevent patches after they were created."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

NOTES = {
    "at work in a cache": "inside.entered(); seen = lambda: inside.now",
    "asks for a client": "clients.polling_for(object(), Push(contends=True)); seen = lambda: clients.on_behalf",
    "acts for another thread": "acting_for(other); seen = lambda: caller() is other",
    "has a deadline": "bounded(60.0); seen = lambda: remaining(None) is not None",
}


@pytest.mark.parametrize("note", NOTES)
def test_a_greenlet_has_its_own_notes_after_a_late_patch(note: str) -> None:
    """One greenlet's note is not another's, and a thread's of before the patch is none of them."""
    script = f"""
        from flagcache.clients import Clients, Push
        from flagcache.runtime.callers import Caller, acting_for, caller
        from flagcache.runtime.callers import Inside
        from flagcache.stores.redis.deadline import bounded, remaining

        inside, clients, other = Inside(), Clients(), Caller()
        noted = {NOTES[note]}
        with noted:
            print(seen())
        from gevent import monkey

        monkey.patch_all()
        import gevent

        noted = {NOTES[note]}
        with noted:
            print(seen(), gevent.spawn(seen).get())
        print(seen())
    """
    assert run(script).split() == ["True", "True", "False", "False"]


def test_a_lock_made_before_a_late_patch_stops_no_other_greenlet() -> None:
    """A greenlet that waits for another one's lock lets it continue."""
    script = """
        from flagcache.runtime.process_lock import ProcessLock

        lock = ProcessLock()
        with lock:
            pass
        from gevent import monkey

        monkey.patch_all()
        import gevent

        def work(name):
            with lock:
                print(name, "begins")
                gevent.sleep(0.01)
                print(name, "ends")

        gevent.joinall([gevent.spawn(work, "one"), gevent.spawn(work, "two")])
    """
    assert run(script).splitlines() == ["one begins", "one ends", "two begins", "two ends"]


def run(script: str) -> str:
    """Return what a script prints in a separate process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
