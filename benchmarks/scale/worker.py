"""One process of a simulated flagcache fleet: the library's pure core, driven by events instead of threads.

`flagcache.core` decides what to ask, what follows from a reply, and what is due when. In virtual time this module
replaces the threads and sockets of `flagcache.worker.worker` and `poll`. It leaves out forks. A process renews times in
the fallback file only when it has another version, and a first load doesn't read that file while Redis answers. A
process that ends doesn't wait for its fetch.
"""

from __future__ import annotations

from functools import partial

from benchmarks.scale.background import Background
from benchmarks.scale.fetching import Fetching
from benchmarks.scale.process import Process
from benchmarks.scale.shared import Shared
from benchmarks.scale.stores import HostFile
from flagcache.core import ageing, first_load, knowledge, renewals
from flagcache.core.reply import Action, next_action, serves_first
from flagcache.errors import StoreError
from flagcache.stores.base import Ask, Reply
from flagcache.worker.lease_doubts import LeaseDoubts

__all__ = ["Worker"]


class Worker:
    """One process.

    Args:
        shared: what its fleet has in common.
        me: its identity.
        host: the fallback store of the host on which it runs.
    """

    def __init__(self, shared: Shared, me: str, host: HostFile) -> None:
        self._shared = shared
        self._world = shared.world
        self._process = Process(shared, me, host)
        self._deferred = False
        """Whether a grant was deferred to the next poll."""
        self._lease_doubts = LeaseDoubts(shared.settings.fetch_total_timeout)
        self._fetching = Fetching(self._process, shared, self._settle)
        self._background = Background(self._process, shared, self) if shared.attached else None

    @property
    def leads(self) -> bool:
        """Whether it has Redis's lease."""
        return self._process.know.view("redis").leads

    # --- the SDK's part ----------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Start, load the flags, and poll from then on."""
        self._process.started = self._process.last_poll = now
        if self._background is not None:
            self._background.listen(now)
        self._load(now, 1)

    def _load(self, now: float, attempt: int) -> None:
        """Poll for the first definitions with growing pauses, as `flagcache.worker.cold_start` does."""
        process = self._process
        if process.over:
            return
        if not (process.know.loaded or process.fetching or self._process.asking):
            contends = first_load.contends(process.know, can_fetch=self._shared.attached)
            self._ask(now, self._manner(contend=contends))
        process.look(now)
        if process.know.loaded:
            self._poll_next(now)
        else:
            pause = first_load.pause(attempt, self._world.rng.random())
            self._world.timeline.at(now + pause, lambda then: self._load(then, attempt + 1))

    def poll(self, now: float) -> None:
        """One poll of the SDK's own poller."""
        process = self._process
        if process.over:
            return
        process.last_poll = now
        if process.polls_quietly(now):
            self._world.timeline.poll_at(now + self._world.poll_interval, self)
            return
        process.catch_up()
        self._fetching.sdk_asks_again(now)
        self._ask(now, self._manner(contend=True))
        self._poll_next(now)

    def end(self, now: float, *, politely: bool) -> None:
        """Stop this process; if it stops cleanly, it gives up the lease, else the lease expires."""
        process = self._process
        if politely:
            process.save_due(now)
        process.over = True
        self._shared.subscribers.pop(process.me, None)
        if not politely:
            return
        for store in process.stores:
            if renewals.must_leave(process.know.view(store.store_name)):
                process.reach(now, store, partial(store.release, now, process.me))

    def _poll_next(self, now: float) -> None:
        spent = self._world.machine.fetch if self._process.fetching else 0.0
        self._world.timeline.poll_at(now + spent + self._world.poll_interval, self)

    # --- asking ------------------------------------------------------------------------------------------------------

    def push(self, now: float, *, contend: bool) -> None:
        """Poll on behalf of the client, between its own polls; `contend` also for the lease, or as the deputy."""
        self._ask(now, self._manner(contend=contend, pushes=True))

    def _manner(self, *, contend: bool, pushes: bool = False) -> Ask:
        """Return what this process wants from a store at this moment."""
        process = self._process
        return process.base._replace(
            may_lead=contend and not process.fetching,
            idle=not (process.fetching or self._deferred),
            starts=first_load.is_starting(process.know),
            watches=contend and pushes and process.know.view(process.in_charge.store_name).deputy,
        )

    def _ask(self, now: float, manner: Ask) -> None:
        """Poll the first store that answers."""
        process = self._process
        process.know = ageing.settled(process.know, self._shared.settings.challenge_after, now)
        for store in process.stores:
            if not process.admits(now, store):
                continue
            try:
                self._poll_store(now, store, manner)
            except StoreError:
                process.lost(now, store)
                continue
            break
        self._settle(now)

    def _poll_store(self, now: float, store: HostFile, manner: Ask) -> None:
        know, name = self._process.know, store.store_name
        ask = knowledge.build_poll(manner, know, name, now)
        if know.held is None:
            ask = self._lease_doubts.adjust_poll(ask, know, name, now)
        reply, at = store.poll(now, ask)
        if reply.payload is None or store.store_name != "redis":
            self._hear(at, store, reply, now)
            return

        def arrived(then: float, ok: bool) -> None:  # noqa: FBT001 - as `Link.send` calls it
            self._process.asking = False
            if self._process.over:
                return
            if ok:
                self._hear(then, store, reply, now)
                self._settle(then)
            else:
                self._world.tally.timeouts += 1
                self._process.lost(then, store)
                self._ask(then, manner)

        self._process.asking = True
        deadline = max(at, now + self._world.machine.timeout)
        self._world.link.send(at, self._world.sizes.envelope, deadline, arrived)

    def _hear(self, now: float, store: HostFile, reply: Reply, asked: float) -> None:
        """Apply a reply, and do what follows from it."""
        process = self._process
        process.answered(store)
        if self._background is not None and store.store_name == "redis":
            self._background.reconnect(now)
        self._deferred = False
        if serves_first(process.know, can_fetch=self._shared.attached) and reply.payload is not None:
            reply, self._deferred = first_load.defer_grant(reply, self._shared.settings)
        process.apply(store, reply, now, asked)
        action = next_action(reply, brought=reply.payload is not None, reads_only=False)
        if action is Action.ADOPT and reply.meta is not None:
            process.take(now, knowledge.from_store(store.store_name, reply.meta, {}, reply.clock, asked))
        elif action is Action.REPAIR:
            self._fetching.repair(now, store, reply.clock)
        if reply.grant is not None:
            self._fetching.begin(now, store, reply.grant, asked)

    def _settle(self, now: float) -> None:
        """Plan the next work of its background, and determine whether its next polls can be quiet."""
        self._process.look(now)
        self._process.settle()
        if self._background is not None and not self._process.over:
            self._background.plan(now)
