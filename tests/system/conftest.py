"""Which scenarios run: none without `SYSTEM=1`, because they take minutes on a quiet machine.

`SYSTEM_TRUE_SCALE=1` plays the scenarios at the SDK's default intervals too, which take minutes. `TORTURE_ROUNDS=20`
plays this many rounds of the random torture, from seed `TORTURE_SEED` on. A failed test prints how to play it again.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.scenario_fixtures import backends, server

__all__ = ["backends", "server"]

_ASKED_FOR = bool(os.environ.get("SYSTEM"))
_TRUE_SCALE = bool(os.environ.get("SYSTEM_TRUE_SCALE"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests that were not requested."""
    if _ASKED_FOR and _TRUE_SCALE:
        return
    here = Path(__file__).parent
    left_out = [
        item
        for item in items
        if here in item.path.parents and (not _ASKED_FOR or item.get_closest_marker("true_scale"))
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
