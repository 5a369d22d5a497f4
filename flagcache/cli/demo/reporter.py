"""Inside a worker: counts the SDK's calls of its cache, and reports the worker's state to the demo.

If the demo ends for any reason, the pipe for reports breaks. The worker then ends the fleet.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from flagcache.cli.demo.messages import FlagValue, Report, WorkerConfig

if TYPE_CHECKING:
    from posthog.flag_definition_cache import FlagDefinitionCacheData

    from flagcache import FlagDefinitionCache

__all__ = ["CallCounts", "Client", "Reporter", "evaluate"]

_USER = "user-1"
_EVALUATE_EVERY = 0.05  # seconds between two evaluations: the precision of a change's time
_REPORT_EVERY = 0.25  # seconds between two reports if nothing has changed


class Client(Protocol):
    """The part of `posthog.Posthog` that is used here; the SDK leaves most of it without types."""

    def load_feature_flags(self) -> object:
        """Load the definitions, and start to poll."""
        ...

    def feature_flag_definitions(self) -> list[dict[str, object]] | None:
        """The loaded definitions."""
        ...

    def get_all_flags(
        self, distinct_id: str, *, only_evaluate_locally: bool, flag_keys_to_evaluate: list[str]
    ) -> Mapping[str, bool | str] | None:
        """Evaluate some flags; sends no event."""
        ...


class CallCounts:
    """Counts the SDK's calls of a cache, on the cache itself, so that the SDK gets the same object as in real use.

    Args:
        cache: its calls are counted, in this process and separately in each forked child.
    """

    def __init__(self, cache: FlagDefinitionCache) -> None:
        self.polls = 0
        self.requests = 0
        self.full = 0
        self._should_fetch, self._on_received = cache.should_fetch_flag_definitions, cache.on_flag_definitions_received
        vars(cache).update(
            should_fetch_flag_definitions=self._count_poll, on_flag_definitions_received=self._count_received
        )

    def _count_poll(self) -> bool:
        # A worker without a cache would not make the polls of flagcache's threads.
        self.polls += not threading.current_thread().name.startswith("flagcache")
        fetch = self._should_fetch()
        self.requests += fetch
        return fetch

    def _count_received(self, data: FlagDefinitionCacheData) -> None:
        self.full += 1
        self._on_received(data)


class Reporter:
    """Evaluates a flag repeatedly, as requests would, and reports.

    Args:
        config: where to report, and which flag.
        client: evaluates; it is loaded here.
        cache: the client's cache.
        calls: counts the cache's calls.
    """

    def __init__(self, config: WorkerConfig, client: Client, cache: FlagDefinitionCache, calls: CallCounts) -> None:
        self._config = config
        self._client = client
        self._cache = cache
        self._calls = calls
        self._last: Report | None = None
        self.flag = config.flag

    def start(self, master: int) -> None:
        """Report on a new thread, until the process ends.

        Args:
            master: process id of gunicorn's master.
        """
        threading.Thread(target=self._run, args=(master,), name="demo-reporter", daemon=True).start()

    def _run(self, master: int) -> None:
        try:
            self._send(self._observe())
            self._client.load_feature_flags()
            self._report_changes()
        except BrokenPipeError:
            if os.getppid() == master:
                os.kill(master, signal.SIGTERM)

    def _report_changes(self) -> None:
        sent_at = 0.0
        while True:
            before, report = self._last, self._observe()
            changed = before is None or (before.value, before.role, before.version) != (
                report.value,
                report.role,
                report.version,
            )
            if changed or time.monotonic() - sent_at >= _REPORT_EVERY:
                self._send(report)
                sent_at = time.monotonic()
            time.sleep(_EVALUATE_EVERY)

    def _send(self, report: Report) -> None:
        os.write(self._config.reports, report.to_line())

    def _observe(self) -> Report:
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
            polls=self._calls.polls,
            requests=self._calls.requests + status.fetches,
            full=self._calls.full + status.full_fetches,
            changes=int(bool(status.version)),
        )
        self._last = report if before is None else _since(before, report)
        return self._last


def _since(before: Report, report: Report) -> Report:
    """Give the report's role and value the times when they began, and count a change of version."""
    return replace(
        report,
        role_at=before.role_at if report.role == before.role else report.role_at,
        value_at=before.value_at if report.value == before.value else report.value_at,
        changes=before.changes + (report.version not in ("", before.version)),
    )


def evaluate(client: Client, flag: str) -> FlagValue:
    """Evaluate a flag in this process, without a request or an event."""
    if not client.feature_flag_definitions():  # otherwise the SDK would load them now
        return None
    values = client.get_all_flags(_USER, only_evaluate_locally=True, flag_keys_to_evaluate=[flag])
    return (values or {}).get(flag)
