"""The vendor's SDK, as far as the cache protocol shows it (posthog 7.91, `client.py` and `poller.py`).

`Sdk.load` follows `_load_feature_flags`, `_fetch` follows `_fetch_feature_flags_from_api` with its generations: an
entity tag for each process, silence upon a 304 and upon a failure, flags cleared upon 401 and 402, and a fetch if there
is neither a flag nor an answer. `Attached` is to it what `flagcache_posthog.attach` is to a real client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from greenlet import getcurrent

from flagcache.stores.base import Scope
from flagcache.vendor import Definitions, Fetched, Fetcher, FetchResult, Refused, Unchanged
from tests.simulation.oracle import Evidence
from tests.simulation.posthog import Response, definitions, version_of
from tests.simulation.scheduler import TaskRecord, current_task
from tests.simulation.threads import Event, Thread

if TYPE_CHECKING:
    from tests.simulation.simulated_fleet import Process

__all__ = ["Attached", "Sdk"]

_BUDGET = 6.0
"""The store timeouts that a call may take besides its waits: a poll and a repair of two stores, and a fetch's
result."""


class Sdk:
    """One client and its poller.

    Args:
        process: its process.
        poll_interval: seconds between two polls.
    """

    def __init__(self, process: Process, poll_interval: float) -> None:
        self._process = process
        self.poll_interval = poll_interval
        self.flags: object = None
        self.content = 0
        """The content of the flags; 0: nothing, or no flags."""
        self.etag = ""
        self.poller: Thread | None = None
        self.stopped = Event()
        self._evidence: Evidence | None = None
        self._generation = 0
        self._published = 0

    def inherit(self, parents: Sdk) -> None:
        """Take over what a forked child has of its parent's client."""
        self.flags, self.content, self.etag = parents.flags, parents.content, parents.etag
        self._evidence, self._generation, self._published = parents._evidence, parents._generation, parents._published

    def run(self) -> None:
        """Load the flags and start the poller, as a process does when it begins."""
        self.load()
        self.start_poller()

    def start_poller(self) -> None:
        """Start polling."""
        self.poller = Thread(target=self._poll, name="poller")
        self.poller.start()

    def refused(self) -> None:
        """What was fetched was late: the SDK still uses it, and the cache corrects that."""
        self._evidence = None

    def _poll(self) -> None:
        while not self.stopped.wait(self.poll_interval):
            self.load()

    def load(self) -> None:
        """One poll on the calling thread."""
        process = self._process
        record = current_task().record = TaskRecord(granted_by=current_task().record.granted_by)
        began, stops, had = process.scheduler.now, process.stops, process.held is not None
        fetch = process.worker.should_fetch()
        data = None
        if not fetch:
            data = process.worker.definitions()
        if record.repair and not record.failures and stops == process.stops:
            process.oracle.report(f"rule 3: {process.name} does not repair {record.repair} when asked to")
        if had and stops == process.stops and record.verbs > 1 and record.unchanged == record.verbs:
            process.oracle.report(f"rule 9: {process.name} asked {record.verbs} times to learn nothing")
        if had and stops == process.stops and process.scheduler.now - began > self._budget:
            process.oracle.report(f"rule 4: a call took {process.name} {process.scheduler.now - began:.1f} s")
        if data:
            self._adopt(data)
        elif fetch or not self.flags:
            self._fetch(record)

    @property
    def _budget(self) -> float:
        """Seconds that a call may take; a poller for which no thread listens waits for the fetch as well."""
        kind = self._process.kind
        waits = kind.attached and not kind.listens
        return _BUDGET * self._process.store_timeout + (kind.settings.fetch_timeout if waits else 0.0)

    def _adopt(self, data: Definitions) -> None:
        flags = data["flags"]
        if flags is self.flags:
            return
        self._process.stepped()
        self.flags, content = flags, _content(data)
        know = self._process.know_now()
        if not content and know.held is not None and know.backoff.status != 402:
            self._process.oracle.report(f"rule 5: {self._process.name} was handed no flags though it holds some")
        if content and content != self.content and self.content:
            old = self._process.oracle.last_evidence(self._process, version_of(self.content))
            evidence = (old or self._evidence, self._process.last_held.evidence)
            self._process.oracle.client_adopts(self._process, evidence, version_of(content))
        if content:
            self.content = content
            self._evidence = self._process.last_held.evidence
            held = self._process.held
            if held is None or held.meta.version != version_of(content):
                self._process.oracle.report(f"rule 5: {self._process.name} was handed what it does not hold")

    def _fetch(self, record: TaskRecord) -> None:
        process = self._process
        self._generation += 1
        generation, etag = self._generation, self.etag
        response = process.request(etag, longest=10.0)
        if response is None or generation <= self._published:
            return
        if response.status == 304:
            self._published = generation if etag == self.etag else self._published
        elif response.status == 200:
            self._published = generation
            self.etag = response.etag
            data = definitions(response.content)
            self.flags, self.content = data["flags"], response.content
            self._evidence = Evidence(record.asked, response.served, record.granted_by)
            process.worker.received(data)
        elif response.status in (401, 402):
            self._published, self.etag = generation, ""
            self.flags, self.content = [], 0


def _content(data: Definitions) -> int:
    """Return the content of these definitions; 0: none."""
    flags = cast("list[dict[str, int]]", data["flags"])
    return next((flag["content"] for flag in flags), 0)


class Attached:
    """`flagcache.clients.Client` over an `Sdk`."""

    def __init__(self, process: Process, sdk: Sdk, *, has_key: bool) -> None:
        self._process = process
        self._sdk = sdk
        self._has_key = has_key
        self.listening = process.kind.listens
        self._closed = False

    @property
    def gone(self) -> bool:
        """As `Client.gone`."""
        return self._closed

    @property
    def poll_interval(self) -> float:
        """As `Client.poll_interval`."""
        return self._sdk.poll_interval

    @property
    def polling(self) -> bool | None:
        """As `Client.polling`."""
        return None if self._sdk.poller is None else self._sdk.poller.is_alive()

    @property
    def polls(self) -> bool:
        """As `Client.polls`."""
        return True

    @property
    def asking(self) -> bool:
        """As `Client.asking`."""
        return self._sdk.poller is not None and self._sdk.poller.task is getcurrent()

    @property
    def project(self) -> str:
        """As `Client.project`."""
        return "key=abc"

    @property
    def can_fetch(self) -> bool:
        """As `Client.can_fetch`."""
        return self._has_key

    @property
    def fetcher(self) -> Fetcher | None:
        """As `Client.fetcher`."""
        return _Fetcher(self._process) if self._has_key else None

    def has(self, definitions: Definitions) -> bool:
        """As `Client.has`."""
        return bool(self._sdk.flags) and self._sdk.flags is definitions["flags"]

    def differs_from(self, definitions: Definitions) -> bool:
        """As `Client.differs_from`."""
        if self._sdk.flags is definitions["flags"]:
            return False
        return bool(definitions["flags"]) or bool(self._sdk.flags)

    @property
    def has_no_flags(self) -> bool:
        """As `Client.has_no_flags`."""
        return not self._sdk.flags

    def close(self) -> None:
        """As `Client.close`."""
        self._closed = True

    def poll(self) -> None:
        """As `Client.poll`."""
        if self._sdk.poller is not None and self._sdk.poller.is_alive():
            self._sdk.load()


class _Fetcher:
    """`flagcache.vendor.Fetcher`: what `flagcache_posthog.fetcher` makes of PostHog's answers."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def fetch(self, etag: str) -> FetchResult:
        response = self._process.request(etag, longest=self._process.config.settings.fetch_timeout)
        if response is None:
            return Refused("no answer", Scope.MINE)
        if response.status == 304:
            return Unchanged()
        return Fetched(definitions(response.content), response.etag) if response.status == 200 else _refused(response)

    def cancel(self) -> None:
        """Its process leaves, and no thread waits for the result."""


def _refused(response: Response) -> Refused:
    everybody = response.status in (402, 429) or response.status >= 500
    scope = Scope.EVERYBODY if everybody else Scope.MINE
    return Refused(f"status {response.status}", scope, response.status, response.retry_after)
