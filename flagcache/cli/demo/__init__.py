"""`flagcache demo`: real gunicorn workers share one fetch, while a flag changes and the leader is killed.

`options` has the arguments, `messages` what the demo and its workers send each other. Each worker runs `app`, which a
user would write like this, and `reporter`, which reports its state. In the demo's own process `fleet` starts and ends
the workers, `counts` adds up, `messages_text` has the texts, `screen` prints them, `environment` starts what the demo
needs, and `run` has the order of events.
"""

from __future__ import annotations

from flagcache.cli.demo.options import DemoOptions
from flagcache.cli.demo.run import run_demo

__all__ = ["DemoOptions", "run_demo"]
