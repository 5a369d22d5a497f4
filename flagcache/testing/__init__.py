"""Contract suites: tests to subclass, which every implementation of an interface must pass.

Your own store passes if this class does. The fixture returns handles onto one backing, each as a process would open it:

    class TestMyStore(StoreContract):
        @pytest.fixture
        def make_store(self, tmp_path: Path) -> MakeStore:
            return lambda namespace: MyStore(tmp_path / "store", namespace)

Needs pytest: `pip install "flagcache[testing]"`.
"""

from __future__ import annotations

from flagcache.errors import MissingExtraError

try:
    import pytest
except ImportError as exc:
    raise MissingExtraError('the contract suites run under pytest: pip install "flagcache[testing]"') from exc

pytest.register_assert_rewrite("flagcache.testing._store")  # before it is imported: failures then show the values

from flagcache.testing.store_contract import (  # noqa: E402 - see above
    ClockContract,
    Damage,
    DamageContract,
    MakeStore,
    PassTime,
    ProcessContract,
    StoreContract,
    SubscriptionContract,
)

__all__ = [
    "ClockContract",
    "Damage",
    "DamageContract",
    "MakeStore",
    "PassTime",
    "ProcessContract",
    "StoreContract",
    "SubscriptionContract",
]
