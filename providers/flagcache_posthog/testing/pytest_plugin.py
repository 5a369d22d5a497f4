"""Fixtures and a marker for pytest: flags with fixed values, and a stand-in for PostHog.

Enable it in the top `conftest.py`:

    pytest_plugins = ["flagcache_posthog.testing.pytest_plugin"]

and give flags fixed values:

    @pytest.mark.flags({"new-checkout": True, "price": "b"}, payloads={"price": {"amount": 9}})
    def test_checkout(client): ...

    def test_basket(override_flags):
        override_flags({"new-checkout": False})
        ...

or request a stand-in for PostHog by its name:

    def test_checkout(posthog_standin):
        client = Posthog("phc_test", secret_key="phs_test", host=posthog_standin.url)
        posthog_standin.set_flag("flag-0", active=False)
        ...
        assert posthog_standin.flag_requests == 10
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import ExitStack
from typing import Protocol

import pytest

from . import override
from .override import FlagValue, UnknownFlagError
from .standin import PostHogStandIn

__all__ = ["OverrideFlags", "override_flags", "posthog_standin"]


class OverrideFlags(Protocol):
    """The type of the fixture `override_flags`."""

    def __call__(
        self,
        values: Mapping[str, FlagValue],
        *,
        payloads: Mapping[str, object] | None = None,
        allow_unknown: bool | Collection[str] = False,
    ) -> None:
        """Give flags fixed values until the test ends; as `flagcache_posthog.testing.override_flags`."""


@pytest.fixture
def posthog_standin() -> Iterator[PostHogStandIn]:
    """A PostHog for one test, on 127.0.0.1, serving `make_definitions()`: `flag-0` is on for every user."""
    with PostHogStandIn() as standin:
        yield standin


@pytest.fixture
def override_flags() -> Iterator[OverrideFlags]:
    """A function that gives flags fixed values until the test ends; a later call overrides an earlier one."""
    with ExitStack() as stack:

        def start(
            values: Mapping[str, FlagValue],
            *,
            payloads: Mapping[str, object] | None = None,
            allow_unknown: bool | Collection[str] = False,
        ) -> None:
            stack.enter_context(override.override_flags(values, payloads=payloads, allow_unknown=allow_unknown))

        yield start


@pytest.fixture(autouse=True)
def _flags_of_markers(request: pytest.FixtureRequest) -> Iterator[None]:
    """The markers `flags` of a test, its class and its module; the nearest counts."""
    with ExitStack() as stack:
        for marker in reversed(list(request.node.iter_markers("flags"))):
            stack.enter_context(override.override_flags(*marker.args, **marker.kwargs))
        yield


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "flags(values, payloads=None, allow_unknown=False): give feature flags fixed values, as override_flags does",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Fail the test itself, and not its teardown, if it read an unknown flag."""
    try:
        yield
    except UnknownFlagError:
        override.forget_unknown()
        raise
    override.raise_unknown()
