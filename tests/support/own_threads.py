"""The threads of flagcache in the tests' process."""

from __future__ import annotations

import gc
import threading

__all__ = ["threads_of"]


def threads_of() -> list[str]:
    """The names of our own threads in this process; what is garbage is collected before."""
    gc.collect()
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("flagcache"))
