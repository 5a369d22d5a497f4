"""What gunicorn is told beside its command line: the hooks of the demo's fleet."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from flagcache.cli.demo.messages import Wiring

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

__all__ = ["on_exit", "post_worker_init"]


def post_worker_init(worker: Worker) -> None:
    """Let a worker that has just started report, also one that takes the place of a dead one."""
    from flagcache.cli.demo.app import reporter  # noqa: PLC0415 - loaded by the worker by now, and not before

    reporter.start(master=worker.ppid)


def on_exit(_server: Arbiter) -> None:
    """Clean up for a demo that was killed and cannot do it itself."""
    wiring = Wiring.from_environ()
    if os.getppid() != wiring.owner:
        shutil.rmtree(wiring.folder, ignore_errors=True)
