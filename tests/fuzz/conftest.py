"""Fixtures for all fuzz tests, and a report at the end: the number of inputs of each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache.encoding.protection import protection_of
from flagcache.errors import EnvelopeError
from flagcache.settings import Options
from flagcache_posthog.definitions import PostHogVendor
from tests.fuzz.damaged_caches import InputCount

KEY = "a key of more than sixteen bytes"
KINDS: dict[str, Options] = {"plain": {}, "signed": {"signing_key": KEY}, "sealed": {"encryption_key": KEY}}

fuzz = partial(
    settings,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    phases=[Phase.explicit, Phase.generate],  # the victims have a past: what failed cannot be made smaller
)

_INPUTS = "inputs tried"


def named(kind: str, digest: str) -> str:
    """How a store of this kind names a content of this digest."""
    return protection_of(KINDS[kind].get("signing_key"), KINDS[kind].get("encryption_key")).names(digest)[0]


def well_formed(got: FlagDefinitionCacheData) -> bool:
    """Whether the SDK can take it."""
    try:
        PostHogVendor().check(got)
    except EnvelopeError:
        return False
    return True


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return each protection in turn."""
    return cast("str", request.param)


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Iterator[InputCount]:
    """Counts inputs; the figure is shown in the summary of the run, also where other processes ran the tests."""
    counted = InputCount()
    yield counted
    request.node.user_properties.append((_INPUTS, counted.inputs))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures."""
    reports = [report for kind in terminalreporter.stats.values() for report in kind if hasattr(report, "when")]
    figures = {
        report.nodeid: figure
        for report in reports
        if report.when == "teardown"
        for name, figure in report.user_properties
        if name == _INPUTS
    }
    if not figures:
        return
    terminalreporter.section("hostile inputs tried")
    for name, figure in sorted(figures.items()):
        terminalreporter.write_line(f"{figure:>8} {name.partition('::')[2]}")
    terminalreporter.write_line(f"{sum(figures.values()):>8} in all")
