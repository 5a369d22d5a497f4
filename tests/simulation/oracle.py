"""The rules that must always hold, checked against the truth.

The truth is what PostHog served and when, and when each fetch was really granted, in the run's one true time; no
worker sees it. For all definitions it is known here which fetch brought or last confirmed them (`Evidence`), however
often they were passed on and translated from one clock to another.

A worker goes *backwards* if it held X, takes Y instead, and PostHog did not serve Y at any time from the grant of X's
fetch until now. The grant counts and not the answer, because fetches are ordered by their grants: an answer may stay in
a frozen worker's socket for any time. We don't judge what no promise covers: ages after a clock was stepped or stopped,
because they can't be known then; and X that a store refused for now, once no fetch was answered for a challenge time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flagcache.core.knowledge import Held
from flagcache.stores.base import Ask, Meta, Reply
from flagcache.stores.rules.state import Outcome, State
from tests.simulation.posthog import PostHog
from tests.simulation.scheduler import Scheduler, current_task

if TYPE_CHECKING:
    from tests.simulation.simulated_fleet import Process
    from tests.simulation.stores import SharedStore

__all__ = ["Evidence", "Oracle"]

_LATENCY = 1.05
"""Seconds by which an age may be wrong: an answer may be under way for as long as a process waits for a store."""

_LONGEST_FETCH = 30.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """The fetch that brought or last confirmed some definitions, in true time."""

    granted: float
    served: float
    uid: str
    """The store whose clock dates them."""
    translated: bool = False
    """They were dated by the age on a process's own clock."""


@dataclass(frozen=True, slots=True)
class AskerState:
    """What a process knew when it asked a store."""

    evidence: Evidence | None
    """The evidence of what it said that it holds."""
    granted_ago: float | None
    """Seconds since the latest grant of which it knew."""


@dataclass(slots=True)
class LastHeld:
    """What a process held when it was last looked at."""

    held: Held | None = None
    evidence: Evidence | None = None


class Oracle:
    """Finds breaches of the rules and reports them in `faults`; never raises, because the engine would catch it."""

    def __init__(self, scheduler: Scheduler, posthog: PostHog) -> None:
        self._scheduler = scheduler
        self._posthog = posthog
        self._evidence: dict[tuple[str, int, str], Evidence] = {}
        self._brought: dict[tuple[str, str], Evidence] = {}
        """The evidence of what each process's own fetch last brought, by its name and the version."""
        self._last: dict[tuple[str, str], Evidence] = {}
        """The evidence of what each process last held, likewise."""
        self._granted: dict[tuple[str, int], float] = {}
        self._given: dict[tuple[str, str], float] = {}
        """When a store last gave a process a new grant."""
        self.processes: dict[str, Process] = {}
        self.faults: list[str] = []
        self.note: Callable[[str], None] = lambda _: None
        """Adds a line to the trace."""
        self.confused: Callable[[], bool] = lambda: False
        """Whether ages can't be known any more, because a clock was stepped or stopped."""
        self.disordered: Callable[[str], bool] = lambda _: False
        """Whether a store, by its uid, grants in no order any more (`SharedStore.disordered`)."""
        self.grants = 0
        self.quiet = False
        """All faults ended long ago."""

    def report(self, fault: str) -> None:
        """Report a broken rule."""
        self.faults.append(f"at {self._scheduler.now:.3f}: {fault}")

    # --- rule 1: grants ----------------------------------------------------------------------------------------------

    def before_poll(self, ask: Ask) -> AskerState:
        """Return what the running task's process knows just before its poll."""
        process = self.processes[ask.me]
        known = process.know_now().granted
        ago = None if known is None else process.clock() - known
        held = process.held
        same = held is not None and held is process.last_held.held and held.meta.version == ask.held_version
        return AskerState(process.last_held.evidence if same else None, ago)

    def after_poll(self, store: SharedStore, ask: Ask, asked: AskerState, done: tuple[State, Reply]) -> None:
        """Check a store's answer to a poll.

        Args:
            store: the store.
            ask: the question.
            asked: what `before_poll` returned.
            done: the store's state before, and its answer.
        """
        before, reply = done
        if asked.evidence is not None:
            self._check_heals(store, ask, asked.evidence, reply)
        if reply.meta and reply.payload is not None and ask.held_version == reply.meta.version:
            self.report(f"rule 9: {store.uid} sent {ask.me} what it holds")
        if before.epoch_stamp and store.state.epoch < before.epoch:
            self.report(f"rule 2: {ask.me} undid a clear of {store.uid} that was signed")
        grant = reply.grant
        if grant is None:
            return
        self._granted.setdefault((store.uid, grant.as_of), self._scheduler.now)
        if grant.as_of == before.grant:
            return  # given once more, because its reply was lost
        self.grants += 1
        self.note(f"{store.uid} gives {ask.me} a grant")
        if self.quiet and store.uid != "fleet":
            self.report(f"rule 1: {store.uid} gave {ask.me} a grant, which left the fleet's store for no reason")
        ago = float("inf") if asked.granted_ago is None or self.confused() else asked.granted_ago
        if before.outcome is Outcome.DONE and before.meta and ago < 0.9 * ask.interval / 1000 - _LATENCY:
            self.report(f"rule 1: {store.uid} gave {ask.me} a grant, who knew of one {ago:.1f} s ago")
        self._check_pace(store, ask, before, reply.clock)
        self._given[store.uid, ask.me] = self._scheduler.now
        store.grants.append(reply.clock)
        store.was_empty = before.meta is None

    def _check_pace(self, store: SharedStore, ask: Ask, before: State, clock: int) -> None:
        if store.evicts:
            self._check_evicting(store, ask)
        process = self.processes[ask.me]
        since = process.fetching_since.get(store.uid)
        if since is not None and self._scheduler.now - since < _LONGEST_FETCH and not self._may_try_anew(store, ask):
            self.report(f"rule 1: {ask.me} got a second grant of {store.uid} while its fetch was under way")
        if self._scheduler.now - store.spoiled_at <= 2 * ask.interval / 1000:
            return
        gap = clock - before.granted[0]
        early = 0 <= gap < ask.interval * 9 // 10
        if early and store.answered == before.grant:
            self.report(f"rule 1: {store.uid} gave {ask.me} a grant {gap} ms after one that was answered")
        if early and sum(at > clock - ask.interval for at in store.grants) >= 3:
            self.report(f"rule 1: {store.uid} gave a fourth grant in one interval, to {ask.me}")
        holder = self.processes.get(before.holder)
        if before.outcome is not Outcome.OPEN or store.was_empty or holder is None:
            return  # on an empty store a lease is short
        challenged = before.meta is None or clock - before.meta.confirmed_at >= ask.challenge
        displaced = self.processes[ask.me].kind.refresher and not holder.kind.refresher
        if holder.healthy_since(store.uid) and not challenged and (early or not displaced):
            self.report(f"rule 1: {store.uid} gave {ask.me} a grant while {before.holder} was out and well")

    def _check_evicting(self, store: SharedStore, ask: Ask) -> None:
        """Workers that listen get a notice of each grant although the store forgets it; some notices may cross."""
        given = store.grants_while_it_evicts
        given.append(self._scheduler.now)
        if ask.held is None:  # there is nothing to start with: it has to fetch
            given.clear()
        if len(given) == given.maxlen and given[-1] - given[0] < 0.9 * ask.interval / 1000 - _LATENCY:
            self.report(f"rule 1: {store.uid}, which forgets, gave a fourth grant in one interval, to {ask.me}")

    def _may_try_anew(self, store: SharedStore, ask: Ask) -> bool:
        """Whether a process may get a second grant while its own fetch is under way.

        If the SDK fetches, its fetch may have failed without a report, on a thread that never asks again. A refusal
        would leave its poller without a fetch for as long as the longest one may take. The pace still applies.
        """
        since = self._scheduler.now - self._given.get((store.uid, ask.me), float("-inf"))
        forgot = self._scheduler.now - store.spoiled_at < since  # the first grant was lost with all else
        return not self.processes[ask.me].kind.attached and (forgot or since >= 0.9 * ask.interval / 1000 - _LATENCY)

    # --- rules 2, 3 and 8: what is stored ----------------------------------------------------------------------------

    def on_reply(self, uid: str, reply: Reply) -> None:
        """Record that the running task has its answer to a poll."""
        task = current_task()
        record, process = task.record, self.processes[task.owner.name]
        is_fallback = uid not in (process.uid_of(process.worker.fleet_status.store), process.uid_of("fleet"))
        if is_fallback and reply.grant is None:
            record.verbs -= 1  # the fallback, beside the poll itself: it gets what is new to it, and never ages alone
            return
        record.asked = self._scheduler.now
        record.unchanged += reply.payload is None and not reply.republish and reply.grant is None
        record.repair = uid if reply.republish else record.repair
        if reply.grant is not None:
            record.granted_by = process.granted_by = uid
            process.permits = 1

    def on_fetched(self, held: Held) -> None:
        """Record what the running task's fetch has brought or confirmed."""
        record, process = current_task().record, self.processes[current_task().owner.name]
        version, served = record.served
        if version != held.meta.version:
            self.report(f"rule 8: {process.name} takes one content for another that PostHog served")
        uid = process.uid_of(held.store_name)
        granted = self._granted.get((uid, held.meta.as_of), record.asked)
        evidence = self._brought[process.name, held.meta.version] = Evidence(granted, served, uid)
        self._know(uid, held.meta, evidence)

    def before_publish(self, uid: str, meta: Meta) -> None:
        """Check what the running task is about to offer to a store, maybe with times of that store's clock."""
        record = current_task().record
        if record.repair == uid:
            record.repair = ""
        self.before_confirm(uid, meta)

    def before_confirm(self, uid: str, meta: Meta) -> None:
        """Check the times that the running task is about to confirm, without their definitions."""
        process = self.processes[current_task().owner.name]
        self.check_held(process)
        if (uid, meta.as_of, meta.version) in self._evidence:
            return None
        held, evidence = process.last_held.held, process.last_held.evidence
        if held is not None and _superseded(held):
            evidence = Evidence(float("-inf"), float("inf"), uid)  # offered as older than everything
        if held is None or evidence is None or held.meta.version != meta.version:
            return self.report(f"rule 8: {process.name} offers {uid} times that no fetch had")
        self._know(uid, meta, replace(evidence, uid=uid, translated=True))
        return None

    def after_write(self, store: SharedStore, before: State, *, fresh: bool, taken: bool) -> None:
        """Check what a store holds after an offer or a confirmation."""
        meta = store.state.meta
        if not taken or meta is None:
            return None
        if fresh and store.state.outcome is Outcome.DONE and before.outcome is Outcome.OPEN:
            store.answered = store.state.grant
        evidence = self._evidence.get((store.uid, meta.as_of, meta.version))
        if evidence is None:
            return self.report(f"rule 8: {store.uid} holds times that no fetch had")
        if before.meta is not None and before.meta.version != meta.version:
            old = self._evidence.get((store.uid, before.meta.as_of, before.meta.version))
            if old is not None:
                self._check_forward(store.uid, (old, evidence), meta.version)
        return None

    def _know(self, uid: str, meta: Meta, evidence: Evidence) -> None:
        """Keep the evidence; of two that a stepped clock makes look alike, the older."""
        key = (uid, meta.as_of, meta.version)
        known = self._evidence.get(key, evidence)
        self._evidence[key] = min(known, evidence, key=lambda e: e.granted)

    def _check_forward(self, who: str, change: tuple[Evidence, Evidence], version: str) -> None:
        old, new = change
        if self.confused() and (old.translated or new.translated or old.uid != new.uid):
            return  # only ages order what two stores granted, and these can no longer be known
        if self.disordered(old.uid):
            return
        if not self._posthog.served_between(version, old.granted, self._scheduler.now):
            self.report(
                f"rule 2: {who} went back to definitions that PostHog had replaced before {old.granted:.3f}, when the"
                f" fetch of those that they replace was granted"
            )

    def _check_heals(self, store: SharedStore, ask: Ask, asked: Evidence, reply: Reply) -> None:
        """Check that a process with newer definitions than the store is asked to repair it, and not all at once."""
        meta = store.state.meta
        if reply.republish or ask.held is None or ask.held.epoch != store.state.epoch:
            return
        if meta is not None and (meta.epoch > ask.held.epoch or meta.version == ask.held_version):
            return
        stored = self._evidence.get((store.uid, meta.as_of, meta.version)) if meta else None
        slack = 5 * _LATENCY if asked.translated else _LATENCY
        older = stored is not None and stored.granted < asked.granted - slack
        if stored is not None and stored.translated and stored.served >= asked.served:
            older = False  # of a grant that was given again, ages count from the second time
        differs_from = meta is None or older
        asked_lately = store.clock() - 1000 < store.state.repair_asked <= store.clock()
        if differs_from and not asked_lately and not self.confused():
            self.report(f"rule 3: {store.uid} does not ask {ask.me} for the newer definitions that it holds")

    # --- rules 2 and 8: what a process holds -------------------------------------------------------------------------

    def check_held(self, process: Process) -> None:
        """Compare what a process holds now with what it held before."""
        held, seen = process.held, process.last_held
        if held is seen.held or held is None:
            return None
        old = seen.evidence
        same = seen.held is not None and seen.held.meta.version == held.meta.version
        if _superseded(held):  # judged by what was fetched, unless that has waited its time for an answer
            fetched = self._brought.get((process.name, held.meta.version), old)
            seen.held, seen.evidence = held, None if _unsettled_for_long(process, seen.held) else fetched
            return None
        uid = process.uid_of(held.store_name)
        evidence = self._evidence.get((uid, held.meta.as_of, held.meta.version))
        if evidence is None:
            return self.report(f"rule 8: {process.name} holds times that no fetch had")
        if old is not None and not same:
            self._check_forward(process.name, (old, evidence), held.meta.version)
        age = process.clock() - held.born
        claimed = self._scheduler.now - age
        if claimed > evidence.served + _LATENCY + process.tolerance():
            self.report(
                f"rule 8: {process.name} claims that PostHog confirmed at {claimed:.3f}; it was at"
                f" {evidence.served:.3f}"
            )
        seen.held, seen.evidence = held, evidence
        self._last[process.name, held.meta.version] = evidence
        return None

    def last_evidence(self, process: Process, version: str) -> Evidence | None:
        """The latest evidence that this process had of a version, which may have been confirmed, or dated again."""
        return self._last.get((process.name, version))

    def client_adopts(self, process: Process, change: tuple[Evidence | None, Evidence | None], version: str) -> None:
        """Check the definitions that a client uses from now on."""
        old, new = change
        if old is not None and new is not None:
            self._check_forward(f"a client of {process.name}", (old, new), version)


def _unsettled_for_long(process: Process, held: Held | None) -> bool:
    """Whether no fetch was answered for a challenge time since a store refused these for now."""
    if held is None or held.unsettled is None:
        return False
    return process.clock() - held.unsettled > process.kind.settings.challenge_after


def _superseded(held: Held) -> bool:
    """Whether a store had newer ones, so that their time no longer counts (`knowledge.superseded`)."""
    return held.meta.order == (0, 1)
