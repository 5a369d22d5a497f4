"""The order of events: a start, a changed flag, a killed leader, and the figures."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Generator, Mapping

from flagcache.cli.demo import messages_text
from flagcache.cli.demo.environment import FLAG, DemoEnvironment, DemoFailedError, Interruption, start_demo
from flagcache.cli.demo.messages import Report
from flagcache.cli.demo.options import DemoOptions, Project, check_extra

__all__ = ["run_demo"]

_PATIENCE = 15.0
"""Seconds that a step may take on a slow machine, in addition to the intervals."""


def run_demo(options: DemoOptions, environ: Mapping[str, str] = os.environ) -> int:
    """Run the demo.

    Args:
        options: from the command line.
        environ: the environment, which may name a PostHog project.

    Returns:
        0, or 128 plus the signal's number if a signal ended it.

    Raises:
        ConfigurationError: the store's URL or the environment is invalid. Nothing has been started.
        MissingExtraError: gunicorn or rich is not installed.
        FlagcacheError: something that the demo shows did not happen.
    """
    check_extra()
    project = Project.from_environ(environ)
    with _collected_signals() as stops:
        try:
            with start_demo(options, project, stops) as demo:
                _run_steps(demo)
        except Interruption:
            print("ended early; everything that was started has been stopped", flush=True)
            return 128 + stops[0]
    return 0


@contextlib.contextmanager
def _collected_signals() -> Generator[list[int], None, None]:
    """Collect the signals to end. Dying from one could leave something half started or half ended."""
    received: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {signum: signal.signal(signum, lambda signum, _frame: received.append(signum)) for signum in signals}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _run_steps(demo: DemoEnvironment) -> None:
    began = time.monotonic()
    for line in messages_text.intro(demo.options, demo.setup):
        demo.screen.line(line)
    with demo.screen:
        _start(demo)
        change = _change_flag(demo) if demo.standin else None
        leader_change = _kill_leader(demo)
        figures = messages_text.Figures(
            seconds=time.monotonic() - began,
            shared=demo.count(),
            alone=demo.counts.alone(),
            change=change,
            leader_change=leader_change,
            flags_lost=demo.counts.flags_lost,
        )
    for line in messages_text.summary(demo.options, demo.setup, figures):
        demo.screen.line(line)
    _check(figures)


def _start(demo: DemoEnvironment) -> None:
    """Wait until the fleet has started, and watch it."""
    workers = demo.options.workers

    def ready() -> list[Report] | None:
        with_flags = demo.counts.with_flags()
        if not all(report.store_answers for report in with_flags):
            raise DemoFailedError(f"the store {demo.setup.store} does not answer: each worker works alone")
        return with_flags if len(with_flags) >= workers and demo.counts.leader() else None

    demo.until(ready, _PATIENCE + 2 * workers, f"{workers} workers to have their flags")
    sent = messages_text.times(demo.count().full)
    demo.screen.event(f"{workers} workers started on an empty store: PostHog sent them its flags {sent}")
    demo.watch(demo.options.pause)


def _change_flag(demo: DemoEnvironment) -> messages_text.Change:
    """Switch the flag on in PostHog, wait until it is on in every worker, and watch."""
    assert demo.standin is not None
    demo.standin.set_flag(FLAG, active=True)
    changed_at = demo.standin.truths()[-1].changed_at
    demo.screen.event(f"{FLAG} is switched on in PostHog")

    def everywhere() -> list[Report] | None:
        changed = demo.counts.evaluating(value=True)
        return changed if len(changed) == len(demo.counts.alive()) else None

    reports = demo.until(everywhere, _PATIENCE + 2 * demo.options.refresh, "every worker to see the change")
    change = messages_text.Change(FLAG, len(reports), max(report.value_at for report in reports) - changed_at)
    demo.screen.event(messages_text.changed(change))
    demo.watch(demo.options.pause)
    return change


def _kill_leader(demo: DemoEnvironment) -> messages_text.LeaderChange:
    """Kill the leader, wait for another leader and for a new worker, and watch."""
    counts, options = demo.counts, demo.options
    old = demo.until(counts.leader, _PATIENCE, "a leader")
    known = {report.pid for report in counts.all()}
    demo.fleet.kill(old.pid)
    killed_at = time.monotonic()
    counts.killed(old.pid)
    demo.screen.event(f"leader {old.pid} is killed (kill -9), without a hand-over")

    def replaced() -> Report | None:
        return next((report for report in counts.with_flags() if report.pid not in known), None)

    demo.screen.event(messages_text.replaced(demo.until(replaced, _PATIENCE, "a new worker to have its flags")))
    new = demo.until(counts.leader, _PATIENCE + options.lease + options.refresh, "another leader")
    leader_change = messages_text.LeaderChange(old.pid, new.pid, new.role_at - killed_at)
    demo.screen.event(messages_text.leader_changed(leader_change))
    demo.watch(options.pause)
    return leader_change


def _check(figures: messages_text.Figures) -> None:
    if figures.flags_lost:
        raise DemoFailedError("a worker that had flags was seen without")
    if figures.shared.requests >= figures.alone.requests:
        raise DemoFailedError("sharing saved no request")
