"""`flagcache demo`: a real fleet of gunicorn workers on one fetch, watched while a flag changes and the leader dies.

`options` is what was asked for, `messages` what the demo and its workers tell each other. In each worker: `app`, which
is what a user would write, and `reporter`, which tells of it. In the demo's own process: `fleet` starts and ends the
workers, `ledger` counts, `words` says it, `screen` shows it and `show` is the order of events.
"""

from __future__ import annotations

from flagcache.cli.demo.options import DemoOptions
from flagcache.cli.demo.show import run_demo

__all__ = ["DemoOptions", "run_demo"]
