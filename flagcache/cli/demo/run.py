"""The order of events: a start, a changed flag, a killed leader, and the figures."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Generator, Mapping

from flagcache.cli.demo import messages_text
from flagcache.cli.demo.environment import FLAG, BrokenPromiseError, Interruption, Stage, open_stage
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
            with open_stage(options, project, stops) as stage:
                _perform(stage)
        except Interruption:
            print("ended early; everything that was started has been stopped", flush=True)
            return 128 + stops[0]
    return 0


@contextlib.contextmanager
def _collected_signals() -> Generator[list[int], None, None]:
    """Collect the signals to end: to die from one could leave something half started or half ended."""
    came: list[int] = []
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {signum: signal.signal(signum, lambda signum, _frame: came.append(signum)) for signum in wanted}
    try:
        yield came
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _perform(stage: Stage) -> None:
    began = time.monotonic()
    for line in messages_text.intro(stage.options, stage.place):
        stage.screen.line(line)
    with stage.screen:
        _start(stage)
        change = _change_flag(stage) if stage.standin else None
        succession = _kill_leader(stage)
        figures = messages_text.Figures(
            seconds=time.monotonic() - began,
            together=stage.count(),
            alone=stage.ledger.alone(),
            change=change,
            succession=succession,
            flags_lost=stage.ledger.flags_lost,
        )
    for line in messages_text.summary(stage.options, stage.place, figures):
        stage.screen.line(line)
    _check(figures)


def _start(stage: Stage) -> None:
    """Wait until the fleet has started, and watch it."""
    workers = stage.options.workers

    def ready() -> list[Report] | None:
        able = stage.ledger.with_flags()
        if not all(report.store_answers for report in able):
            raise BrokenPromiseError(f"the store {stage.place.store} does not answer: each worker works alone")
        return able if len(able) >= workers and stage.ledger.leader() else None

    stage.until(ready, _PATIENCE + 2 * workers, f"{workers} workers to have their flags")
    sent = messages_text.times(stage.count().full)
    stage.screen.event(f"{workers} workers started on an empty store: PostHog sent them its flags {sent}")
    stage.watch(stage.options.pause)


def _change_flag(stage: Stage) -> messages_text.Change:
    """Switch the flag on in PostHog, wait until every worker evaluates it to that, and watch."""
    assert stage.standin is not None
    stage.standin.set_flag(FLAG, active=True)
    changed_at = stage.standin.truths()[-1].changed_at
    stage.screen.event(f"{FLAG} is switched on in PostHog")

    def everywhere() -> list[Report] | None:
        changed = stage.ledger.evaluating(value=True)
        return changed if len(changed) == len(stage.ledger.alive()) else None

    reports = stage.until(everywhere, _PATIENCE + 2 * stage.options.refresh, "every worker to see the change")
    change = messages_text.Change(FLAG, len(reports), max(report.value_at for report in reports) - changed_at)
    stage.screen.event(messages_text.changed(change))
    stage.watch(stage.options.pause)
    return change


def _kill_leader(stage: Stage) -> messages_text.Succession:
    """Kill the leader, wait for another leader and for a new worker, and watch."""
    ledger, options = stage.ledger, stage.options
    old = stage.until(ledger.leader, _PATIENCE, "a leader")
    known = {report.pid for report in ledger.all()}
    stage.fleet.kill(old.pid)
    killed_at = time.monotonic()
    ledger.killed(old.pid)
    stage.screen.event(f"leader {old.pid} is killed (kill -9), without a hand-over")

    def replaced() -> Report | None:
        return next((report for report in ledger.with_flags() if report.pid not in known), None)

    stage.screen.event(messages_text.replaced(stage.until(replaced, _PATIENCE, "a new worker to have its flags")))
    new = stage.until(ledger.leader, _PATIENCE + options.lease + options.refresh, "another leader")
    succession = messages_text.Succession(old.pid, new.pid, new.role_at - killed_at)
    stage.screen.event(messages_text.succeeded(succession))
    stage.watch(options.pause)
    return succession


def _check(figures: messages_text.Figures) -> None:
    if figures.flags_lost:
        raise BrokenPromiseError("a worker that had flags was seen without")
    if figures.together.requests >= figures.alone.requests:
        raise BrokenPromiseError("sharing saved no request")
