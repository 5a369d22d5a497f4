"""Fixtures for tests with whole fleets: both kinds of clients, and the directories of their fallback files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.attached_clients import attached
from tests.support.context_factories import MakeContexts
from tests.support.fleet_tasks import contexts


@pytest.fixture(params=[contexts, attached], ids=["protocol", "attached"])
def make_contexts(request: pytest.FixtureRequest) -> MakeContexts:
    """Return both modes in turn."""
    made: MakeContexts = request.param
    return made


@pytest.fixture
def state() -> Path:
    """Return the directory of this test's fallback stores."""
    return Path(os.environ["XDG_STATE_HOME"]) / "flagcache"
