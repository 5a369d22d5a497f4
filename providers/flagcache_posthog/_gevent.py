"""What the SDK does not bear where gevent has patched the standard library, and what can be done beforehand."""

from __future__ import annotations

import importlib.util
import sys

from flagcache.runtime.guard import log_exceptions

__all__ = ["learn_system"]


def learn_system() -> None:
    """Find out the system's name and version now, where gevent is installed: `distro` remembers them.

    With its first event the SDK asks `distro` for them, which runs `uname` and `lsb_release`. gevent's `Popen` forks by
    `os.fork` (26.9), so that the SDK's fork hook runs between fork and exec and starts threads there (posthog 7.91,
    `Client._reinit_after_fork`). As these are greenlets, all others run in that child too, on the parent's connections:
    replies get lost, or are sent twice. Before there is a client, there is no such hook; and as long as gevent has not
    patched, which it may do later, nothing here forks by `os.fork`.
    """
    if sys.platform.startswith("linux"):
        log_exceptions(_ask_distro, None, "", "looking up the system's name failed")


def _ask_distro() -> None:
    if importlib.util.find_spec("gevent") is None:
        return
    import distro  # noqa: PLC0415 - a dependency of the SDK, and slow to import where it is not needed

    distro.info()
    distro.name()
