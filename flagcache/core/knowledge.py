"""What one process knows, how it polls a store, and what follows from the reply. Pure.

No sockets, threads or clocks: `now` is this process's own clock in seconds; a store's times are its own milliseconds.
What a process knows is one immutable value, `Knowledge`; each function returns the next one. `flagcache.worker` does
the I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from flagcache.core.notes import Note, latest
from flagcache.core.order import UNKNOWN_AGE, Held, granted_at, is_newer, is_newer_by_signature, superseded
from flagcache.core.projects import projects_differ, recognised
from flagcache.settings import Settings, milliseconds
from flagcache.stores.base import Ask, Grant, Meta, Order, Reply, Scope
from flagcache.vendor import Definitions, Refused

__all__ = [
    "Held",
    "Knowledge",
    "StoreView",
    "adopt",
    "apply_failure",
    "apply_reply",
    "build_poll",
    "changed_at",
    "from_store",
    "is_foreign",
    "meta_for_store",
    "superseded",
    "template",
    "times_of_fetch",
]


class StoreView(NamedTuple):
    """What this process knows of one store."""

    clock: int = 0
    """The store's clock in its latest reply."""
    replied_at: float = 0.0
    """Own clock at the latest reply."""
    leads: bool = False
    lease_ends: float = 0.0
    """Own clock when the lease expires that was in force at that time, whichever process holds it."""
    renewed: float = 0.0
    """Own clock when this process last took or renewed the lease."""
    stored: Meta | None = None
    last_grant: int = 0
    foreign: bool = False
    """The store holds another project's definitions."""
    deputy: bool = False
    """This process must check whether each due fetch is granted."""
    fetching: bool = False
    exhausted: bool = False
    leader: str = ""
    """`fetching`, `exhausted` and `leader` are as in the latest reply."""


class Knowledge(NamedTuple):
    """All that one process knows."""

    held: Held | None = None
    views: Mapping[str, StoreView] = MappingProxyType({})
    granted: float | None = None
    """Own clock at the latest grant in the fleet that this process knows of."""
    waiting_since: float | None = None
    """When a store first replied to this process while it held nothing. Its one wait counts from then."""
    gave_up_waiting: bool = False
    loaded: bool = False  # the first load is over
    received: bool = False
    """A fetch of this process, or of its parent, has brought definitions at least once."""
    failures: int = 0
    failed_at: float = 0.0
    stay_out_until: float = 0.0
    project: str = ""
    """This process's project: words `aspect=value` (`flagcache.core.projects`)."""
    backoff: Note = Note()
    signs: bool = False
    """This process has a key: it goes by signed times alone."""

    def view(self, store_name: str) -> StoreView:
        """Return what this process knows of a store."""
        return self.views.get(store_name, _UNSEEN)

    def with_view(self, store_name: str, view: StoreView) -> Knowledge:
        """Return the knowledge with a new value for one store."""
        return self._replace(views=MappingProxyType({**self.views, store_name: view}))

    def in_child(self) -> Knowledge:
        """Return what a forked child knows: its parent's definitions, and nothing of leases, grants and waits."""
        kept = Knowledge(held=self.held, granted=self.granted, received=self.received, project=self.project)
        return kept._replace(signs=self.signs)


_UNSEEN = StoreView()


def template(me: str, settings: Settings, lease: float) -> Ask:
    """Build the part that all polls of this process have in common; `lease` is in seconds."""
    return Ask(
        me=me,
        interval=milliseconds(settings.refresh_interval),
        lease=milliseconds(lease),
        cold_lease=milliseconds(settings.cold_lease),
        challenge=milliseconds(settings.challenge_after),
        backoff=milliseconds(settings.backoff_ceiling),
    )


def build_poll(base: Ask, know: Knowledge, store_name: str, now: float) -> Ask:
    """Build the poll of this store from the common part."""
    view, held = know.view(store_name), know.held
    # A process whose latest fetch failed doesn't take a lease that has just expired, because others may be able to
    # fetch. This has a limit, because otherwise it would never challenge a silent leader.
    humble = bool(know.stay_out_until) and now < know.stay_out_until + base.challenge / 2000
    waits = humble and not view.leads and now < view.lease_ends
    ask = base._replace(
        may_lead=base.may_lead and not view.foreign and now >= know.stay_out_until and not waits,
        last_grant=view.last_grant,
        grant_age=-1 if know.granted is None else _age(know.granted, now),
        leader=view.leader,
    )
    if view.foreign and view.stored is not None:  # only to see whether this changes
        return ask._replace(held=view.stored.order, held_version=view.stored.version)
    if held is None:
        return ask
    as_of = held.meta.as_of if held.store_name == store_name else 0
    return ask._replace(
        held=Order(held.meta.epoch, as_of),
        held_age=_age(held.born, now),
        held_version=held.meta.version,
    )


def apply_reply(know: Knowledge, store_name: str, reply: Reply, now: float, asked_at: float | None = None) -> Knowledge:
    """Apply the reply to a poll, except the payload.

    Args:
        know: what was known before.
        store_name: the store that replied.
        reply: its reply.
        now: own clock when the reply is read.
        asked_at: own clock before the poll, if that was earlier.
    """
    before = know.view(store_name)
    stored = reply.meta
    if reply.unchanged:  # it is what the poll said that this process holds
        stored = know.held.meta if know.held is not None and not before.foreign else before.stored
    view = StoreView(
        clock=reply.clock,
        replied_at=now,
        leads=reply.leads,
        lease_ends=now + reply.lease_left / 1000,
        renewed=now if reply.leads else 0.0,
        stored=stored,
        last_grant=reply.grant.as_of if reply.grant else before.last_grant,
        foreign=is_foreign(know, stored),
        deputy=reply.deputy,
        fetching=reply.fetching,
        exhausted=reply.exhausted,
        leader=before.leader if reply.leader is None else reply.leader,
    )
    granted = know.granted
    if 0 < reply.granted_at <= reply.clock and not view.foreign:  # another project's fetches don't count
        at = now - (reply.clock - reply.granted_at) / 1000
        granted = at if granted is None else max(granted, at)
    waiting_since = now if know.held is None and know.waiting_since is None else know.waiting_since
    asked_at = now if asked_at is None else asked_at
    retry_at = now + reply.backoff_left / 1000 if reply.backoff_left else 0.0
    note = Note(reply.backoff_status, retry_at, store_name, asked_at, stored.as_of if stored else 0)
    confirmed = None if reply.meta is None else _confirmed(know, reply.meta, reply.clock, asked_at)
    note = know.backoff if view.foreign else latest(know.backoff, note, confirmed)
    views = MappingProxyType({**know.views, store_name: view})
    know = know._replace(views=views, granted=granted, waiting_since=waiting_since, backoff=note)
    if view.foreign or reply.meta is None:
        return know
    know = know._replace(project=recognised(know.project, reply.meta.project))
    return _reconfirmed(know, store_name, reply, asked_at)


def _confirmed(know: Knowledge, meta: Meta, clock: int, asked_at: float) -> float | None:
    """Own clock when the vendor confirmed what the store has; None if it has nothing, or if that is not signed."""
    if know.signs and not meta.stamp:
        return None
    return asked_at - (clock - granted_at(meta, clock)) / 1000


def _reconfirmed(know: Knowledge, store_name: str, reply: Reply, asked_at: float) -> Knowledge:
    """Adopt only the ages of a reply if another worker confirmed the very definitions that are held."""
    held, meta = know.held, reply.meta
    if held is None or meta is None or meta.version != held.meta.version or reply.republish:
        return know
    stored = from_store(store_name, meta, held.definitions, reply.clock, asked_at, signs=know.signs)
    if not granted_at(meta, reply.clock):  # the clock was stepped back or forged, so the age is unknown
        stored = stored._replace(born=held.born)
    return know._replace(held=stored) if _takes(know, stored, held, reply.clock) else know


def is_foreign(know: Knowledge, meta: Meta | None) -> bool:
    """Whether these definitions belong to another project than this process."""
    return meta is not None and projects_differ(know.project, meta.project)


def from_store(
    store_name: str, meta: Meta, definitions: Definitions, clock: int, asked_at: float, *, signs: bool = False
) -> Held:
    """Return what a process holds after it decoded a store's payload.

    Args:
        store_name: the store.
        meta: their metadata.
        definitions: the payload, decoded.
        clock: the store's clock in its reply.
        asked_at: own clock before the poll. By the time after the reply a frozen process would compute a younger age.
        signs: this process has a key, so that a time without a stamp counts as none.
    """
    unproved = signs and not meta.stamp
    age = UNKNOWN_AGE if unproved else (clock - granted_at(meta, clock)) / 1000
    return Held(meta, definitions, store_name, asked_at - age, unproved=unproved)


def adopt(know: Knowledge, held: Held) -> Knowledge:
    """Adopt these definitions, unless newer ones were adopted meanwhile."""
    if know.held is not None and not _takes(know, held, know.held, know.view(held.store_name).clock):
        return know
    return know._replace(held=held, gave_up_waiting=False)


def _takes(know: Knowledge, held: Held, old: Held, clock: int) -> bool:
    """Whether these replace the old ones."""
    return (is_newer_by_signature if know.signs else is_newer)(held, old, clock)


def times_of_fetch(know: Knowledge, store_name: str, grant: Grant | None, clock: int) -> Grant:
    """Return the times for definitions that a fetch has just brought.

    With a grant they are the grant's. Without one they are the store's clock when the fetching thread last polled it,
    because the fetch began later. 0 if no store gave a time: then their age on this process's own clock orders them.
    """
    if grant is not None:
        return grant
    stored = know.view(store_name).stored
    return Grant(stored.epoch if stored else 0, clock, clock)


def changed_at(know: Knowledge, store_name: str, version: str, times: Grant) -> int:
    """When the fetched content first appeared: the store may already hold the same content."""
    stored = know.view(store_name).stored
    return stored.changed_at if stored is not None and stored.version == version else times.at


def meta_for_store(held: Held, store_name: str, clock: int, now: float) -> Meta:
    """Return the metadata with which this process repairs a store: the definitions' own times.

    Times of another store, or ahead of this one's clock, are translated by the age on this process's own clock.
    """
    meta = held.meta
    if held.store_name == store_name and 0 < meta.as_of <= clock:
        return meta
    as_of = max(1, clock - _age(held.born, now))
    return meta._replace(
        as_of=as_of,
        changed_at=max(1, as_of - max(0, meta.as_of - meta.changed_at)),
        confirmed_at=max(1, as_of - max(0, meta.as_of - meta.confirmed_at)),
    )


def apply_failure(know: Knowledge, store_name: str, refused: Refused, now: float, pause: float) -> Knowledge:
    """Apply a failed fetch. If the reason concerns this process alone, it stays out so that another worker leads."""
    know = know._replace(failures=know.failures + 1, failed_at=now)
    if refused.scope is Scope.MINE:
        return know._replace(stay_out_until=now + pause)
    stored = know.view(store_name).stored
    return know._replace(backoff=Note(refused.status, now + pause, store_name, now, stored.as_of if stored else 0))


def _age(since: float, now: float) -> int:
    return max(0, round(min(now - since, UNKNOWN_AGE) * 1000))
