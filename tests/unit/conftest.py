"""Fixtures for all unit tests: an empty fleet in memory, and a bar to anything outside the tests' process."""

from __future__ import annotations

import os
import subprocess
from typing import NoReturn

import pytest

from tests.support.in_process_fleet import Fleet


@pytest.fixture
def fleet() -> Fleet:
    """No process has polled yet, and the store is empty."""
    return Fleet()


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse forks and programs: a test that needs one is no unit test."""

    def refuse(*_args: object, **_options: object) -> NoReturn:
        pytest.fail("a unit test starts no process: tests/README.md has the folders for those that do")

    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
