"""The faults of a run, and when they occur."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from tests.simulation.run_plan import RunPlan
from tests.simulation.simulated_fleet import Fleet, Process, Trap
from tests.simulation.stores import SharedStore
from tests.simulation.world import World

__all__ = ["TROUBLES", "FaultInjector"]

_POINTS = (
    "before poll",
    "after poll",
    "before fetch",
    "after fetch",
    "before publish",
    "after publish",
    "before confirm",
    "after confirm",
    "before renew",
    "before fail",
    "after subscribe",
    "before discard",
)

_REFUSALS = ((500, None), (503, 5.0), (429, 20.0), (402, None), (402, 30.0), (0, None), (401, None))


class FaultInjector:
    """Injects faults into a fleet until it is stopped, and then ends all faults.

    Args:
        plan: of the run.
        fleet: its target.
    """

    def __init__(self, plan: RunPlan, fleet: Fleet) -> None:
        self._plan, self._fleet = plan, fleet
        self._world: World = fleet.world
        self._rng = random.Random(f"chaos {plan.seed}")
        self._over = False
        self.revoked: dict[str, int] = {}
        """Processes whose keys PostHog refuses permanently, with its status."""

    def begin(self) -> None:
        """Inject faults from now on."""
        for name in self._plan.troubles:
            if name in _LASTING:
                TROUBLES[name](self)
        self._next()

    def end(self) -> None:
        """End all faults that can be ended; killed processes stay dead."""
        self._over = True
        world = self._world
        world.network.heal()
        world.posthog.status, world.posthog.retry_after, world.posthog.slowness = 200, None, 0.1
        world.posthog.bad_keys.clear()
        world.posthog.bad_keys.update(self.revoked)
        for store in world.stores:
            store.down = False
            store.cut_off.clear()
            store.thaw()
        for process in self._fleet.alive:
            process.trap = None
            process.go_on()

    def _next(self) -> None:
        sudden = [name for name in self._plan.troubles if name not in _LASTING]
        if self._over or not sudden:
            return
        TROUBLES[self._rng.choice(sudden)](self)
        self._world.scheduler.after(self._rng.expovariate(1 / self._plan.every), self._next)

    # --- the faults --------------------------------------------------------------------------------------------------

    def _store(self) -> SharedStore:
        return self._rng.choice((self._world.fleet, *self._world.stores))

    def _any_process(self) -> Process | None:
        return self._rng.choice(alive) if (alive := self._fleet.alive) else None

    def _a_while(self) -> float:
        return self._plan.refresh * self._rng.choice((0.05, 0.3, 1.0, 3.0)) * self._rng.uniform(0.5, 1.5)

    def _later(self, seconds: float, action: Callable[[], object]) -> None:
        self._world.scheduler.after(seconds, action)

    def _log(self, what: str) -> None:
        self._world.note(f"--- {what}")

    def crash(self) -> None:
        """A process dies at some point; usually another one replaces it."""
        process = self._any_process()
        if process is None:
            return
        process.kill()
        if self._rng.random() < 0.9 or len(self._fleet.alive) < 1:
            self._fleet.add(process.kind, delay=self._rng.uniform(0, 3))

    def leave(self) -> None:
        """A process is shut down and restarted."""
        process = self._any_process()
        if process is not None and not process.frozen:
            process.shut_down()
            self._fleet.add(process.kind, delay=self._rng.uniform(0, 3))

    def fork(self) -> None:
        """A process forks, and sometimes dies then."""
        process = self._any_process()
        if process is not None and not process.frozen and len(self._fleet.alive) < 2 * len(self._plan.kinds):
            self._fleet.add(process.kind, parent=process)
            self._log(f"{process.name} forked")
            if self._rng.random() < 0.5:
                process.kill()

    def freeze(self) -> None:
        """A process is stopped at any point."""
        process = self._any_process()
        if process is not None:
            seconds = self._a_while()
            self._log(f"{process.name} frozen for {seconds:.1f} s")
            process.stop(seconds)

    def trap(self) -> None:
        """A process is stopped at the next point of a kind."""
        process = self._any_process()
        if process is not None:
            process.trap = Trap(self._rng.choice(_POINTS), self._a_while())

    def request_threads(self) -> None:
        """Threads of a process ask for flags while there are none."""
        for process in self._fleet.alive:
            process.evaluate()

    def partition(self) -> None:
        """Some processes cannot reach a store for a while."""
        store, share = self._store(), self._rng.random()
        for process in self._fleet.alive:
            if self._rng.random() < share:
                self._log(f"{process.name} cut off from {store.uid}")
                store.cut_off.add(process.name)
                self._later(self._a_while(), partial(store.cut_off.discard, process.name))

    def outage(self) -> None:
        """A store is away for a while."""
        store = self._store()
        self._log(f"{store.uid} down")
        store.down = True
        if self._rng.random() < 0.5:
            store.drop_streams()
        self._later(self._a_while(), partial(setattr, store, "down", False))

    def frozen_store(self) -> None:
        """A store is stopped for a while, and then executes the requests that came meanwhile."""
        store = self._store()
        self._log(f"{store.uid} frozen")
        store.frozen = True
        self._later(self._a_while(), store.thaw)

    def flush(self) -> None:
        """A store loses everything."""
        store = self._store()
        self._log(f"{store.uid} flushed")
        store.flush()

    def roll_back(self) -> None:
        """A store loses what was written in the last seconds."""
        store = self._store()
        store.remember()
        self._later(self._a_while(), store.roll_back)
        self._log(f"{store.uid} is going to be rolled back")

    def garble(self) -> None:
        """A stored payload cannot be read."""
        store = self._store()
        self._log(f"{store.uid} garbled")
        store.garble()

    def half_break(self) -> None:
        """A store loses some fields."""
        store = self._store()
        self._log(f"{store.uid} half broken")
        store.forget_some(self._rng)

    def clear(self) -> None:
        """People clear a store."""
        store = self._world.fleet
        self._log(f"{store.uid} cleared")
        store.clear(self._world.stamps.of_epoch(store.state.epoch + 1))
        store.send_notices()
        store.spoiled()

    def step_clock(self) -> None:
        """A store's clock is put forward or back."""
        store, seconds = self._store(), self._rng.choice((-1, 1)) * self._rng.choice((0.5, 5.0, 60.0, 3600.0))
        self._log(f"{store.uid} clock stepped by {seconds} s")
        store.step_clock(seconds)

    def pause_clock(self) -> None:
        """One worker's own clock stands still while it is stopped."""
        process = self._any_process()
        if process is not None and not process.frozen:
            seconds = self._a_while()
            self._log(f"{process.name} and its clock stopped for {seconds:.1f} s")
            process.stop(seconds, clock=True)

    def change(self) -> None:
        """PostHog serves something new, or something old again."""
        posthog = self._world.posthog
        back = self._rng.random() < 0.4 and posthog.newest > 1
        content = self._rng.randint(max(1, posthog.newest - 2), posthog.newest) if back else posthog.newest + 1
        if content != posthog.content:
            self._log(f"PostHog serves {content}")
            posthog.change(content)

    def late_news(self) -> None:
        """PostHog changes; the process that fetches this is cut off from the fleet's store, and PostHog fails."""
        posthog, store, refresh = self._world.posthog, self._world.fleet, self._plan.refresh

        def strike(who: str) -> None:
            posthog.served_new = None
            if self._over:
                return
            self._log(f"{who} alone has {posthog.content}: it is cut off, and PostHog answers 500")
            posthog.status, posthog.retry_after = 500, None
            store.cut_off.add(who)
            self._later(refresh * self._rng.uniform(0.3, 2), partial(store.cut_off.discard, who))
            self._later(refresh * self._rng.uniform(2, 5), partial(setattr, posthog, "status", 200))

        posthog.change(posthog.newest + 1)
        posthog.served_new = strike

    def refuse_all(self) -> None:
        """PostHog fails for all workers for a while."""
        posthog = self._world.posthog
        posthog.status, posthog.retry_after = self._rng.choice(_REFUSALS)
        self._log(f"PostHog answers {posthog.status} to all")
        self._later(self._a_while(), partial(setattr, posthog, "status", 200))

    def refuse_one(self) -> None:
        """PostHog fails for one process for a while."""
        process = self._any_process()
        if process is not None:
            bad = self._world.posthog.bad_keys
            bad[process.name] = self._rng.choice((0, 401, 403, 500))
            self._log(f"PostHog answers {bad[process.name]} to {process.name}")
            self._later(self._a_while(), lambda: bad.pop(process.name, None))

    def revoke(self) -> None:
        """PostHog refuses the key of one process permanently."""
        process = self._any_process()
        if process is not None and not self.revoked:
            self.revoked[process.name] = self._rng.choice((0, 401, 403))
            self._log(f"PostHog answers {self.revoked[process.name]} to {process.name}, for good")
            self._world.posthog.bad_keys.update(self.revoked)

    def slow(self) -> None:
        """PostHog is slow for a while."""
        posthog = self._world.posthog
        posthog.slowness = self._rng.choice((1.0, 5.0, 20.0))
        self._later(self._a_while(), partial(setattr, posthog, "slowness", 0.1))

    def lossy(self) -> None:
        """Messages are lost and doubled, all the time."""
        network, rng = self._world.network, self._rng
        network.lost_requests, network.lost_replies = rng.uniform(0, 0.15), rng.uniform(0, 0.15)
        network.lost_notices, network.doubled_notices = rng.uniform(0, 0.5), rng.uniform(0, 0.5)

    def evict(self) -> None:
        """The fleet's store is under memory pressure, all the time: it keeps nothing for long."""
        store = self._world.fleet
        store.evicts = not self._over
        if store.evicts:
            store.flush()
            self._later(self._rng.expovariate(1 / (0.003 * self._plan.refresh)), self.evict)

    def slow_network(self) -> None:
        """Messages to the stores are slow."""
        self._world.network.latency = self._rng.choice((0.02, 0.1, 0.3))


_LASTING = ("lossy", "slow_network", "evict")
TROUBLES: dict[str, Callable[[FaultInjector], None]] = {
    method.__name__: method
    for method in (
        FaultInjector.crash, FaultInjector.leave, FaultInjector.fork, FaultInjector.freeze, FaultInjector.trap,
        FaultInjector.request_threads, FaultInjector.partition, FaultInjector.outage, FaultInjector.frozen_store,
        FaultInjector.flush, FaultInjector.roll_back, FaultInjector.garble, FaultInjector.half_break,
        FaultInjector.clear, FaultInjector.step_clock, FaultInjector.pause_clock, FaultInjector.change,
        FaultInjector.refuse_all, FaultInjector.refuse_one, FaultInjector.revoke, FaultInjector.slow,
        FaultInjector.lossy, FaultInjector.slow_network, FaultInjector.late_news, FaultInjector.evict,
    )
}  # fmt: skip
"""All kinds of trouble by name."""
