"""Fixtures for all tests of the worker."""

from __future__ import annotations

import pytest

from tests.support.in_process_fleet import Fleet


@pytest.fixture
def fleet() -> Fleet:
    """No process has polled yet, and the store is empty."""
    return Fleet()
