"""An attacker who can write to the store and has no key, and workers that fetch for their fleet, inside one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from flagcache.core.knowledge import Knowledge
from flagcache.settings import Settings
from flagcache.stores.base import Scope
from flagcache.stores.memory import MemoryStore
from flagcache.stores.rules.state import Outcome, believable
from flagcache.stores.rules.state import State as Stored
from flagcache.vendor import Definitions, Fetched, Fetcher, FetchResult, Refused, Unchanged
from tests.support.in_process_fleet import Fleet, Process, Upstream

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AttachedProcess", "RefusingUpstream", "StoreWriter", "WritableStore", "grant_again", "make_fleet"]

HOUR = 3_600_000


class WritableStore(MemoryStore):
    """A store in memory whose whole content a test can read and replace."""

    @property
    def content(self) -> tuple[Stored, bytes]:
        """Everything that is stored."""
        return self._state, self._payload

    @content.setter
    def content(self, content: tuple[Stored, bytes]) -> None:
        """Replace it; the store reads it as it reads fields that others wrote."""
        state, self._payload = content
        highest = max(state.highest, state.grant, state.meta.as_of if state.meta else 0)
        self._state = believable(state._replace(highest=highest), self._clock())


class RefusingUpstream(Upstream):
    """The vendor, which may refuse definitions to all."""

    refuses: Refused | None = None


class StoreWriter:
    """Writes to a store without a key."""

    def __init__(self, store: WritableStore, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock

    def keep(self) -> tuple[Stored, bytes]:
        """A copy of all that is stored."""
        return self._store.content

    def state(self, **fields: object) -> None:
        """Overwrite fields of the state."""
        state, payload = self._store.content
        self._store.content = state._replace(**cast("dict[str, Any]", fields)), payload

    def meta(self, **fields: object) -> None:
        """Overwrite fields of the metadata."""
        state, payload = self._store.content
        assert state.meta is not None
        meta = state.meta._replace(**cast("dict[str, Any]", fields))
        self._store.content = state._replace(meta=meta), payload

    def put_back(self, kept: tuple[Stored, bytes], **fields: object) -> None:
        """Replace what is stored by the earlier content, with other metadata if they are given."""
        state, _ = self._store.content
        assert kept[0].meta is not None
        self._store.content = state._replace(meta=kept[0].meta), kept[1]
        self.meta(**fields)

    def roll_back(self, kept: tuple[Stored, bytes]) -> None:
        """Restore the earlier content with the present time, and claim that all is well."""
        now = self._clock()
        self.put_back(kept, as_of=now, confirmed_at=now, changed_at=now)
        self.state(highest=now)
        self.freeze()

    def freeze(self) -> None:
        """Claim that all is well: just granted, just confirmed, and with a long lease that no process holds."""
        now = self._clock()
        self.state(granted=(now, now, now), owner="ghost", lease_until=now + HOUR, lease_length=HOUR, led_since=now)


class AttachedProcess(Process):
    """A worker with an attached client, which never listens: it acts only at its polls."""

    def __init__(self, fleet: Fleet, poll_interval: float | None = None) -> None:
        super().__init__(fleet, Knowledge())
        self._client = _Client(self, fleet, poll_interval or fleet.settings.refresh_interval)
        self.config.clients.add(self._client)

    @property
    def fresh(self) -> bool:
        """Whether its status says so."""
        return self.worker.know.held is not None and not self.worker.fleet_status.stale


class _Client:
    gone = listening = asking = False
    polling = polls = can_fetch = True
    project = ""
    has_no_flags = False

    def __init__(self, process: AttachedProcess, fleet: Fleet, poll_interval: float) -> None:
        self._process = process
        self._fleet = fleet
        self.poll_interval = poll_interval

    @property
    def fetcher(self) -> Fetcher:
        """Asks the fleet's vendor."""
        return _Fetcher(self._fleet)

    def has(self, definitions: Definitions) -> bool:
        """Return whether it uses these definitions."""
        return self._process.flags is definitions

    def differs_from(self, definitions: Definitions) -> bool:
        """Return whether it uses other definitions."""
        return not self.has(definitions)

    def close(self) -> None:
        """Nothing is open."""

    def poll(self) -> None:
        """Its poller is the test."""


class _Fetcher:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def fetch(self, etag: str) -> FetchResult:
        """One request."""
        if isinstance(self._fleet.upstream, RefusingUpstream) and self._fleet.upstream.refuses is not None:
            self._fleet.upstream.requests += 1
            return self._fleet.upstream.refuses
        answer = self._fleet.upstream.fetch(etag)
        if answer is None:
            return Refused("no answer", Scope.MINE)
        return Unchanged() if answer[1] is None else Fetched(answer[1], answer[0])

    def cancel(self) -> None:
        """It never lasts."""


def make_fleet(settings: Settings | None = None) -> tuple[Fleet, StoreWriter]:
    """A fleet on an `WritableStore`, and an attacker who writes to it."""
    fleet = Fleet(settings)
    fleet.upstream = RefusingUpstream()
    fleet.upstream.clock = fleet.clock
    store = WritableStore(fleet.store_clock)
    fleet.store = store
    return fleet, StoreWriter(store, fleet.store_clock)


def grant_again(fleet: Fleet) -> None:
    """Forge that the latest fetch failed, as a writer to the store can: the next poll gets a grant."""
    spoilt = Stored(meta=fleet.stored, outcome=Outcome.FAILED)
    vars(fleet.store)["_state"] = spoilt
