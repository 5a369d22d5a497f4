"""A pytest fixture for tests that need a PostHog.

Switch it on in the top `conftest.py`:

    pytest_plugins = ["flagcache_posthog.testing.pytest_plugin"]

and ask for it by its name:

    def test_checkout(posthog_standin):
        client = Posthog("phc_test", secret_key="phs_test", host=posthog_standin.url)
        posthog_standin.set_flag("flag-0", active=False)
        ...
        assert posthog_standin.flag_requests == 10
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .standin import PostHogStandIn

__all__ = ["posthog_standin"]


@pytest.fixture
def posthog_standin() -> Iterator[PostHogStandIn]:
    """A PostHog for one test, on 127.0.0.1, serving `make_definitions()`: `flag-0` is on for everybody."""
    with PostHogStandIn() as standin:
        yield standin
