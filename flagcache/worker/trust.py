"""Which times and notes of a store a process believes.

A process with a key believes only signed times and notes. So a program that can write to the store, but has no key, can
make definitions look older, never younger. Definitions without a signed time are of unknown age, and a process takes
them only if it holds nothing better. Workers of a release without stamps publish such definitions too. A worker with a
key that finds them asks for a turn at once, so that soon a worker that signs leads.

A process without a key believes a note for as long as a worker's note can last.
"""

from __future__ import annotations

import math
from collections import defaultdict

from flagcache.core import knowledge, order
from flagcache.core.notes import longest_backoff
from flagcache.settings import milliseconds
from flagcache.stores.base import Ask, Meta, Reply
from flagcache.worker.config import CacheConfig
from flagcache.worker.state import ProcessState

__all__ = ["Trust"]

_INTERVALS = 5
"""Refresh intervals for which a signed note is believed after its time is over: in an outage each failed fetch renews
it."""

_LATE, _URGENT = 0.5, 0.75
"""Shares of `stale_after` without a signed time: after the first a process asks for a turn, after the second it takes
one as soon as it can."""


class _Store:
    """What this process believes of one store, and why. All times are of its own clock."""

    unproved: bool = False
    """The latest times had no signature."""
    granted_at: float = -math.inf
    """When it last granted this process a fetch."""
    sound_at: float = 0.0
    """When it was last known to coordinate a fleet: it returned a grant or signed times, or the reason why there were
    none."""
    replied_at: float | None = None
    """When it last answered."""
    long_backoff_since: float | None = None
    """Since when it has had a note that is longer than a worker's note can be."""
    unsigned_epoch: tuple[int, str] = 0, ""
    """Its epoch, if that has no valid signature, and what is stored as the signature."""
    ignores_backoff: bool = False
    """Its note is not believed, or not any more."""
    not_adopted: str = ""
    """The version that it sent and this process did not take, because it holds a newer one."""
    named: str = ""
    """The version that the latest poll said to be held."""
    withheld: bool = False
    """By signature its definitions are newer, but it sent none, because by its unsigned order they are older."""


class Trust:
    """The trust of one process: one object for all stores, because an epoch proved by one store holds for all.

    Args:
        config: what all processes of the cache have in common.
        state: what this process knows.
    """

    def __init__(self, config: CacheConfig, state: ProcessState) -> None:
        self._config = config
        self._state = state
        self._signs = config.codec.stamps.signs
        """This process has a key."""
        self._stores: defaultdict[str, _Store] = defaultdict(_Store)
        """By the store's name."""
        self._epoch = 0
        """The highest epoch that this process has seen with a signature."""
        self._epoch_stamp = 0, ""
        """The latest epoch signed here, and its stamp. Epoch 0, the first, has none."""

    def adjust_poll(self, ask: Ask, store_name: str) -> Ask:
        """Return the poll of this store. It asks for a turn if the store's times are unsigned or grow old."""
        store = self._stores[store_name]
        if self._signs:
            ask = self._with_epoch(ask, store_name)
        if store.ignores_backoff:
            ask = ask._replace(ignores_backoff=True)
        if store.not_adopted:
            ask = ask._replace(held_version=store.not_adopted)
        if store.withheld:
            ask = ask._replace(held=None, held_version="")
        store.named, store.withheld = ask.held_version, False
        if not self._signs or not self._asks_for_turn(store_name):
            return ask
        # A process that polls soon after each fetch would never find one due, and each new leader gets half an
        # interval. So an urgent process waits a tenth of it, which is enough for the fetch of another process that took
        # this turn.
        urgent = self._is_late(store, _URGENT)
        turn, due = (ask.interval // 10, 1) if urgent else (ask.interval // 2, ask.interval // 10)
        return ask._replace(interval=due, challenge=min(ask.challenge, turn))

    def _with_epoch(self, ask: Ask, store_name: str) -> Ask:
        """Add the stamp of the held epoch, and the store's epoch if that is unsigned."""
        ask = ask._replace(has_key=True)
        if ask.held is None or self._state.know.view(store_name).foreign:
            return ask
        if self._epoch_stamp[0] != ask.held.epoch:
            self._epoch_stamp = ask.held.epoch, self._config.codec.stamps.of_epoch(ask.held.epoch)
        epoch, stamp = self._stores[store_name].unsigned_epoch
        return ask._replace(epoch_stamp=self._epoch_stamp[1], unsigned_epoch=epoch, doubted_stamp=stamp)

    def _asks_for_turn(self, store_name: str) -> bool:
        """Whether to take a turn before the leader counts as silent; takes at most one an interval."""
        know, store = self._state.know, self._stores[store_name]
        if know.held is None or know.view(store_name).leads or not (store.unproved or self._is_late(store)):
            return False
        return self._config.clock() - store.granted_at >= self._config.settings.refresh_interval

    def _is_late(self, store: _Store, share: float = _LATE) -> bool:
        """Whether the store's latest signed time was old when it last answered: a share of `stale_after`.

        Without an attack this happens if the leader's SDK fetches, because the leader can't sign then that nothing has
        changed.
        """
        age = 0.0 if store.replied_at is None else store.replied_at - store.sound_at
        return self._may_distrust and age > share * self._config.stale_after

    @property
    def _may_distrust(self) -> bool:
        """Whether this process could fetch and sign itself if a store proves nothing."""
        reads_only = self._config.settings.reads_only
        return self._state.know.signs and not reads_only and self._config.clients.can_fetch

    def on_reply(self, store_name: str, reply: Reply) -> Reply:
        """Return the reply without the note and the failed tries that this process doesn't believe."""
        store, signs = self._stores[store_name], self._signs
        if signs:
            reply = self._take_epoch(store, reply)
            reply = reply._replace(exhausted=reply.exhausted and self._failed_lately(reply))
            self._note_proof(store, reply)
        if reply.grant is not None:
            store.long_backoff_since = None
        if not reply.backoff_status and not reply.backoff_left:
            store.ignores_backoff, store.long_backoff_since = False, None
            return reply
        believed = self._signed_note(store_name, reply) if signs else self._plain_note(store, reply)
        store.ignores_backoff = believed is None or (signs and not believed.backoff_left)
        return reply._replace(backoff_status=0, backoff_left=0) if believed is None else believed

    def _note_proof(self, store: _Store, reply: Reply) -> None:
        """Note what this reply proves about the store: that it grants, or still has what this process holds."""
        now, held = self._config.clock(), self._state.know.held
        self._skip_silence(store, now)
        if reply.grant is not None:
            store.granted_at = store.sound_at = now
        if reply.unchanged and held is not None:  # the store has what is held, with its proof
            store.unproved = held.unproved

    def _skip_silence(self, store: _Store, now: float) -> None:
        """Don't count the time in which the store did not answer, because it could prove nothing then."""
        expected = max(self._config.settings.refresh_interval, self._config.polls_every)
        silence = math.inf if store.replied_at is None else max(0.0, now - store.replied_at - expected)
        store.sound_at, store.replied_at = min(now, store.sound_at + silence), now

    @property
    def _known_epoch(self) -> int:
        held = self._state.know.held
        return max(self._epoch, held.meta.epoch if held is not None else 0)

    def _take_epoch(self, store: _Store, reply: Reply) -> Reply:
        """Accept the store's epoch if it is signed, and limit a grant's epoch to the known one."""
        if reply.epoch > self._known_epoch and self._config.codec.stamps.proves_epoch(reply.epoch, reply.epoch_stamp):
            self._epoch = reply.epoch
        known = self._known_epoch
        store.unsigned_epoch = (reply.epoch, reply.epoch_stamp) if reply.epoch > known else (0, "")
        if reply.grant is None or reply.grant.epoch <= known:
            return reply
        return reply._replace(grant=reply.grant._replace(epoch=known))

    def believed(self, store_name: str, meta: Meta, clock: int) -> Meta:
        """Return these metadata with the signed times; without a stamp if nothing valid is signed."""
        stamps = self._config.codec.stamps
        if not stamps.signs:
            return meta
        signed, known = self._config.codec.believed(meta), self._known_epoch
        if signed.stamp and signed.epoch < known:  # the store was cleared since
            signed = signed._replace(stamp="")
        elif signed.stamp:
            self._epoch = known = signed.epoch
        store = self._stores[store_name]
        store.unproved = not signed.stamp or signed._replace(epoch=meta.epoch) != meta
        signed = signed._replace(epoch=min(known, max(meta.epoch, signed.epoch if signed.stamp else 0)))
        if signed.stamp and (at := order.granted_at(signed, clock)):
            _prove(store, self._config.clock() - (clock - at) / 1000)
        return signed

    def distrusts(self, store_name: str, reply: Reply) -> bool:
        """Whether to continue without this store: it grants nothing, and has returned no signed time for long.

        A fleet whose fetches fail shows that: by a signed note, by the signed failure of the latest try, or because
        this process failed a moment ago. A process whose SDK fetches doesn't know the result, so it distrusts no store.
        """
        if not self._signs or not self._may_distrust or reply.grant is not None:
            return False
        know, now, store = self._state.know, self._config.clock(), self._stores[store_name]
        held = know.held
        if reply.backoff_status:
            _prove(store, now)
        elif reply.exhausted:
            _prove(store, min(now, self._tried_at(reply) + self._config.settings.backoff_ceiling))
        if know.failures:
            _prove(store, min(now, max(know.failed_at, know.stay_out_until)))
        if held is not None and held.store_name == store_name and not held.unproved:
            _prove(store, held.born)
        longest = max(self._config.stale_after, 2 * self._config.polls_every)  # time to ask for a turn
        if held is None:  # the first fetch of all may be under way
            longest = max(longest, self._config.settings.fetch_total_timeout)
        return now - store.sound_at > longest

    def _failed_lately(self, reply: Reply) -> bool:
        """Whether a signed failure is so recent that this interval may have no try left."""
        settings = self._config.settings
        longest = settings.refresh_interval + settings.backoff_ceiling + settings.fetch_total_timeout
        return self._config.clock() - self._tried_at(reply) <= longest

    def _tried_at(self, reply: Reply) -> float:
        """Own clock at the grant of the fetch that has the latest signed failure."""
        tried = self._config.codec.stamps.backoff(reply.backoff_stamp)
        if tried is None or tried.at > reply.clock:
            return -math.inf
        return self._config.clock() - (reply.clock - tried.at) / 1000

    def note_not_adopted(self, store_name: str, version: str) -> None:
        """Note that this version was sent and not adopted, so that it isn't sent again."""
        if self._config.codec.stamps.signs:
            self._stores[store_name].not_adopted = version

    def wants(self, store_name: str, meta: Meta, clock: int, *, sent: bool) -> bool:
        """Whether a version that was not sent is newer by signature than what is held, so that it must be sent.

        This process did not adopt it before, or another program has changed the store's order, which makes it older.
        """
        store, held = self._stores[store_name], self._state.know.held
        if held is None or not (store.not_adopted or store.unproved):
            return False
        found = knowledge.from_store(store_name, meta, held.definitions, clock, self._config.clock(), signs=True)
        newer = order.is_newer_by_signature(found, held, clock)
        if store.not_adopted == meta.version != held.meta.version and not newer:
            return False
        passed, store.not_adopted = store.not_adopted, ""
        if sent or meta.version == held.meta.version:
            return False
        store.withheld = not passed and bool(meta.stamp) and newer and meta.version != store.named
        return store.withheld or passed == meta.version

    def _signed_note(self, store_name: str, reply: Reply) -> Reply | None:
        """Return the note with its signed length; None if it has no signature, or a later fetch succeeded."""
        signed = self._config.codec.stamps.backoff(reply.backoff_stamp)
        if signed is None or not signed.status or signed.status != reply.backoff_status or signed.at > reply.clock:
            return None
        if signed.at < self._confirmed_at(store_name, reply):
            return None
        settings = self._config.settings
        left = signed.at + signed.length + milliseconds(settings.fetch_total_timeout) - reply.clock
        if left < -_INTERVALS * milliseconds(settings.refresh_interval):
            return None
        # The script returns no time left to a worker that ignores the note.
        stored = left if self._stores[store_name].ignores_backoff else reply.backoff_left
        return reply._replace(backoff_left=max(0, min(left, stored)))

    def _confirmed_at(self, store_name: str, reply: Reply) -> int:
        """The store's clock at the latest success that a signature proves."""
        held = self._state.know.held
        known = (
            held.meta.confirmed_at if held is not None and held.store_name == store_name and not held.unproved else 0
        )
        stored = self._config.codec.believed(reply.meta) if reply.meta is not None else None
        signed = stored.confirmed_at if stored is not None and stored.stamp else 0
        return max((at for at in (known, signed) if at <= reply.clock), default=0)

    def _plain_note(self, store: _Store, reply: Reply) -> Reply | None:
        """Return the note; None if it has lasted longer than a worker's note can last."""
        now, longest = self._config.clock(), longest_backoff(self._config.settings)
        since = store.long_backoff_since
        if since is None and reply.backoff_left > milliseconds(longest):
            since = store.long_backoff_since = now
        return None if since is not None and now - since > longest else reply


def _prove(store: _Store, at: float) -> None:
    """Note that the store was sound at this time."""
    store.sound_at = max(at, store.sound_at)
