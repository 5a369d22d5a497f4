"""Inside a worker: counts what the SDK asks of its cache, and tells the demo how this worker is.

The pipe for reports is also how a worker learns that the demo is gone, however it ended: then it ends the fleet.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from flagcache.cli.demo.messages import FlagValue, Report, Wiring

if TYPE_CHECKING:
    from posthog.flag_definition_cache import FlagDefinitionCacheData

    from flagcache import FlagDefinitionCache

__all__ = ["Client", "Reporter", "Tally", "evaluate"]

_USER = "user-1"
_LOOK_EVERY = 0.05  # seconds between two evaluations: how exactly a change is timed
_TELL_EVERY = 0.25  # seconds between two reports when nothing has changed


class Client(Protocol):
    """What is used here of a `posthog.Posthog`, which leaves most of it without types."""

    def load_feature_flags(self) -> object:
        """Load the definitions, and poll for them from now on."""
        ...

    def feature_flag_definitions(self) -> list[dict[str, object]] | None:
        """The definitions loaded."""
        ...

    def get_all_flags(
        self, distinct_id: str, *, only_evaluate_locally: bool, flag_keys_to_evaluate: list[str]
    ) -> Mapping[str, bool | str] | None:
        """Evaluate some flags; sends no event."""
        ...


class Tally:
    """Counts, on the cache itself, what the SDK asks of it: the SDK gets the very object that a user would give it.

    Args:
        cache: whose calls are counted, in this process and, after a fork, in each child for itself.
    """

    def __init__(self, cache: FlagDefinitionCache) -> None:
        self.polls = 0
        self.requests = 0
        self.full = 0
        self._ask, self._hear = cache.should_fetch_flag_definitions, cache.on_flag_definitions_received
        vars(cache).update(should_fetch_flag_definitions=self._asked, on_flag_definitions_received=self._heard)

    def _asked(self) -> bool:
        # What a thread of ours asks on the SDK's behalf is no poll that a worker alone would make.
        self.polls += not threading.current_thread().name.startswith("flagcache")
        fetch = self._ask()
        self.requests += fetch
        return fetch

    def _heard(self, data: FlagDefinitionCacheData) -> None:
        self.full += 1
        self._hear(data)


class Reporter:
    """Evaluates a flag again and again, as requests would, and reports.

    Args:
        wiring: where to report to, and which flag.
        client: evaluates; loaded here.
        cache: what the client was given.
        tally: of the cache.
    """

    def __init__(self, wiring: Wiring, client: Client, cache: FlagDefinitionCache, tally: Tally) -> None:
        self._wiring = wiring
        self._client = client
        self._cache = cache
        self._tally = tally
        self._last: Report | None = None
        self.flag = wiring.flag

    def start(self, master: int) -> None:
        """Report from a thread of its own, until the process ends.

        Args:
            master: process id of gunicorn's master.
        """
        threading.Thread(target=self._run, args=(master,), name="demo-reporter", daemon=True).start()

    def _run(self, master: int) -> None:
        try:
            self._tell(self._look())
            self._client.load_feature_flags()
            self._keep_telling()
        except BrokenPipeError:
            if os.getppid() == master:
                os.kill(master, signal.SIGTERM)

    def _keep_telling(self) -> None:
        told_at = 0.0
        while True:
            before, report = self._last, self._look()
            news = before is None or (before.value, before.role, before.version) != (
                report.value,
                report.role,
                report.version,
            )
            if news or time.monotonic() - told_at >= _TELL_EVERY:
                self._tell(report)
                told_at = time.monotonic()
            time.sleep(_LOOK_EVERY)

    def _tell(self, report: Report) -> None:
        os.write(self._wiring.reports, report.to_line())

    def _look(self) -> Report:
        flags = self._client.feature_flag_definitions() or []
        if not self.flag:
            self.flag = min((str(flag["key"]) for flag in flags if flag.get("active")), default="")
        value, status, now, before = (
            evaluate(self._client, self.flag),
            self._cache.status(),
            time.monotonic(),
            self._last,
        )
        report = Report(
            pid=status.pid,
            role=status.role.value,
            role_at=now,
            version=status.version,
            age=status.age,
            flags=len(flags),
            flag=self.flag,
            value=value,
            value_at=now,
            store=status.store,
            store_answers=status.store_answers,
            polls=self._tally.polls,
            requests=self._tally.requests + status.fetches,
            full=self._tally.full + status.full_fetches,
            changes=int(bool(status.version)),
        )
        self._last = report if before is None else _since(before, report)
        return self._last


def _since(before: Report, report: Report) -> Report:
    """Date the report's role and value by when they began, and count a change of version."""
    return replace(
        report,
        role_at=before.role_at if report.role == before.role else report.role_at,
        value_at=before.value_at if report.value == before.value else report.value_at,
        changes=before.changes + (report.version not in ("", before.version)),
    )


def evaluate(client: Client, flag: str) -> FlagValue:
    """Evaluate a flag in this process, asking nobody and sending no event."""
    if not client.feature_flag_definitions():  # else the SDK would go and load them now
        return None
    values = client.get_all_flags(_USER, only_evaluate_locally=True, flag_keys_to_evaluate=[flag])
    return (values or {}).get(flag)
