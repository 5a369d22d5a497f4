"""Random torture of a real fleet: faults of PostHog, Redis and workers, with a record of the truth.

    with Torture(backends, server, kind, seed) as torture:
        torture.run_for(6.0)
        torture.heal()
        assert not torture.faults()

Each worker writes what it holds to its own file at once, so that the record of a killed one is complete.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from typing_extensions import Self

from flagcache_posthog.testing import Drop, Refuse, make_definitions
from tests.support.attached_clients import AttachedContext
from tests.support.client_kinds import contexts_in
from tests.support.fleet_tasks import all_hold, asker, asks, key_of, load, status
from tests.support.order_check import backward_steps, in_words
from tests.support.real_fleet import Call, Fleet, Member, Sighting
from tests.support.scenario import Backends, Mode
from tests.support.servers import RedisServer, until

__all__ = ["EVERY", "FLEETS", "Torture"]

EVERY = 0.3
"""Seconds between two requests of the fleet, and between two polls of a client."""

SIZE = 6
_PATIENCE = 8.0
"""Seconds that a busy machine, and stores that are asked again more and more rarely, may take in the end."""

FLEETS: dict[str, Sequence[Mode]] = {
    "attached": (Mode.ATTACHED,),
    "protocol": (Mode.PROTOCOL,),
    "mixed": (Mode.ATTACHED, Mode.PROTOCOL),
}
"""The kinds of clients of the workers, in turn."""


class _WrittenHistory(list[Sighting]):
    """A history that is in a file at once."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def append(self, seen: Sighting) -> None:
        """Record it."""
        os.write(self._file, f"{seen.at} {seen.flags} {seen.revision}\n".encode())
        super().append(seen)


def _read(path: Path) -> list[Sighting]:
    words = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [Sighting(float(at), _number(flags), _number(revision)) for at, flags, revision in words]


def _number(word: str) -> int | None:
    return None if word == "None" else int(word)


class Torture:
    """One fleet of six under random faults.

    Args:
        backends: Those of the fleet; its PostHog serves revision 1.
        server: Its Redis.
        kind: One of `FLEETS`.
        seed: The source of all choices. Their moments differ from run to run, as far as the machine does.
        folder: For what the workers write down.
    """

    def __init__(self, backends: Backends, server: RedisServer, kind: str, seed: int, folder: Path) -> None:
        self._posthog, self._server, self._folder = backends.posthog, server, folder
        self._rng = random.Random(f"{kind}/{seed}")
        self._modes = FLEETS[kind]
        self._make_context = {
            mode: contexts_in(mode, backends, refresh=EVERY, polls=EVERY, store_timeout=0.2, lease=3 * EVERY)
            for mode in Mode
        }
        self._fleet = Fleet(self._make, SIZE)
        self._loading: dict[Member, Call[int | None]] = {}
        self._frozen: set[Member] = set()
        self._revision = 1
        self._redis = "up"
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._fleet.__enter__()
        for member in self._fleet:
            self._loading[member] = member.begin(load)
        self._loaded()
        return self

    def __exit__(self, *exc: object) -> None:
        self._fleet.__exit__(*exc)

    # --- what happens -----------------------------------------------------------------------------------------------

    def run_for(self, seconds: float) -> None:
        """Let random events happen for this long."""
        acts: dict[Callable[[], None], int] = {
            self._change: 4,
            self._break_posthog: 3,
            self._cut_off_after_an_answer: 2,
            self._heal_posthog: 3,
            self._break_redis: 3,
            self._heal_redis: 4,
            self._freeze: 3,
            self._thaw: 4,
            self._kill: 1,
            self._join: 1,
        }
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            [act] = self._rng.choices(list(acts), list(acts.values()))
            act()
            time.sleep(self._rng.uniform(0.02, 1.2 * EVERY))

    def heal(self) -> None:
        """End all faults, and check that a change reaches every worker in time."""
        self._heal_posthog()
        self._heal_redis()
        while self._frozen:
            self._thaw()
        self._loaded()
        until(
            lambda: all(each.store_answers for each in self._fleet.call(status)),
            _PATIENCE,
            every=0.05,
            what="all to have their store back",
        )
        self._change()
        all_hold(self._fleet, self._revision, within=10 * EVERY + _PATIENCE)

    def faults(self) -> list[str]:
        """Every worker that went back or lost its flags, in words."""
        records = [(f"worker {index}", _read(self._history_file(index))) for index in range(len(self._fleet.members))]
        lost = [
            f"{who} lost its flags: {in_words(held)}"
            for (who, held), mode in zip(records, self._modes_of_members(), strict=True)
            if mode is Mode.ATTACHED and _lost_flags(held)
        ]
        back = backward_steps(records, self._posthog.truths())
        return [*(f"went back: {each}" for each in back), *lost]

    def _modes_of_members(self) -> list[Mode]:
        return [self._modes[member.index % len(self._modes)] for member in self._fleet.members]

    def _make(self, index: int) -> AttachedContext:
        context = self._make_context[self._modes[index % len(self._modes)]](index)
        context.client.history = _WrittenHistory(self._history_file(index))
        return context

    def _history_file(self, index: int) -> Path:
        return self._folder / f"worker-{index}"

    def _loaded(self) -> None:
        """Wait for the first loads under way."""
        for member, call in self._loading.items():
            if member.alive:
                call.result(within=20.0)
        self._loading.clear()

    def _log(self, what: str) -> None:
        sys.stdout.write(f"{time.monotonic() - self._began:7.3f} {what}\n")

    # --- PostHog ------------------------------------------------------------------------------------------------------

    def _change(self) -> None:
        self._revision += 1
        self._log(f"PostHog serves revision {self._revision}")
        self._posthog.serve(make_definitions(5, revision=self._revision))

    def _break_posthog(self) -> None:
        kind = self._rng.choice(["500", "500", "drop", "slow", "revoked", "hold"])
        self._log(f"PostHog: {kind}")
        if kind == "500":
            self._posthog.fail(500)
        elif kind == "drop":
            self._posthog.fail(Drop(), times=self._rng.randint(1, 4))
        elif kind == "slow":
            self._posthog.set_delay(self._rng.uniform(0.1, 3 * EVERY))
        elif kind == "revoked":
            victim = self._rng.choice(list(self._fleet))
            self._posthog.fail(Refuse(401), secret_key=key_of(victim.index), times=3)
        else:
            self._posthog.hold(times=1)

    def _cut_off_after_an_answer(self) -> None:
        """One fetch brings a new revision, nothing comes after it for a while; its worker or Redis is in trouble."""
        self._change()
        self._posthog.hold(times=1)
        with contextlib.suppress(TimeoutError):
            self._posthog.wait_for_held(1, timeout=4 * EVERY)
        self._log("PostHog: 500 after the answer under way")
        self._posthog.fail(500)
        caught = asker(self._fleet, asks(self._posthog)[-1])
        if caught.alive and caught not in self._frozen and self._rng.random() < 0.5:
            self._log(f"{caught} is frozen")
            caught.freeze()
            self._frozen.add(caught)
        if self._rng.random() < 0.5:
            self._break_redis()
        self._posthog.release()
        time.sleep(self._rng.uniform(1.0, 7.0) * EVERY)
        self._heal_redis()
        if caught in self._frozen:
            self._log(f"{caught} is thawed")
            caught.thaw()
            self._frozen.discard(caught)
        time.sleep(self._rng.uniform(1.0, 5.0) * EVERY)

    def _heal_posthog(self) -> None:
        self._log("PostHog is well")
        self._posthog.recover()
        self._posthog.set_delay(0)
        self._posthog.release()

    # --- Redis --------------------------------------------------------------------------------------------------------

    def _break_redis(self) -> None:
        if self._redis != "up":
            return
        kind = self._rng.choice(["killed", "killed, to be restored", "frozen", "flushed"])
        self._log(f"Redis: {kind}")
        if kind == "flushed":
            self._server.client().flushall()
            return
        if kind == "frozen":
            self._server.freeze()
        else:
            (self._server.directory / "dump.rdb").unlink(missing_ok=True)
            if kind != "killed":
                self._server.client().save()
            self._server.kill()
        self._redis = kind

    def _heal_redis(self) -> None:
        if self._redis == "up":
            return
        self._log("Redis is back")
        if self._redis == "frozen":
            self._server.thaw()
        else:
            self._server.start()
        self._redis = "up"

    # --- workers ------------------------------------------------------------------------------------------------------

    def _freeze(self) -> None:
        awake = [member for member in self._fleet if member not in self._frozen]
        if len(awake) > 2:
            victim = self._rng.choice(awake)
            self._log(f"{victim} is frozen")
            victim.freeze()
            self._frozen.add(victim)

    def _thaw(self) -> None:
        if self._frozen:
            victim = self._rng.choice(sorted(self._frozen, key=lambda member: member.index))
            self._log(f"{victim} is thawed")
            victim.thaw()
            self._frozen.discard(victim)

    def _kill(self) -> None:
        victims = list(self._fleet)
        if len(victims) > 3:
            victim = self._rng.choice(victims)
            self._log(f"{victim} is killed")
            victim.kill()
            self._frozen.discard(victim)

    def _join(self) -> None:
        [member] = self._fleet.join(1)
        self._log(f"{member} comes")
        self._loading[member] = member.begin(load)


def _lost_flags(held: Sequence[Sighting]) -> bool:
    """Whether a client that had flags ever had none after that."""
    first = next((index for index, seen in enumerate(held) if seen.flags), len(held))
    return any(not seen.flags for seen in held[first:])
