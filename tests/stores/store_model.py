"""A few obvious facts about a store, checked after each step.

The model decides nothing: it remembers what it saw, and says which answers no store may give. It knows neither what the
rules store nor how they calculate; if several answers are allowed, it accepts each. `tests.stores.store_record` has
what more than one verb is held to.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flagcache.stores.base import Ask, Envelope, Grant, Meta, Order, Published, Reply, Scope, Snapshot
from tests.stores.store_record import GRACE, NamespaceRecord, is_refresher


@dataclass
class Worker:
    """A process, as a store sees it."""

    me: str
    held: Meta | None = None
    payload: bytes = b""
    grants: list[Grant] = field(default_factory=list[Grant])
    """All that reached it."""
    fetching: bool = False
    granted_at: int = 0
    """When the fleet's latest grant was given, as far as it knows."""

    @property
    def reports(self) -> bool:
        """Whether it reports each answer: refreshers and every second worker do."""
        return is_refresher(self.me) or int(self.me.rpartition("-")[2]) % 2 == 0

    def came_back(self, grant: Grant) -> None:
        """The fetch of this grant is over."""
        self.fetching = self.fetching and grant != self.grants[-1]

    def take_reply(self, reply: Reply, *, adopt: bool) -> None:
        """Learn what a reply says."""
        self.granted_at = max(self.granted_at, reply.granted_at)
        if reply.grant is not None:
            self.grants.append(reply.grant)
            self.fetching = True
        if adopt and reply.meta is not None:
            if reply.payload is not None:
                self.held, self.payload = reply.meta, reply.payload
            elif self.held is not None and self.held.version == reply.meta.version:
                self.held = reply.meta


class Model(NamespaceRecord):
    """The observations of one namespace.

    Every method takes what the store answered and what `inspect` showed after it, and fails where that cannot be.
    """

    def polled(self, ask: Ask, reply: Reply, after: Snapshot) -> None:
        """A worker asked."""
        assert self.seen.clock <= reply.clock <= after.clock, "its clock lies"
        self.kept(after, "content", "epoch", "grants", "lease")
        assert after.payload_size == self.seen.payload_size
        assert after.epoch == max(self.seen.epoch, ask.held.epoch if ask.held else 0), (
            "an epoch that no process knew of"
        )
        assert _without_epoch(after.meta) == _without_epoch(self.seen.meta), "a question changed what is stored"
        self.check_lease(ask, reply)
        if reply.grant is None:
            assert not self.overdue(ask, reply), "a leader is granted what is due"
        else:
            self.check_grant(ask, reply, reply.grant, after)
        if ask.idle:
            self.ended(ask.me, ask.last_grant)
        self.check_reply(ask, reply, after)
        self.check_repair(ask, reply, after)
        assert reply.granted_at == after.granted_at
        assert reply.backoff_status == after.backoff_status
        assert reply.backoff_left == max(0, self.backoff_until - reply.clock)
        self.look(after)

    def published(self, me: str, envelope: Envelope, *, fresh: bool, result: Published, after: Snapshot) -> None:
        """A worker brought definitions."""
        before, meta, latest = self.seen, envelope.meta, self.latest
        answers = fresh and latest is not None and latest.holder == me and latest.grant.as_of == meta.as_of
        order = Order(before.epoch, meta.as_of) if answers else meta.order
        newer = before.epoch <= order.epoch and (before.meta is None or before.meta.order < order)
        same = before.meta is not None and before.meta.version == meta.version
        held = not newer and same and order.epoch == before.epoch
        assert (result is Published.STALE) == (not newer and not held), "newer wins"
        late = newer and fresh and before.meta is not None and self.may_be_replaced(meta.as_of)
        assert (result is Published.UNSETTLED) == late, "no writer is late"
        if result in (Published.STALE, Published.UNSETTLED):
            self.kept(after)
            return self.look(after)
        assert (result is Published.CONFIRMED) == same
        if held and before.meta is not None:
            self.kept(after, "lease", *(["content"] if order == before.meta.order else []))
            expected = before.meta
            if order == before.meta.order:  # the same content once more, perhaps under another key
                etag = meta.etag or before.meta.etag
                expected = before.meta._replace(etag=etag, writer=meta.writer, project=meta.project, stamp=meta.stamp)
                self.payload = envelope.payload
            assert after.meta == expected, "what is as old or older moves nothing"
            return self.look(after)
        self.kept(after, "content", "epoch", "note")
        changed_at = before.meta.changed_at if same and before.meta else meta.changed_at
        assert after.meta == meta._replace(epoch=order.epoch, changed_at=changed_at)
        self.payload = envelope.payload
        self.succeeded(me, meta.as_of if fresh else 0, after)
        return self.look(after)

    def may_be_replaced(self, as_of: int) -> bool:
        """Whether a later grant went to a worker that does not report, and is not known to have failed."""
        return any(g.grant.as_of > as_of and not (g.reports or g.failed) for g in self.given)

    def confirmed(self, me: str, version: str, grant: Grant, *, result: bool, after: Snapshot) -> None:
        """The vendor told a worker that nothing changed."""
        stored = self.seen.meta
        assert result == (stored is not None and stored.version == version), "only what is stored is confirmed"
        if stored is None or not result:
            self.kept(after)
            return self.look(after)
        self.kept(after, "content", "note")
        if grant.as_of > stored.as_of:
            stored = stored._replace(as_of=grant.as_of, confirmed_at=grant.at, stamp="")
        assert after.meta == stored, "a confirmation moves the age to its grant's time, and nothing else"
        self.succeeded(me, grant.as_of, after)
        return self.look(after)

    def discarded(self, version: str, *, result: bool, after: Snapshot) -> None:
        """A worker could not read what is stored."""
        assert result == (self.seen.meta is not None and self.seen.meta.version == version)
        self.kept(after, *(["content"] if result else []))
        assert not result or after.meta is None
        if result:
            self.asked = 0
            self.hurried(after)
        self.look(after)

    def hurried(self, after: Snapshot) -> None:
        """The store was emptied: the lease lasts a little longer, unless it is renewed."""
        earliest, latest = self.until
        self.until = min(earliest, self.seen.clock + GRACE), min(latest, after.clock + GRACE)

    def failed(self, me: str, grant: Grant, scope: Scope, *, result: bool, after: Snapshot) -> None:
        """A worker's fetch failed."""
        latest = self.latest
        assert result == (latest is not None and (latest.holder, latest.grant.as_of) == (me, grant.as_of))
        self.kept(after, *(["note", "lease"] if result else []))
        if latest is not None and result:
            latest.open, latest.failed = False, True
            if scope is Scope.EVERYBODY:
                assert after.backoff_status > 0
                self.backoff_until = after.clock + after.backoff_left
            elif self.leader == me:
                self.leader = ""
        self.look(after)

    def renewed(self, me: str, lease: int, *, result: bool, after: Snapshot) -> None:
        """A worker keeps the lease."""
        self.check_is_leader(me, after, accepted=result)
        self.kept(after)
        if result:
            self.until = (self.seen.clock + lease, after.clock + lease)
        self.look(after)

    def released(self, me: str, *, idle: bool, result: bool, after: Snapshot) -> None:
        """A worker gives up the lease."""
        self.check_is_leader(me, after, accepted=result)
        self.kept(after, *(["lease"] if result else []))
        self.leader = "" if result else self.leader
        if idle and self.latest:
            self.ended(me, self.latest.grant.as_of)
        self.look(after)

    def extended(self, me: str, lease: int, after: Snapshot) -> None:
        """A worker that published or confirmed keeps its lease."""
        if me == self.leader == after.leader:
            self.until = (self.seen.clock + lease, after.clock + lease)

    def emptied(self, epoch: int, after: Snapshot) -> None:
        """People cleared the store."""
        assert epoch == after.epoch == self.seen.epoch + 1
        assert (after.meta, after.granted_at, after.grant_holder, after.backoff_status) == (None, 0, "", 0)
        self.kept(after, "content", "epoch", "grants", "note")
        self.given, self.backoff_until, self.asked = [], 0, 0
        self.cleared = self.highest
        self.hurried(after)
        self.look(after)

    def lost(self, after: Snapshot) -> None:
        """The server was flushed."""
        assert after == Snapshot(after.clock, 0, None, 0, "", 0, 0, "", 0, 0)
        self.given, self.backoff_until, self.asked, self.leader = [], 0, 0, ""
        self.highest = self.cleared = 0
        self.look(after)

    def damaged(self, after: Snapshot) -> None:
        """An attacker damaged a field of the definitions: they count as absent."""
        assert after.meta is None
        self.kept(after, "content")
        self.look(after)


def _without_epoch(meta: Meta | None) -> Meta | None:
    return meta and meta._replace(epoch=0)
