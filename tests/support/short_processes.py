"""Processes that live for one evaluation, each as its own program, like a cron job."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.scenario import Backends, Mode
from tests.support.user_programs import posthog_environment

__all__ = ["Job", "JobResult"]

_PROGRAM = """
import os, sys, time
from posthog import Posthog

provider, mode = None, os.environ["MODE"]
if mode != "plain":
    from flagcache.settings import Options
    from flagcache_posthog import from_url

    opt_out = {"auto_attach": False} if mode == "protocol" and "auto_attach" in Options.__annotations__ else {}
    refresh = float(os.environ["REFRESH"])
    provider = from_url(os.environ["STORE"], os.environ["NAMESPACE"], refresh_interval=refresh, **opt_out)
began = time.monotonic()
client = Posthog(
    os.environ["POSTHOG_PROJECT_API_KEY"],
    secret_key=os.environ["POSTHOG_SECRET_KEY"],
    host=os.environ["POSTHOG_HOST"],
    poll_interval=float(os.environ["REFRESH"]),
    flag_definition_cache_provider=provider,
)
flags = client.evaluate_flags("user", only_evaluate_locally=True, flag_keys=["revision"])
value = flags.get_flag("revision", send_feature_flag_events=False)
print(value, time.monotonic() - began, flush=True)
"""


@dataclass(frozen=True, slots=True)
class JobResult:
    """What one job found."""

    revision: str
    """As `r2`; `None` for no flags."""
    evaluation: float
    """Seconds from making the client to the value."""
    life: float
    """Seconds from its start to its end."""


class Job:
    """One process that makes a client, evaluates one flag and ends. It begins at once.

    Args:
        backends: The fleet's PostHog and store.
        mode: How its client uses the cache; None: the plain SDK.
        refresh: Seconds between two requests of its fleet, and between two polls.
        folder: For what is kept on disk.
    """

    def __init__(self, backends: Backends, mode: Mode | None, *, refresh: float, folder: Path) -> None:
        environ = posthog_environment(
            backends.posthog.url,
            MODE=mode.value if mode else "plain",
            STORE=backends.store_url,
            NAMESPACE=backends.namespace,
            REFRESH=str(refresh),
            XDG_STATE_HOME=str(folder / "state"),
        )
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def result(self, *, within: float = 30.0) -> JobResult:
        """Wait for its end, and return what it found."""
        try:
            out, err = self._process.communicate(timeout=within)
        finally:
            self._process.kill()
        assert self._process.returncode == 0, err
        revision, seconds = out.split()
        return JobResult(revision, float(seconds), time.monotonic() - self._began)
