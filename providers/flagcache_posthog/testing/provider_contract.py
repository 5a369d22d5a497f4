"""The contract of a provider: `ProviderContract` for every one, `OutageContract` for those whose store can fail.

| class              | for providers                    | fixtures to give          |
|--------------------|----------------------------------|---------------------------|
| `ProviderContract` | all                              | `make_provider`           |
| `OutageContract`   | whose store a test can stop      | `make_provider`, `outage` |

A provider of your own passes if this does:

    class TestMyProvider(ProviderContract):
        @pytest.fixture
        def make_provider(self) -> MakeProvider:
            return lambda namespace: MyProvider(namespace, refresh_interval=0.2)

It runs through the real `posthog.Posthog` against `PostHogStandIn`, and includes the behaviours on which PostHog's SDKs
agree. Methods may be plain or asynchronous. Give the provider the shortest interval that it allows, because cases wait
until it fetches a second time (at most `next_fetch` seconds). If its wait for another process's first fetch can be set,
override `make_impatient` too: every call must return within `longest_wait` seconds.

Needs pytest: `pip install "flagcache[testing]"`.
"""

from __future__ import annotations

from flagcache.errors import MissingExtraError

try:
    import pytest
except ImportError as exc:
    raise MissingExtraError('the contract suites run under pytest: pip install "flagcache[testing]"') from exc

pytest.register_assert_rewrite(f"{__package__}._provider")  # before it is imported: failures then show the values

from ._provider.cases import MakeProvider  # noqa: E402 - see above
from ._provider.loader import LoaderCases  # noqa: E402
from ._provider.outage import Outage, OutageContract  # noqa: E402
from ._provider.protocol import ProtocolCases  # noqa: E402
from ._provider.waiting import WaitingCases  # noqa: E402

__all__ = ["MakeProvider", "Outage", "OutageContract", "ProviderContract"]


class ProviderContract(ProtocolCases, LoaderCases, WaitingCases):
    """The tests that every provider passes. Subclass it as `Test...`, and add the fixture `make_provider`."""
