"""The record of a store, and the facts that must hold for it: `tests.stores.store_model` checks them."""

from __future__ import annotations

from dataclasses import dataclass, field

from flagcache.stores.base import REFRESHER, Ask, Grant, Reply, Snapshot

REPUBLISH_EVERY = 1000
"""Milliseconds between two workers who are asked to repair the store."""

GRACE = 2000
"""Milliseconds for which a fetch that is due is left to the leader."""

NEVER = 10**9
"""A challenge time (ms) that no machine lasts."""


@dataclass
class GrantRecord:
    """A grant, and what became of it."""

    holder: str
    grant: Grant
    open: bool = True
    failed: bool = False
    reports: bool = False
    """Its holder reports each answer."""


@dataclass
class NamespaceRecord:
    """The observations of one namespace."""

    seen: Snapshot
    tolerance: int
    """Milliseconds by which a lease may end earlier or later than it was promised."""
    payload: bytes = b""
    """The payload of the stored version."""
    leader: str = ""
    until: tuple[int, int] = (0, 0)
    """Until when its lease lasts: at least, and at most."""
    given: list[GrantRecord] = field(default_factory=list[GrantRecord])
    """All grants since the store was last emptied."""
    granted_at: set[int] = field(default_factory=set[int])
    """When a fetch was ever granted."""
    highest: int = 0
    """The highest place in the order that was granted or stored."""
    cleared: int = 0
    """The highest place of before people last cleared the store: none up to it is ever stored again."""
    backoff_until: int = 0
    asked: int = 0
    """When a worker was last asked to repair the store."""

    def look(self, after: Snapshot) -> None:
        """Check what holds at all times, and remember it."""
        before, self.seen = self.seen, after
        assert after.clock >= before.clock, "its clock lies"
        if after.clock < self.until[0] - self.tolerance:
            assert after.leader == self.leader, "a lease lasts as long as was promised"
        elif after.clock > self.until[1] + self.tolerance:
            assert not after.leader, "a lease ends"
        assert after.leader in ("", self.leader)
        assert not after.leader or after.lease_left <= self.until[1] + self.tolerance - after.clock
        if (latest := self.latest) is not None:
            assert (after.grant_holder, after.granted_at) == (latest.holder, latest.grant.at)
        if after.meta is None:
            assert after.payload_size == 0
            return
        self.highest = max(self.highest, after.meta.as_of)
        assert after.payload_size == len(self.payload)
        assert after.meta.epoch == after.epoch
        assert after.meta.as_of > self.cleared, "what was cleared stays away"
        assert after.meta.confirmed_at in self.granted_at, "nothing is confirmed but by a fetch"
        if before.meta is not None:
            assert after.meta.order >= before.meta.order, "what is stored goes backwards"

    @property
    def latest(self) -> GrantRecord | None:
        """The latest grant."""
        return self.given[-1] if self.given else None

    def kept(self, after: Snapshot, *changed: str) -> None:
        """All but these is as it was; a lease may end at any time (and `look` knows when)."""
        then, now = _subjects(self.seen), _subjects(after)
        for name in then.keys() - changed:
            assert now[name] == then[name] or (name == "lease" and not after.leader), f"{name} changed"

    def check_is_leader(self, me: str, after: Snapshot, *, accepted: bool) -> None:
        """A worker that asks for what only the leader may do is refused, and the leader isn't."""
        if self.leader != me or after.clock > self.until[1] + self.tolerance:
            assert not accepted, "it leads no more"
        elif after.clock < self.until[0] - self.tolerance:
            assert accepted, "it leads"

    def check_lease(self, ask: Ask, reply: Reply) -> None:
        """At most one leads, and another only after it."""
        earliest, latest = self.until[0] - self.tolerance, self.until[1] + self.tolerance
        if not reply.leads:
            assert not (self.leader == ask.me and reply.clock < earliest), "a lease lasts as long as was promised"
            assert not ask.may_lead or (self.leader and reply.clock < latest), "a free lease is taken"
            assert not ask.may_lead or reply.lease_left > 0
            assert not (ask.may_lead and self.goes_before(ask.me, self.leader)), "a refresher goes before a worker"
            return
        if self.leader not in ("", ask.me) and reply.clock < earliest:
            displaced = self.goes_before(ask.me, self.leader) or self.may_challenge(ask, reply)
            assert displaced or self.neglected(ask, reply) or self.unused(ask, reply), "two lead"
        if not ask.may_lead:
            assert self.leader == ask.me
            return
        length = ask.lease if self.seen.meta else ask.cold_lease
        assert abs(reply.lease_left - length) <= self.tolerance
        self.leader, self.until = ask.me, (reply.clock + length, reply.clock + length)

    def goes_before(self, me: str, other: str) -> bool:
        """A refresher takes the lease of a worker, unless that one makes the first fetch."""
        latest = self.latest
        first_fetch = self.seen.meta is None and latest is not None and latest.open
        return not first_fetch and is_refresher(me) and not is_refresher(other)

    def may_challenge(self, ask: Ask, reply: Reply) -> bool:
        """The leader has confirmed nothing for `challenge`, and the latest grant is due and went to another worker."""
        if self.seen.meta is None or reply.clock - self.seen.meta.confirmed_at < ask.challenge:
            return False
        latest = self.latest
        return latest is None or (latest.holder != ask.me and reply.clock - latest.grant.at >= ask.interval * 9 // 10)

    def neglected(self, ask: Ask, reply: Reply) -> bool:
        """What was due has not been granted for two seconds, and the asker acts between its polls."""
        latest = self.latest
        if not ask.listens or self.seen.meta is None or reply.clock < self.backoff_until + GRACE:
            return False
        return latest is None or reply.clock - latest.grant.at >= ask.interval + GRACE

    def unused(self, ask: Ask, reply: Reply) -> bool:
        """The store is empty, and what was due has not been granted for longer than any lease of the asker lasts."""
        if self.seen.meta is not None or reply.clock < self.backoff_until:
            return False
        latest = self.latest
        return latest is None or reply.clock - latest.grant.at >= ask.interval + max(ask.lease, ask.cold_lease)

    def check_grant(self, ask: Ask, reply: Reply, grant: Grant, after: Snapshot) -> None:
        """A grant is the outstanding one again, or a new one, above all others and not too early."""
        assert reply.leads
        assert ask.may_lead
        assert reply.clock >= self.backoff_until, "while the note stands no worker fetches"
        assert grant.epoch == after.epoch
        latest = self.latest
        if latest is not None and grant[1:] == latest.grant[1:]:
            assert latest.holder == ask.me, "a grant is given to one alone"
            assert latest.open
            assert ask.last_grant < grant.as_of, "a grant that came is not given again"
            return
        assert grant.at == reply.clock
        held = ask.held.as_of if ask.held and ask.held.as_of <= reply.clock else 0
        assert grant.as_of >= max(reply.clock, self.highest + 1, ask.last_grant + 1, held + 1)
        soon = ask.interval * 9 // 10
        if 0 <= ask.grant_age < soon or (latest is not None and grant.at - latest.grant.at < soon):
            displaced = latest is not None and is_refresher(ask.me) and not is_refresher(latest.holder)
            died = latest is not None and latest.open and latest.holder != ask.me and not displaced
            failed = latest is not None and latest.failed
            assert failed or died or self.seen.meta is None, "too early"
        assert len(self.given) < 3 or grant.at - self.given[-3].grant.at >= soon, "three an interval"
        self.given.append(GrantRecord(ask.me, grant, reports=ask.reports))
        self.granted_at.add(grant.at)
        self.highest = max(self.highest, grant.as_of)

    def overdue(self, ask: Ask, reply: Reply) -> bool:
        """Whether a grant should have come, to be sure."""
        if not (reply.leads and ask.may_lead and reply.clock >= self.backoff_until):
            return False
        latest = self.latest
        if latest is not None and latest.open and latest.holder == ask.me and ask.last_grant < latest.grant.as_of:
            return True  # its reply was lost
        if ask.challenge < NEVER or 0 <= ask.grant_age < ask.interval:
            return False
        wait = ask.backoff if any(given.failed for given in self.given) else ask.interval * 9 // 10
        return latest is None or reply.clock - latest.grant.at >= wait

    def check_reply(self, ask: Ask, reply: Reply, after: Snapshot) -> None:
        """An unchanged poll carries nothing; newer definitions come once, whole, with all that is known of them."""
        stored, held = after.meta, ask.held
        same = stored is not None and (held, ask.held_version) == (stored.order, stored.version)
        assert reply.unchanged == same
        if reply.unchanged:
            assert (reply.meta, reply.payload) == (None, None)
            return
        assert reply.meta == stored
        if stored is None:
            assert reply.payload is None
        elif stored.version == ask.held_version:
            assert reply.payload is None, "what is held already is not sent"
        elif held is None or held.as_of <= reply.clock:
            assert (reply.payload is not None) == (held is None or stored.order >= held), "newer is sent, older is not"
        assert reply.payload in (None, self.payload), "the payload is not that of its version"

    def check_repair(self, ask: Ask, reply: Reply, after: Snapshot) -> None:
        """One a second is asked, of those who hold newer in the store's epoch."""
        stored, held = after.meta, ask.held
        rested = not self.asked or reply.clock - self.asked >= REPUBLISH_EVERY
        if held is None or held.epoch < after.epoch or reply.unchanged:
            assert not reply.republish
        elif held.as_of <= reply.clock:
            assert reply.republish == (rested and (stored is None or stored.order < held))
        if reply.republish:
            assert rested, "one a second is asked"
            self.asked = reply.clock

    def ended(self, me: str, as_of: int) -> None:
        """A fetch came back, whatever it brought."""
        latest = self.latest
        if latest is not None and (latest.holder, latest.grant.as_of) == (me, as_of):
            latest.open = False

    def succeeded(self, me: str, as_of: int, after: Snapshot) -> None:
        """The fetch of this grant succeeded; a note ends with it, if none was granted since."""
        latest = self.latest
        if latest is not None and (latest.holder, latest.grant.as_of) == (me, as_of):
            latest.open = latest.failed = False
        if as_of and (latest is None or as_of >= latest.grant.as_of):
            assert after.backoff_status == 0, "a success ends the note"
            self.backoff_until = 0
        else:
            assert after.backoff_status == self.seen.backoff_status


def is_refresher(name: str) -> bool:
    """Whether this is one, and no worker."""
    return name.startswith(REFRESHER)


def _subjects(seen: Snapshot) -> dict[str, object]:
    """What may change, and what of a snapshot shows it."""
    return {
        "content": (seen.meta, seen.payload_size),
        "epoch": seen.epoch,
        "grants": (seen.granted_at, seen.grant_holder),
        "note": seen.backoff_status,
        "lease": seen.leader,
    }
