"""The cache as a provider sees it: always the worker of the present process, and never an exception.

A cache object is often created before a fork and used in the children. Everything that belongs to one process is in a
`Worker`. This shell creates a new one in each child. It also catches our exceptions, because the vendor's SDK would
fetch after an exception (posthog 7.91, `client.py`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from flagcache.clients import Client
from flagcache.core.knowledge import Held, Knowledge
from flagcache.core.projects import join_projects
from flagcache.runtime import process
from flagcache.runtime import uwsgi as _uwsgi
from flagcache.runtime.callers import thread_record
from flagcache.runtime.guard import log_exceptions, log_failure
from flagcache.runtime.threads import remember_threads
from flagcache.status import Role, State, Status
from flagcache.vendor import Definitions
from flagcache.worker.config import CacheConfig
from flagcache.worker.fleet_status import FleetStatus
from flagcache.worker.listener import listen_soon
from flagcache.worker.state import are_emptied
from flagcache.worker.worker import Worker

__all__ = ["Coordinator"]

_Here: TypeAlias = tuple[int, type]
"""The pid of a process, and the class of its thread-locals, which gevent replaces: each pair has its own worker."""


class Coordinator:
    """One cache: the same object in every process, with a worker in each.

    Args:
        config: what all its processes have in common.
    """

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        self._name = config.namespace
        self._workers: dict[_Here, Worker] = {}
        remember_threads()
        self._parents: Worker | None = None
        """In a forked child, until it makes its own: what the parent had."""
        self._left = 0
        """Pid of the process whose exit hook has run: polls in it must not take a lease."""
        process.at_fork(self)
        process.at_exit(self)

    def should_fetch(self) -> bool:
        """Whether the calling thread must fetch from the vendor. After an error, only if nothing is held."""
        thread, inside = thread_record(), self._config.inside
        before = thread.inside
        if self._left == os.getpid() or inside in before:
            return False
        thread.inside = (*before, inside)
        try:
            return self._worker().should_fetch()
        except Exception:  # noqa: BLE001 - for the vendor's SDK an exception means "fetch"
            log_failure(self._name, "deciding who fetches failed")
        finally:
            thread.inside = before
        return not (self._config.settings.reads_only or self.has_definitions)

    def definitions(self, *, loads_again: Callable[[], bool] | None = None) -> Definitions | None:
        """Return the definitions to use; None makes the calling thread fetch.

        A thread that is already inside a call of this cache, in the user's callback, gets what the process holds.

        Args:
            loads_again: as in `Worker.definitions`.
        """
        thread, inside = thread_record(), self._config.inside
        before = thread.inside
        if self._left == os.getpid() or inside in before:
            return self._last_held()
        thread.inside = (*before, inside)
        try:
            return self._worker().definitions(loads_again=loads_again)
        except Exception:  # noqa: BLE001 - an exception would end the SDK's load, and a reader must not fetch
            log_failure(self._name, "handing out definitions failed")
        finally:
            thread.inside = before
        return self._last_held() if self._config.settings.reads_only else None

    def received(self, definitions: object) -> None:
        """Share what the calling thread has fetched."""
        if self._is_over:
            return
        with self._config.inside.entered():
            log_exceptions(lambda: self._worker().received(definitions), None, self._name, "sharing definitions failed")

    def shutdown(self) -> None:
        """Leave the fleet if no client polls any more: give up the lease and close connections.

        A later call starts again.
        """
        worker = self._here
        if worker is not None:
            log_exceptions(worker.shutdown, None, self._name, "leaving the fleet failed")

    def attach(self, client: Client) -> None:
        """Add a client of the vendor's SDK. A listener is started for it only if it wants one."""
        _uwsgi.advise()
        self._config.clients.add(client)
        worker = self._here
        if worker is not None:
            worker.learn_project(client.project)

    def listen(self) -> None:
        """Start the listener now instead of at the next poll: a client that already polls was just attached."""
        log_exceptions(self._listen, None, self._name, "starting the listener failed")

    @property
    def has_definitions(self) -> bool:
        """Whether this process has definitions."""
        worker = self._here
        return worker is not None and worker.know.held is not None

    @property
    def shared(self) -> bool:
        """Whether the fleet's own store answers and has what this process holds, as far as it knows."""
        worker = self._here
        return worker is not None and worker.shared

    @property
    def fetching(self) -> bool:
        """Whether the fleet's own fetch is under way in this process, or its result is not adopted yet."""
        worker = self._here
        return worker is not None and worker.fetching

    def status(self) -> Status:
        """Return what this process knows. Does no I/O."""
        worker = self._worker()
        held, now = worker.know.held, self._config.clock()
        age = max(0.0, now - held.born) if held else None
        changed_age, today = _changed_age(held, age), time.time()
        fleet = worker.fleet_status
        return Status(
            role=self._role(worker, fleet),
            state=_state(held, fleet),
            namespace=self._config.namespace,
            store=self._config.stores[0].address,
            store_answers=fleet.store_answers,
            store_in_charge=fleet.store,
            worker=worker.me,
            pid=os.getpid(),
            version=held.meta.version if held else "",
            age=age,
            changed_age=changed_age,
            confirmed_at=None if age is None else today - age,
            changed_at=None if changed_age is None else today - changed_age,
            writer=held.meta.writer if held else "",
            fetches=worker.fetches.requests,
            full_fetches=worker.fetches.full,
            flags=fleet.flags,
            serving=fleet.serving,
            trouble=fleet.trouble.reason if fleet.trouble else "",
            trouble_since=today - (now - fleet.trouble.since) if fleet.trouble else None,
            leader=fleet.leader,
            listening=worker.background.subscribed,
        )

    @property
    def pushing(self) -> bool:
        """Whether the calling thread is this cache's own, which runs a client's poll."""
        return self._config.clients.on_behalf

    def forked(self) -> None:
        """In a forked child: drop the parent's worker, but keep its definitions; listen soon if the parent listened."""
        parents = next(iter(self._workers.values()), None)
        self._parents = parents or self._parents
        self._workers = {}
        if parents is not None and parents.background.running:
            listen_soon(self._listen, self._name)

    def leave(self) -> None:
        """At exit: give up the lease if this process has it. Later calls are answered from memory."""
        self._left = os.getpid()
        worker = self._here
        if worker is not None:
            log_exceptions(lambda: worker.leave(at_exit=True), None, self._name, "leaving the fleet failed")

    def ready(self) -> bool:
        """Whether this process has had definitions that its clients adopted. Once True, it stays True. Does no I/O."""
        return self._worker().ready

    def _role(self, worker: Worker, fleet: FleetStatus) -> Role:
        if not worker.know.views:
            return Role.NEW
        if self._config.settings.reads_only:
            return Role.READER
        if fleet.alone:
            return Role.ALONE
        return Role.LEADER if fleet.leader == worker.me else Role.FOLLOWER

    def _listen(self) -> None:
        if not self._is_over:
            self._worker().background.start()

    def _worker(self) -> Worker:
        here = os.getpid(), threading.local
        return self._workers.get(here) or self._enter(here)

    @property
    def _here(self) -> Worker | None:
        """This process's worker, if there is one. After gevent has patched, the earlier one until there is another."""
        if (worker := self._workers.get((os.getpid(), threading.local))) is not None:
            return worker
        return next((worker for (pid, _), worker in [*self._workers.items()] if pid == os.getpid()), None)

    def _enter(self, here: _Here) -> Worker:
        """Create this process's worker, also after a fork that ran no hook and left the parent's registered.

        Also after gevent has patched: the locks of the earlier worker would block all greenlets, so it is ended.
        """
        _uwsgi.advise()
        others = [other for other in list(self._workers) if other != here]
        parents = self._workers.get(others[0]) if others else self._parents
        know = Knowledge() if parents is None else self._inherited(parents)
        know = know._replace(project=join_projects(know.project, self._config.clients.project))
        # setdefault is atomic, so that of several threads one wins without a lock that a fork could inherit
        worker = self._workers.setdefault(here, Worker(self._config, know))
        for other in others:
            replaced = self._workers.pop(other, None)
            if replaced is not None and other[0] == here[0]:
                log_exceptions(replaced.leave, None, self._name, "ending the worker from before gevent's patch failed")
        process.leave_at_end()
        return worker

    def _inherited(self, parents: Worker) -> Knowledge:
        """Return what a child knows from its parent.

        Its private stores are new, so they have not lost the definitions.
        """
        know = parents.know.in_child()
        private = {spec.address for spec in self._config.stores if spec.private}
        if know.held is None or know.held.store_name not in private:
            return know
        return know._replace(held=know.held._replace(store_name=""))

    @property
    def _is_over(self) -> bool:
        return self._left == os.getpid()

    def _last_held(self) -> Definitions:
        worker = self._here
        held = worker.know.held if worker is not None and not are_emptied(worker.know, self._config.settings) else None
        return held.definitions if held is not None else self._config.vendor.empty()


def _state(held: Held | None, fleet: FleetStatus) -> State:
    if held is None:
        return State.EMPTY
    return State.STALE if fleet.stale else State.FRESH


def _changed_age(held: Held | None, age: float | None) -> float | None:
    if held is None or age is None:
        return None
    return age + (held.meta.confirmed_at - held.meta.changed_at) / 1000
