"""The demo as users run it: the real command, a real fleet, and nothing left afterwards."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from flagcache.cli.demo import DemoOptions, messages_text
from flagcache.cli.demo.counts import Counts, Requests
from flagcache.cli.demo.messages import Report
from flagcache_posthog.testing import PostHogStandIn
from tests.support.servers import MakeRedis, RedisServer, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc for processes left behind")

_SHORT = ("--workers", "3", "--seconds", "2", "--refresh", "0.4")
_PATIENCE = 60.0


@dataclass(frozen=True)
class Summary:
    """The figures that a run ends with."""

    shared: Requests
    alone: Requests
    change: float | None
    succession: float
    lost: int


class Demo:
    """One run of the command, whose processes all carry a mark in their environment."""

    def __init__(self, folder: Path, *arguments: str, stdout: int = subprocess.PIPE, **environ: str) -> None:
        self._mark = f"FLAGCACHE_TEST_MARK={uuid.uuid4()}"
        self.folder = folder
        name, _, value = self._mark.partition("=")
        kept = {key: val for key, val in os.environ.items() if not key.startswith("POSTHOG_")}
        path = ":".join(filter(None, sys.path))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flagcache.cli", "demo", *arguments],
            env={**kept, "PYTHONPATH": path, "TMPDIR": str(folder), "TERM": "xterm", name: value, **environ},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self) -> tuple[int, str, str]:
        """Wait for its end; return the exit status, stdout and stderr."""
        out, err = self.process.communicate(timeout=_PATIENCE)
        return self.process.returncode, out, err

    def read_until(self, pattern: str) -> None:
        """Read its output up to the line in which the pattern is found."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if re.search(pattern, line):
                return
        pytest.fail(f"the demo ended before it said {pattern!r}: {self.finish()}")

    def processes(self) -> list[int]:
        """Return its processes that run now."""
        found: list[int] = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found

    def check_nothing_left(self, timeout: float = 0.0) -> None:
        """Fail if one of its processes or files still exists after this many seconds."""
        until(lambda: not self.processes(), timeout, what=f"the end of {self.processes()}")
        until(lambda: not list(self.folder.iterdir()), timeout, what=f"{self.folder} to be empty")

    def end(self) -> None:
        """Kill what a failed test left."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()


class StartDemo:
    """The type of the fixture `start_demo`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.started: list[Demo] = []

    def __call__(self, *arguments: str, stdout: int = subprocess.PIPE, **environ: str) -> Demo:
        """Start the command; its leftovers are ended with the test."""
        demo = Demo(self._folder, *arguments, stdout=stdout, **environ)
        self.started.append(demo)
        return demo


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[StartDemo]:
    """Start the demo, with a temporary directory of its own."""
    start = StartDemo(tmp_path)
    yield start
    for demo in start.started:
        demo.end()


@pytest.fixture
def standin() -> Iterator[PostHogStandIn]:
    """A PostHog that the demo knows nothing of."""
    with PostHogStandIn() as standin:
        yield standin


def _summary(out: str) -> Summary:
    def figures(name: str) -> list[float]:
        found = re.search(rf"^  {re.escape(name)} +([\d.]+)(?: s)?(?:  +(\d+))?", out, re.MULTILINE)
        return [float(figure) for figure in found.groups() if figure is not None] if found else []

    asked, billed = figures("requests to PostHog"), figures("billed flag requests")
    shared, alone = (Requests(int(n), round((b - n) / 9)) for n, b in zip(asked, billed, strict=True))
    assert [shared.billed, alone.billed] == billed
    change = figures("flag change to last worker")
    return Summary(
        shared,
        alone,
        change[0] if change else None,
        figures("killed leader to next one")[0],
        int(figures("workers that lost flags")[0]),
    )


def test_it_shows_counts_and_ends(start_demo: StartDemo) -> None:
    """The demo ends by itself with 0, shows consistent figures, is 80 columns wide, and leaves nothing behind."""
    demo = start_demo(*_SHORT)
    status, out, err = demo.finish()
    assert (status, err) == (0, ""), out
    demo.check_nothing_left()
    summary = _summary(out)
    assert 1 <= summary.shared.requests < summary.alone.requests
    assert 1 <= summary.shared.full < summary.alone.full  # three workers and a fourth: 4 first ones, and the change
    assert summary.alone.full >= 4 + 3
    assert summary.change is not None
    assert 0 < summary.change < 15
    assert 0 < summary.succession < 15
    assert summary.lost == 0
    assert re.search(r"leader (\d+) is killed.*\n(?:.*\n)*.* worker (?!\1)\d+ leads", out)
    assert len(set(re.findall(r"worker (\d+) +(?:leader|follower)", out))) == 4
    assert max(len(line) for line in out.splitlines() if "store " not in line) <= 80


def test_it_shares_by_redis_after_a_preload(start_demo: StartDemo, make_redis: MakeRedis) -> None:
    """Forked from a loaded application and on Redis, it does the same, shows no password and leaves no key behind."""
    server = make_redis(tcp=True, args=["--requirepass", "sesame"])
    url = server.tcp_url.replace("redis://", "valkey://:sesame@")  # a URL that redis-py itself does not know
    demo = start_demo(*_SHORT, "--preload", "--store", url)
    status, out, err = demo.finish()
    assert (status, err) == (0, ""), out
    demo.check_nothing_left()
    assert _summary(out).shared.requests < _summary(out).alone.requests
    assert server.tcp_url in out
    assert "sesame" not in out
    assert server.client(password="sesame").keys("*") == []


def test_a_project_of_ones_own_is_only_read(start_demo: StartDemo, standin: PostHogStandIn) -> None:
    """With the three variables set, it uses that PostHog, changes nothing, and counts the SDKs' requests."""
    demo = start_demo(
        *_SHORT,
        POSTHOG_PROJECT_API_KEY="phc_mine",
        POSTHOG_SECRET_KEY="phs_mine",
        POSTHOG_HOST=standin.url,
    )
    status, out, err = demo.finish()
    assert (status, err) == (0, ""), out
    demo.check_nothing_left()
    summary = _summary(out)
    served = standin.counts()
    assert "your project" in out
    assert "phs_mine" not in out
    assert len(standin.truths()) == 1
    assert summary.change is None
    assert {record.token for record in standin.served()} == {"phc_mine"}
    assert (
        served.requests - 2 <= summary.shared.requests <= served.requests
    )  # the last ones of killed and ended workers
    assert summary.shared.full == served.full_fetches
    assert (served.flags_calls, served.events) == (0, {})


def test_a_terminal_shows_a_table(start_demo: StartDemo) -> None:
    """On a terminal a table shows the workers, with the requests of each one, and its requests without a cache."""
    try:
        ours, theirs = pty.openpty()
    except OSError as exc:
        pytest.skip(f"this system gives no terminal: {exc}")
    demo = start_demo(*_SHORT, stdout=theirs, COLUMNS="80", LINES="24")
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's other end is closed
        while data := os.read(ours, 1 << 16):
            shown += data
    os.close(ours)
    status, _, err = demo.finish()
    assert (status, err) == (0, "")
    demo.check_nothing_left()
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.decode())
    for words_shown in ("if alone", "all together", "killed", "Counted in these"):
        assert words_shown in text
    assert re.search(r" \d+ +leader +[0-9a-f]{8} +\d+\.\d s +on +\d+ +\d+", text)


@pytest.mark.parametrize(
    ("signum", "moment"),
    [
        (signal.SIGINT, "flagcache demo"),
        (signal.SIGINT, "worker .* leader"),
        (signal.SIGTERM, "is killed"),
    ],
)
def test_an_interrupted_demo_leaves_nothing(start_demo: StartDemo, signum: signal.Signals, moment: str) -> None:
    """Ctrl-C and SIGTERM end it at once, at any step, and no process or file is left."""
    demo = start_demo(*_SHORT, "--seconds", "8")
    demo.read_until(moment)
    assert len(demo.processes()) > 1
    os.killpg(demo.process.pid, signum)  # as a terminal does
    status, out, err = demo.finish()
    assert (status, err) == (128 + signum, "")
    assert "Counted" not in out
    demo.check_nothing_left()


def test_a_killed_demo_leaves_nothing(start_demo: StartDemo) -> None:
    """Even if the demo is killed (`kill -9`), the fleet and the stand-in end and clean up."""
    demo = start_demo(*_SHORT, "--seconds", "60")
    demo.read_until("worker .* leader")
    demo.process.kill()
    demo.finish()
    demo.check_nothing_left(timeout=20)


def test_it_ends_when_nobody_reads(start_demo: StartDemo) -> None:
    """`flagcache demo | head` ends without a traceback and leaves nothing behind."""
    demo = start_demo(*_SHORT, "--seconds", "60")
    demo.read_until("flagcache demo")
    assert demo.process.stdout is not None
    demo.process.stdout.close()
    demo.process.stdout = None
    status, _, err = demo.finish()
    assert (status, err) == (128 + signal.SIGPIPE, "")
    demo.check_nothing_left()


def test_a_store_that_does_not_answer_fails_it(start_demo: StartDemo, make_redis: MakeRedis) -> None:
    """Without its store the fleet shares nothing: the demo reports that and ends with 1."""
    server: RedisServer = make_redis(tcp=True)
    server.stop()
    demo = start_demo(*_SHORT, "--store", server.tcp_url)
    status, out, err = demo.finish()
    assert status == 1
    assert f"the store {server.tcp_url} does not answer" in err
    assert "Counted" not in out
    demo.check_nothing_left()


# --- the counting ----------------------------------------------------------------------------------------------------

_REPORT = Report(
    pid=1,
    role="follower",
    role_at=0.0,
    version="a",
    age=1.0,
    flags=3,
    flag="f",
    value=True,
    value_at=0.0,
    store="memory://",
    store_answers=True,
    polls=10,
    requests=4,
    full=1,
    changes=2,
)


def test_what_a_killed_worker_asked_stays_counted() -> None:
    """The sums contain the latest report of every worker so far; a killed one neither leads nor evaluates."""
    ledger = Counts()
    ledger.add([replace(_REPORT, role="leader"), replace(_REPORT, pid=2), replace(_REPORT, polls=11, role="leader")])
    assert ledger.sent() == Requests(8, 2)
    assert ledger.alone() == Requests(21, 4)
    assert ledger.alone().billed == 21 + 9 * 4
    ledger.killed(1)
    assert ledger.alone() == Requests(21, 4)
    assert ledger.leader() is None
    assert [report.pid for report in ledger.evaluating(value=True)] == [2]


def test_a_worker_that_loses_its_flags_is_noticed() -> None:
    """A worker that had flags and has none is counted; one that has none yet has lost nothing."""
    ledger = Counts()
    ledger.add([replace(_REPORT, flags=0), _REPORT])
    assert ledger.flags_lost == 0
    ledger.add([replace(_REPORT, flags=0), replace(_REPORT, flags=0)])
    assert ledger.flags_lost == 1


def test_a_report_survives_its_way() -> None:
    """A report is one line that fits into one write to a pipe, and is read back unchanged."""
    line = _REPORT.to_line()
    assert line.count(b"\n") == 1
    assert len(line) <= 512  # the least PIPE_BUF of POSIX
    assert Report.from_line(line) == _REPORT


def test_all_words_fit_80_columns() -> None:
    """Long process ids, many workers and slow machines keep every line within 80 columns."""
    options = DemoOptions(workers=64, preload=True, refresh=12.5, seconds=3600)
    place = messages_text.DemoSetup(
        "http://127.0.0.1:65535", is_standin=True, url="http://127.0.0.1:65535", store="s", sdk="7.100.10"
    )
    change = messages_text.Change("new-checkout", 64, 123.4)
    succession = messages_text.LeaderChange(4194303, 4194304, 123.4)
    figures = messages_text.Figures(3600.0, Requests(9999, 99), Requests(99999, 999), change, succession, 0)
    lines = [*messages_text.intro(options, place), *messages_text.summary(options, place, figures)]
    stamp = " " * len("123.4 s  ")
    lines += [stamp + messages_text.changed(change), stamp + messages_text.leader_changed(succession)]
    lines += [stamp + messages_text.replaced(replace(_REPORT, pid=4194303, requests=asked)) for asked in (0, 1, 2)]
    assert [line for line in lines if len(line) > 80] == []
