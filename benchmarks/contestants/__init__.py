"""Who is compared: each makes the client of one worker, as an application of its kind would.

All are given the same addresses, keys and intervals; what else a contestant sets is said in its module.
"""

from __future__ import annotations

from benchmarks.contestants._contestant import Contestant, Place, Seat, WatchedPosthog, key_of
from benchmarks.contestants.alone import ALONE
from benchmarks.contestants.example import EXAMPLE
from benchmarks.contestants.republishing import REPUBLISHING
from benchmarks.contestants.sharing import ATTACHED, ATTACHED_SQLITE, PROTOCOL, PROTOCOL_SQLITE, READER

__all__ = ["CONTESTANTS", "EVERYBODY", "ON_REDIS", "Contestant", "Place", "Seat", "WatchedPosthog", "key_of"]

CONTESTANTS: dict[str, Contestant] = {
    each.name: each
    for each in (
        ALONE,
        EXAMPLE,
        REPUBLISHING,
        PROTOCOL,
        ATTACHED,
        PROTOCOL_SQLITE,
        ATTACHED_SQLITE,
        READER,
    )
}
"""All of them, by name, in the order of the tables."""

ON_REDIS = tuple(each.name for each in (ALONE, EXAMPLE, REPUBLISHING, PROTOCOL, ATTACHED))
EVERYBODY = (*ON_REDIS, PROTOCOL_SQLITE.name, ATTACHED_SQLITE.name)
"""All that can be whole fleets; a reader needs somebody who fills the store."""
