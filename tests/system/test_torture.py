from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.scenario import Backends
from tests.support.servers import RedisServer
from tests.system.torture import FLEETS, Torture

ROUNDS = int(os.environ.get("TORTURE_ROUNDS", "2"))
FIRST = int(os.environ.get("TORTURE_SEED", "0"))
SECONDS = float(os.environ.get("TORTURE_SECONDS", "6"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FIRST, FIRST + ROUNDS))
@pytest.mark.parametrize("kind", FLEETS)
def test_no_worker_goes_back_and_all_converge(
    kind: str, seed: int, backends: Backends, server: RedisServer, tmp_path: Path
) -> None:
    """PostHog, Redis and workers fail at random: no worker shows what PostHog had replaced, and all agree at last."""
    sys.stdout.write(f"to play this again: TORTURE_SEED={seed} TORTURE_ROUNDS=1 pytest tests/system -k {kind}\n")
    with Torture(backends, server, kind, seed, tmp_path) as torture:
        torture.run_for(SECONDS)
        torture.heal()
        faults = torture.faults()
    assert not faults, "\n".join(faults)
