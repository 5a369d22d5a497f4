"""gunicorn's configuration file: the hooks of the demo's fleet."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from flagcache.cli.demo.messages import WorkerConfig

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

__all__ = ["on_exit", "post_worker_init"]


def post_worker_init(worker: Worker) -> None:
    """Start the reporter in a new worker, also in one that replaces a killed worker."""
    from flagcache.cli.demo.app import reporter  # noqa: PLC0415 - the worker has loaded it by now, not before

    reporter.start(master=worker.ppid)


def on_exit(_server: Arbiter) -> None:
    """Clean up if the demo was killed and can't do it."""
    config = WorkerConfig.from_environ()
    if os.getppid() != config.owner:
        shutil.rmtree(config.folder, ignore_errors=True)
