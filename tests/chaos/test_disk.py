"""A store on a disk that is full or can't be written."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from flagcache_posthog.testing import RemoteStandIn, make_definitions
from tests.support.fleet_tasks import all_hold, contexts, load, logs, never_lost_flags, next_request, status, trouble
from tests.support.real_fleet import Fleet
from tests.support.scenario import Backends, Mode, Scenario
from tests.support.servers import MakeRedis, until

MODES = pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
_CHUNK = 4096


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB; without the right to mount one the test is skipped."""
    folder = tmp_path / "disk"
    folder.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@contextlib.contextmanager
def _full(disk: Path) -> Generator[None]:
    """Take every byte that is left."""
    filler = disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(os.urandom(_CHUNK))
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def _read_only(disk: Path) -> Generator[None]:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


@MODES
@pytest.mark.sample(1)
def test_full(mode: Mode, posthog: RemoteStandIn, small_disk: Path, namespace: str, rng: random.Random) -> None:
    """The disk fills up under a fleet that shares a file: attached clients get each change, and afterwards all do."""
    backends = Backends(posthog, f"sqlite:///{small_disk / 'flags.db'}", namespace)
    with Scenario.of(mode, backends, rng) as scenario:
        with scenario.store_unreachable(), _full(small_disk):
            scenario.log("the disk is full")
            scenario.expect("is full", "answers again after")
            for _ in range(rng.randint(1, 3)):
                scenario.change()
                if mode is Mode.ATTACHED:
                    scenario.settle(unable=4)  # each asks for itself, more slowly
                else:
                    next_request(posthog, timeout=10.0)
        scenario.change()  # an SDK that fetches for itself has the tag of what no store took, and gets "unchanged"
        scenario.settle()
        scenario.join()
        scenario.check_recovery()


@MODES
@pytest.mark.sample(1)
def test_read_only(mode: Mode, posthog: RemoteStandIn, small_disk: Path, namespace: str, rng: random.Random) -> None:
    """A fleet that starts on a read-only disk, where an earlier one left its file, has flags and gets each change."""
    backends = Backends(posthog, f"sqlite:///{small_disk / 'flags.db'}", namespace)
    with Scenario.of(mode, backends, rng, size=1):
        pass  # it leaves a file with revision 1
    with _read_only(small_disk), Scenario.of(mode, backends, rng) as scenario:
        scenario.expect_no_coordination()
        scenario.expect("refuses to write")
        scenario.change()
        scenario.settle(unable=4)
        scenario.check_recovery()


@pytest.mark.parametrize("spoilt", [_full, _read_only], ids=["full", "read-only"])
def test_no_room_for_the_fallback(
    spoilt: Callable[[Path], AbstractContextManager[None]],
    posthog: RemoteStandIn,
    small_disk: Path,
    make_redis: MakeRedis,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the fallback store can't be written, this is reported once; Redis may go and return, and no flag is lost."""
    monkeypatch.setenv("XDG_STATE_HOME", str(small_disk))
    server = make_redis()
    with (
        spoilt(small_disk),
        Fleet(contexts(posthog, server.url, namespace, every=0.5, store_timeout=0.3), 2) as fleet,
    ):
        assert fleet.call(load) == [1, 1]
        server.kill()
        posthog.serve(make_definitions(5, revision=2))
        all_hold(fleet, 2, within=10.0)
        server.start()
        until(lambda: all(each.store_answers for each in fleet.call(status)), 5.0, what="all to come back")
        posthog.serve(make_definitions(5, revision=3))
        all_hold(fleet, 3, within=5.0)
        for lines in fleet.call(logs):
            assert len([line for line in lines if "fallback-" in line.text or "no fallback store" in line.text]) == 1
        assert all(never_lost_flags(member) and not trouble(member) for member in fleet)
