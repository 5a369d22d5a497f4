"""Which times and notes of a store a process believes.

A process with a key believes only signed times and notes. So a program that can write to the store, but has no key, can
make definitions look older, never younger. Definitions without a signed time are of unknown age, and a process takes
them only if it holds nothing better. Workers of a release without stamps publish such definitions too. A worker with a
key that finds them asks for a turn at once, so that a worker that signs soon leads.

A process without a key believes a note for as long as a worker's note can last.
"""

from __future__ import annotations

import math

from flagcache.core import knowledge as election
from flagcache.core import order
from flagcache.core.notes import longest_note
from flagcache.settings import milliseconds
from flagcache.stores.base import Ask, Meta, Reply
from flagcache.worker.config import Plan
from flagcache.worker.state import Ledger

__all__ = ["Trust"]

_INTERVALS = 5
"""Refresh intervals for which a signed note is believed after its time is over: in an outage each fetch renews it."""


class Trust:
    """The beliefs of one process.

    Args:
        plan: what all processes of the cache have in common.
        ledger: what this process knows.
    """

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger
        self._unproved: dict[str, bool] = {}
        """Whether the latest times of each store had no signature."""
        self._granted: dict[str, float] = {}
        """Own clock when each store last granted this process a fetch."""
        self._sound: dict[str, float] = {}
        """Own clock when each store was last known to coordinate a fleet: it returned a grant or signed times, or the
        reason why there were none."""
        self._heard: dict[str, float] = {}
        """Own clock when each store last answered."""
        self._noted: dict[str, float] = {}
        """Own clock since when each store has had a note that lasts longer than a worker's note can."""
        self._epoch = 0
        """The highest epoch that this process has seen with a signature."""
        self._epoch_stamp = 0, ""
        """An epoch and its stamp, as last made here. Epoch 0, the first, has none."""
        self._doubted: dict[str, int] = {}
        """The epoch of each store that has one without a signature."""
        self._disbelieves: set[str] = set()
        """The stores whose note is not believed, or no longer."""
        self._passed_over: dict[str, str] = {}
        """The version that each store sent and this process did not take, because it holds a newer one."""

    def asks(self, ask: Ask, home: str) -> Ask:
        """Return the poll of this store; it asks for a turn if the store's times are unsigned."""
        if self._plan.codec.stamps.signs:
            ask = self._with_epoch(ask, home)
        if home in self._disbelieves:
            ask = ask._replace(disbelieves=True)
        if home in self._passed_over:
            ask = ask._replace(held_version=self._passed_over[home])
        if not self._asks_for_turn(home):
            return ask
        return ask._replace(interval=ask.interval // 10, challenge=min(ask.challenge, ask.interval // 2))

    def _with_epoch(self, ask: Ask, home: str) -> Ask:
        """Add the stamp of the held epoch, and the store's epoch if that is unsigned."""
        ask = ask._replace(signs=True)
        if ask.held is None or self._ledger.know.contact(home).foreign:
            return ask
        if self._epoch_stamp[0] != ask.held.epoch:
            self._epoch_stamp = ask.held.epoch, self._plan.codec.stamps.of_epoch(ask.held.epoch)
        return ask._replace(epoch_stamp=self._epoch_stamp[1], doubted_epoch=self._doubted.get(home, 0))

    def _asks_for_turn(self, home: str) -> bool:
        """Whether to take a turn before the leader counts as silent; at most once an interval."""
        know = self._ledger.know
        if not self._unproved.get(home) or know.held is None or know.contact(home).leads:
            return False
        return self._plan.clock() - self._granted.get(home, -math.inf) >= self._plan.settings.refresh_interval

    def hears(self, home: str, reply: Reply) -> Reply:
        """Return the reply without a note or failed tries that this process doesn't believe."""
        signs = self._plan.codec.stamps.signs
        if signs:
            reply = self._hear_epoch(home, reply)
            reply = reply._replace(exhausted=reply.exhausted and self._failed_lately(reply))
            self._note_proof(home, reply)
        if reply.grant is not None:
            self._noted.pop(home, None)
        if not reply.note_status and not reply.note_left:
            self._disbelieves.discard(home)
            self._noted.pop(home, None)
            return reply
        believed = self._signed_note(home, reply) if signs else self._plain_note(home, reply)
        over = believed is None or (signs and not believed.note_left)
        (self._disbelieves.add if over else self._disbelieves.discard)(home)
        return reply._replace(note_status=0, note_left=0) if believed is None else believed

    def _note_proof(self, home: str, reply: Reply) -> None:
        """Note what this reply proves about the store: that it grants, or still has what this process holds."""
        now, held = self._plan.clock(), self._ledger.know.held
        self._pass_silence(home, now)
        if reply.grant is not None:
            self._granted[home] = self._sound[home] = now
        if reply.unchanged and held is not None:  # what this process holds, it may have put there since
            self._unproved[home] = held.unproved

    def _pass_silence(self, home: str, now: float) -> None:
        """Leave out the time in which the store did not answer: it could prove nothing then."""
        silence = now - self._heard.get(home, now) - max(self._plan.settings.refresh_interval, self._plan.polls_every)
        self._sound[home] = min(now, self._sound.get(home, now) + max(0.0, silence))
        self._heard[home] = now

    @property
    def _known_epoch(self) -> int:
        held = self._ledger.know.held
        return max(self._epoch, held.meta.epoch if held is not None else 0)

    def _hear_epoch(self, home: str, reply: Reply) -> Reply:
        """Accept the store's epoch if it is signed; a grant has the known epoch."""
        if reply.epoch > self._known_epoch and self._plan.codec.stamps.proves_epoch(reply.epoch, reply.epoch_stamp):
            self._epoch = reply.epoch
        known = self._known_epoch
        if reply.epoch > known:
            self._doubted[home] = reply.epoch
        else:
            self._doubted.pop(home, None)
        if reply.grant is None or reply.grant.epoch <= known:
            return reply
        return reply._replace(grant=reply.grant._replace(epoch=known))

    def believed(self, home: str, meta: Meta, clock: int) -> Meta:
        """Return these metadata with the signed times; without a stamp if nothing valid is signed."""
        stamps = self._plan.codec.stamps
        if not stamps.signs:
            return meta
        signed, known = self._plan.codec.believed(meta), self._known_epoch
        if signed.stamp and signed.epoch < known:  # people have cleared it since
            signed = signed._replace(stamp="")
        elif signed.stamp:
            self._epoch = known = signed.epoch
        self._unproved[home] = not signed.stamp or signed._replace(epoch=meta.epoch) != meta
        signed = signed._replace(epoch=min(known, max(meta.epoch, signed.epoch if signed.stamp else 0)))
        if signed.stamp and (at := order.granted_at(signed, clock)):
            self._prove(home, self._plan.clock() - (clock - at) / 1000)
        return signed

    def leaves_aside(self, home: str, reply: Reply) -> bool:
        """Whether to go on without this store: it grants nothing, and has returned no signed time for long.

        A fleet whose fetches fail shows that: by a signed note, by the signed failure of the latest try, or because
        this process failed a moment ago. A process whose SDK fetches doesn't learn the
        result, so it leaves no store aside.
        """
        know, clients = self._ledger.know, self._plan.clients
        if not know.signs or self._plan.settings.reads_only or clients.fetcher() is None or reply.grant is not None:
            return False
        now, held = self._plan.clock(), know.held
        if reply.note_status:
            self._prove(home, now)
        elif reply.exhausted:
            self._prove(home, min(now, self._tried_at(reply) + self._plan.settings.backoff_ceiling))
        if know.failures:
            self._prove(home, min(now, max(know.failed_at, know.stay_out_until)))
        if held is not None and held.home == home and not held.unproved:
            self._prove(home, held.born)
        longest = self._plan.stale_after
        if held is None:  # the first fetch of all may be under way
            longest = max(longest, self._plan.settings.fetch_total_timeout)
        return now - self._sound[home] > longest

    def _failed_lately(self, reply: Reply) -> bool:
        """Whether a fetch failed, by signature, so lately that no try may be left in this interval."""
        settings = self._plan.settings
        longest = settings.refresh_interval + settings.backoff_ceiling + settings.fetch_total_timeout
        return self._plan.clock() - self._tried_at(reply) <= longest

    def _tried_at(self, reply: Reply) -> float:
        """Own clock when the latest fetch was granted that failed by signature."""
        tried = self._plan.codec.stamps.note(reply.note_stamp)
        if tried is None or tried.at > reply.clock:
            return -math.inf
        return self._plan.clock() - (reply.clock - tried.at) / 1000

    def _prove(self, home: str, at: float) -> None:
        self._sound[home] = max(at, self._sound.get(home, at))

    def passed_over(self, home: str, version: str) -> None:
        """Note that this version was sent and not adopted, so that it isn't sent again."""
        if self._plan.codec.stamps.signs:
            self._passed_over[home] = version

    def wants(self, home: str, meta: Meta, clock: int) -> bool:
        """Whether a version that was passed over is newer than what is held by now, so that it must be sent again."""
        passed, held = self._passed_over.get(home), self._ledger.know.held
        if passed is None or held is None:
            return False
        if passed == meta.version:
            found = election.told(home, meta, held.definitions, clock, self._plan.clock(), signs=True)
            if not order.is_newer_by_signature(found, held, clock):
                return False
        del self._passed_over[home]
        return passed == meta.version

    def _signed_note(self, home: str, reply: Reply) -> Reply | None:
        """Return the note with its signed length; None if it has no signature, or a later fetch succeeded."""
        signed = self._plan.codec.stamps.note(reply.note_stamp)
        if signed is None or not signed.status or signed.status != reply.note_status or signed.at > reply.clock:
            return None
        if signed.at < self._confirmed_at(home, reply):
            return None
        settings = self._plan.settings
        left = signed.at + signed.length + milliseconds(settings.fetch_total_timeout) - reply.clock
        if left < -_INTERVALS * milliseconds(settings.refresh_interval):
            return None
        # The script returns no time left to a worker that ignores the note.
        stored = left if home in self._disbelieves else reply.note_left
        return reply._replace(note_left=max(0, min(left, stored)))

    def _confirmed_at(self, home: str, reply: Reply) -> int:
        """The store's clock when the latest fetch succeeded that this process knows of by signature."""
        held = self._ledger.know.held
        known = held.meta.confirmed_at if held is not None and held.home == home and not held.unproved else 0
        stored = self._plan.codec.believed(reply.meta) if reply.meta is not None else None
        signed = stored.confirmed_at if stored is not None and stored.stamp else 0
        return max((at for at in (known, signed) if at <= reply.clock), default=0)

    def _plain_note(self, home: str, reply: Reply) -> Reply | None:
        """The note, unless it has lasted longer than any note that a worker writes."""
        now, longest = self._plan.clock(), longest_note(self._plan.settings)
        if reply.note_left > milliseconds(longest):
            self._noted.setdefault(home, now)
        since = self._noted.get(home)
        return None if since is not None and now - since > longest else reply
