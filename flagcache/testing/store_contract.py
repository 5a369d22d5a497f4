"""The contract of a store: `StoreContract` is for every store, the other classes are for stores with an ability.

| class                  | for stores                              | fixtures to define                     |
|------------------------|-----------------------------------------|----------------------------------------|
| `StoreContract`        | all                                     | `make_store`                           |
| `ProcessContract`      | that several processes share            | `make_store`                           |
| `SubscriptionContract` | that send notices (`Subscribable`)      | `make_store`                           |
| `DamageContract`       | whose content others can damage         | `make_store`, `damage`                 |
| `ClockContract`        | whose clock tests can set               | `make_store`, `pass_time`              |

By default `pass_time` waits until the store's own clock has moved on; a store whose clock can be set defines a faster
one. Override `namespace` too if the store allows only certain names.
"""

from __future__ import annotations

from flagcache.testing._store.cases import MakeStore, PassTime
from flagcache.testing._store.challenge import ChallengeCases
from flagcache.testing._store.clocks import ClockContract
from flagcache.testing._store.concurrency import ConcurrencyCases, ProcessContract
from flagcache.testing._store.damage import Damage, DamageContract
from flagcache.testing._store.deputies import DeputyCases
from flagcache.testing._store.epochs import EpochCases
from flagcache.testing._store.failures import FailureCases
from flagcache.testing._store.grants import GrantCases
from flagcache.testing._store.leases import LeaseCases
from flagcache.testing._store.order import OrderCases
from flagcache.testing._store.reading import ReadingCases
from flagcache.testing._store.refreshers import RefresherCases
from flagcache.testing._store.repair import RepairCases
from flagcache.testing._store.replacing import ReplacingCases
from flagcache.testing._store.stamps import StampCases
from flagcache.testing._store.subscription import SubscriptionContract
from flagcache.testing._store.waiting import WaitingCases

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


class StoreContract(
    LeaseCases,
    GrantCases,
    OrderCases,
    ReadingCases,
    RepairCases,
    ReplacingCases,
    EpochCases,
    ChallengeCases,
    FailureCases,
    RefresherCases,
    DeputyCases,
    WaitingCases,
    StampCases,
    ConcurrencyCases,
):
    """The tests that every store passes. Subclass it as `Test...`, and add the fixture `make_store`."""
