"""All contestants, by name, in the order of the tables."""

from __future__ import annotations

from benchmarks.contestants.alone import ALONE
from benchmarks.contestants.contestant import Contestant
from benchmarks.contestants.example import BARE, EXAMPLE
from benchmarks.contestants.republishing import REPUBLISHING
from benchmarks.contestants.sharing import ATTACHED, ATTACHED_SQLITE, PROTOCOL, PROTOCOL_SQLITE, READER

__all__ = ["CONTESTANTS", "EVERYBODY", "ON_REDIS"]

CONTESTANTS: dict[str, Contestant] = {
    each.name: each
    for each in (ALONE, EXAMPLE, REPUBLISHING, BARE, PROTOCOL, ATTACHED, PROTOCOL_SQLITE, ATTACHED_SQLITE, READER)
}

ON_REDIS = tuple(each.name for each in (ALONE, EXAMPLE, REPUBLISHING, PROTOCOL, ATTACHED))
"""The contestants that can be whole fleets and don't share a file instead of a Redis."""

EVERYBODY = (*ON_REDIS, PROTOCOL_SQLITE.name, ATTACHED_SQLITE.name)
"""The contestants that can be whole fleets: readers need another process that fills the store."""
