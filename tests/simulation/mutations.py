# pyright: reportPrivateUsage=false
# A rule is broken in the code that follows it, which is often private.
"""The engine with one rule broken at a time, to show that the simulation finds the fault.

python -m tests.simulation.mutations   tries all, and prints a table of how many runs each one took
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from flagcache.core import knowledge, order
from flagcache.core.knowledge import Held, Knowledge
from flagcache.encoding import payload as envelope
from flagcache.encoding.codec import Codec
from flagcache.encoding.stamps import Stamps
from flagcache.errors import EnvelopeError
from flagcache.stores.base import Ask, Envelope, Grant, Meta, Notice, Order, Published, Replacing, Reply, Store
from flagcache.stores.memory import MemoryStore
from flagcache.stores.rules import leases as granting
from flagcache.stores.rules import state
from flagcache.stores.rules import verbs as rules
from flagcache.stores.rules.state import Outcome, State
from flagcache.vendor import Definitions, Fetched, Fetcher
from flagcache.worker import poll as poller
from flagcache.worker.background import Background
from flagcache.worker.fetch import FetchThread
from flagcache.worker.grants import PollOutcome
from flagcache.worker.managed_store import ManagedStore
from flagcache.worker.poll import StorePoller
from flagcache.worker.state import ProcessState
from flagcache.worker.trust import Trust
from flagcache.worker.worker import Worker
from tests.simulation.run import simulate

__all__ = ["LONGEST", "MUTATIONS", "Mutation", "runs_until_found"]

_KEY = ("signed",)

LONGEST = 500
"""Number of runs after which a broken rule counts as not found."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """A change of the engine that breaks one rule."""

    rule: int
    what: str
    changes: tuple[tuple[object, str, object], ...]
    """Owner, attribute and replacement of each patch."""
    variants: tuple[str, ...] = ()
    """The variants of the runs that find it (`run_plan.VARIANTS`)."""

    @contextmanager
    def applied(self) -> Generator[None, None, None]:
        """Apply the patches while the body runs."""
        with ExitStack() as stack:
            for owner, name, value in self.changes:
                stack.enter_context(patch.object(owner, name, value))
            yield


_poll, _publish, _build_poll, _from_store, _meta_for_store = (
    rules.poll,
    rules.publish,
    knowledge.build_poll,
    knowledge.from_store,
    knowledge.meta_for_store,
)
_poller_poll, _decode, _definitions = StorePoller.poll, envelope.decode, Worker.definitions
_fetched = FetchThread._fetched  # noqa: SLF001


def _yes(*_: object, **__: object) -> bool:
    return True


def _no(*_: object, **__: object) -> bool:
    return False


def _nothing(*_: object) -> None:
    """Return None for any arguments."""


def _only_if_stored(_state: State, _envelope: Envelope, published: Published) -> bool:
    return published is Published.STORED


def _follows_for_ever(state: State, ask: Ask, held: Order | None, clock: int) -> bool:
    return state.outcome is Outcome.FAILED or (state.outcome is Outcome.OPEN and state.holder != ask.me)


def _forgetful(base: Ask, know: Knowledge, store_name: str, now: float) -> Ask:
    return _build_poll(base, know, store_name, now)._replace(grant_age=-1)


def _herd(self: Worker) -> Definitions | None:
    return None if self.know.held is None else _definitions(self)


def _publishes_anything(  # noqa: PLR0913 - the signature of the function that it replaces
    state: State, me: str, envelope: Envelope, clock: int, *, fresh: bool, lease: int, replacing: Replacing | None
) -> tuple[State, Published, Notice | None]:
    state = state._replace(meta=None)
    return _publish(state, me, envelope, clock, fresh=fresh, lease=lease, replacing=replacing)


def _stamped_when_read(
    self: FetchThread, result: Fetched, outcome: PollOutcome, grant: Grant, held: Held | None
) -> Held:
    taken = _fetched(self, result, outcome, grant, held)
    late = round((self._config.clock() - outcome.asked_at) * 1000)
    return taken._replace(meta=taken.meta._replace(as_of=grant.as_of + late))


def _counts_given_grants(  # noqa: PLR0913 - likewise
    state: State, me: str, envelope: Envelope, clock: int, *, fresh: bool, lease: int, replacing: Replacing | None
) -> tuple[State, Published, Notice | None]:
    if fresh and state.meta is not None and envelope.meta.as_of < state.grant:
        return state, Published.STALE, None
    return _publish(state, me, envelope, clock, fresh=fresh, lease=lease, replacing=replacing)


def _takes_everything(know: Knowledge, held: Held) -> Knowledge:
    return know._replace(held=held, waiting_since=None)


def _never_heals(state: State, ask: Ask, clock: int, *, size: int) -> tuple[State, Reply]:
    state, reply = _poll(state, ask, clock, size=size)
    return state, reply._replace(republish=False)


def _does_not_repair(self: StorePoller, *_: object) -> None:
    """Nothing."""


def _empty_for_unreadable(payload: bytes, *, version: str, limit: int) -> Definitions:
    try:
        return _decode(payload, version=version, limit=limit)
    except EnvelopeError:
        return {"flags": [], "group_type_mapping": {}, "cohorts": {}}


def _fails_silently(state: State, *_: object, **__: object) -> tuple[State, bool, None]:
    return state, False, None


def _counts_from_the_reading(
    self: StorePoller, managed: ManagedStore, store: Store, intent: poller.PollIntent
) -> tuple[Reply, float]:
    reply = store.poll(self._build_poll(managed, intent, self._config.clock()))
    return reply, self._config.clock()


def _restamps(held: Held, store_name: str, clock: int, now: float) -> Meta:
    return _meta_for_store(held, store_name, clock, now)._replace(as_of=clock, confirmed_at=clock)


def _born_now(
    store_name: str, meta: Meta, definitions: Definitions, clock: int, asked: float, *, signs: bool = False
) -> Held:
    return _from_store(store_name, meta, definitions, clock, asked, signs=signs)._replace(born=asked)


def _sends_always(state: State, ask: Ask, clock: int, *, size: int) -> tuple[State, Reply]:
    state, reply = _poll(state, ask, clock, size=size)
    return state, reply._replace(payload=b"", meta=state.meta) if state.meta else reply


def _asks_twice(
    self: StorePoller, intent: poller.PollIntent, lease: float, *, serve_first: bool = False
) -> PollOutcome | None:
    _poller_poll(self, intent._replace(may_lead=False), lease)
    return _poller_poll(self, intent, lease, serve_first=serve_first)


def _believes_any_time(end: int, length: int, clock: int) -> bool:
    return clock < end


def _inherits_all(self: Knowledge) -> Knowledge:
    return self


def _stored_etag(self: FetchThread, outcome: PollOutcome, grant: Grant, fetcher: Fetcher) -> None:
    state: ProcessState = self._publisher._state  # noqa: SLF001
    held, stored = state.know.held, state.view.stored
    if held is not None and stored is not None:
        state.update(lambda know: know._replace(held=held._replace(meta=held.meta._replace(etag=stored.etag))))
    _fetch(self, outcome, grant, fetcher)


_fetch, _silent, _run_due = FetchThread._fetch, granting._silent, Background.run_due  # noqa: SLF001


def _order_for_time(meta: Meta, _clock: int) -> int:
    return meta.as_of


def _leaves_no_time(state: State, ask: Ask, clock: int, more: int = 0) -> bool:
    return bool(more) or _silent(state, ask, clock)


def _sleeps_long(self: Background) -> float:
    return max(5.0, _run_due(self))


MUTATIONS = (
    Mutation(1, "a grant whenever it is asked for", ((granting, "_due", _yes),)),
    Mutation(1, "follow-up grants without limit", ((granting, "_follows", _follows_for_ever),)),
    Mutation(1, "workers do not report the latest grant", ((knowledge, "build_poll", _forgetful),)),
    Mutation(1, "a worker without definitions fetches without a grant", ((Worker, "definitions", _herd),)),
    Mutation(2, "a late publication is not refused", ((rules, "publish", _publishes_anything),)),
    Mutation(2, "a later grant counts before its fetch is answered", ((rules, "publish", _counts_given_grants),)),
    Mutation(2, "a worker adopts older definitions", ((knowledge, "adopt", _takes_everything),)),
    Mutation(2, "definitions are dated when the response is read", ((FetchThread, "_fetched", _stamped_when_read),)),
    Mutation(3, "the store asks no worker to repair it", ((rules, "poll", _never_heals),)),
    Mutation(3, "a worker ignores the request to repair the store", ((StorePoller, "_repair", _does_not_repair),)),
    Mutation(
        5,
        "an unreadable payload counts as empty definitions",
        ((envelope, "decode", _empty_for_unreadable), (Codec, "check_name", _no)),
    ),
    Mutation(6, "a failed fetch is not reported to the store", ((rules, "fail", _fails_silently),)),
    Mutation(6, "a silent leader is not challenged", ((granting, "_silent", _no),)),
    Mutation(6, "a challenged leader gets the next grant at once", ((granting, "_silent", _leaves_no_time),)),
    Mutation(1, "the listener renews the lease too late", ((Background, "run_due", _sleeps_long),)),
    Mutation(7, "a forked child keeps its parent's grants", ((Knowledge, "in_child", _inherits_all),)),
    Mutation(8, "ages count from the time a reply is read", ((StorePoller, "_timely", _counts_from_the_reading),)),
    Mutation(
        8,
        "an order counts as a time after the clock stepped back",
        ((knowledge, "granted_at", _order_for_time), (order, "granted_at", _order_for_time)),
    ),
    Mutation(8, "republished definitions get a new date", ((knowledge, "meta_for_store", _restamps),)),
    Mutation(8, "adopted definitions count as confirmed now", ((knowledge, "from_store", _born_now),)),
    Mutation(8, "the entity tag of other definitions is sent", ((FetchThread, "_fetch", _stored_etag),)),
    Mutation(9, "the payload is sent at each poll", ((rules, "poll", _sends_always),)),
    Mutation(9, "an unchanged poll asks twice", ((StorePoller, "poll", _asks_twice),)),
    Mutation(
        11,
        "unreadable definitions are neither discarded nor replaced by the same version",
        ((MemoryStore, "discard", _no), (rules, "replaces_payload", _only_if_stored)),
    ),
    Mutation(
        11,
        "times ahead of the clock are believed",
        tuple((m, "running", _believes_any_time) for m in (granting, state)),
    ),
    Mutation(1, "a worker with a key leaves the turn to a leader that cannot sign", ((Trust, "_is_late", _no),), _KEY),
    Mutation(1, "a worker with a key believes no signed note", ((Stamps, "backoff", _nothing),), _KEY),
    Mutation(2, "a key makes no difference to what is newer", ((knowledge, "is_newer_by_signature", _yes),), _KEY),
    Mutation(2, "a worker with a key believes no signed clear", ((Stamps, "proves_epoch", _no),), _KEY),
    Mutation(9, "a version that was passed over is asked for at each poll", ((Trust, "wants", _yes),), _KEY),
)
"""Each one breaks the rule with its number. Another rule's check may find it first."""


def runs_until_found(mutation: Mutation, longest: int, first: int = 0) -> tuple[int, str]:
    """Return the number of runs until a fault was found, and the fault; 0 if no run found one.

    Args:
        mutation: the broken rule.
        longest: the maximum number of runs.
        first: the first seed.
    """
    with mutation.applied():
        for run in range(1, longest + 1):
            faults = simulate(first + run - 1, largest=30, variants=mutation.variants).faults
            if faults:
                return run, faults[0]
    return 0, ""


def _try(index: int) -> str:
    mutation = MUTATIONS[index]
    runs, fault = runs_until_found(mutation, LONGEST)
    found = fault.split(": ")[1] if runs else "-"
    return f"| {mutation.rule} | {mutation.what} | {runs or f'not in {LONGEST}'} | {found} |\n"


def main() -> None:
    """Print the table."""
    sys.stdout.write("| breaks rule | how | runs | found by the check of |\n|---|---|---|---|\n")
    with ProcessPoolExecutor(2) as pool:
        for line in pool.map(_try, range(len(MUTATIONS))):
            sys.stdout.write(line)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
