"""Fixtures for tests with whole fleets: both kinds of clients, and the directories of their fallback files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.attached_clients import attached
from tests.support.fleet_tasks import seats
from tests.support.seat_factories import MakeSeats


@pytest.fixture(params=[seats, attached], ids=["protocol", "attached"])
def make_seats(request: pytest.FixtureRequest) -> MakeSeats:
    """Both modes in turn."""
    made: MakeSeats = request.param
    return made


@pytest.fixture
def state() -> Path:
    """Where the fallback stores of this test lie."""
    return Path(os.environ["XDG_STATE_HOME"]) / "flagcache"
