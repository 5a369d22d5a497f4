"""Every verb of a store, each as a call without arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Protocol

from flagcache.stores.abilities import Subscribable
from flagcache.stores.base import Ask, Envelope, Grant, Meta, Scope, Store

__all__ = ["ASK", "ME", "FleetStore", "every_verb"]

ME = "tester"
ASK = Ask(ME, interval=60_000, lease=60_000, cold_lease=60_000, challenge=600_000)


class FleetStore(Store, Subscribable, Protocol):
    """A store with notices, as each store in the package is."""


def every_verb(store: FleetStore) -> Mapping[str, Callable[[], object]]:
    """Return every verb, as a leader uses it."""
    grant = Grant(0, 1, 1)
    meta = Meta("v1", grant.epoch, grant.as_of, grant.at, grant.at)

    def listen() -> object:
        with closing(store.subscribe()) as subscription:
            return subscription.get(0.0)

    return {
        "poll": lambda: store.poll(ASK),
        "publish": lambda: store.publish(ME, Envelope(meta, b"some"), fresh=True, lease=60_000),
        "confirm": lambda: store.confirm(ME, meta.version, grant, lease=60_000),
        "fail": lambda: store.fail(ME, grant.as_of, Scope.EVERYBODY, status=500, retry_after=60_000),
        "renew": lambda: store.renew(ME, 60_000),
        "release": lambda: store.release(ME, idle=False),
        "report": lambda: store.report(ME, meta.version, 60_000),
        "discard": lambda: store.discard(ME, meta.version),
        "inspect": store.inspect,
        "clear": store.clear,
        "subscribe": listen,
    }
