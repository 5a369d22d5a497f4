"""The subscription of a process to its store's notices: opened again after a refusal, or if no notices arrive.

Polling is authoritative and notices are hints, so a broken subscription costs no poll. If the store refuses
subscriptions, the process retries with growing pauses and reports it once. If the connection is open but carries
nothing, a poll brings a change without a notice, and the process subscribes again.
"""

from __future__ import annotations

import logging
import math
from functools import partial

from flagcache.errors import StoreError
from flagcache.events import PushLost, PushRecovered
from flagcache.runtime.log_prefix import prefix
from flagcache.store_failures import REFUSED
from flagcache.stores.abilities import Subscription
from flagcache.worker.config import CacheConfig
from flagcache.worker.poll import StorePoller
from flagcache.worker.state import ProcessState
from flagcache.worker.troubles import PUBLISH, PUSH

__all__ = ["Notices"]

_log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0
"""Seconds before a refused subscription is tried again: at first, and at most. Each pause is twice the one before."""

_LATE = 2.0
"""Seconds after a poll that brought a change, within which its notice may still arrive."""

_CONFIRMED = 2.0
"""Refresh intervals without a confirmation, after which a notice of a grant is believed only for an empty store."""


class Notices:
    """The subscription of one process. Used by the listener's thread alone.

    Args:
        config: what all processes of the cache have in common.
        state: what this process knows.
        poller: subscribes.
    """

    def __init__(self, config: CacheConfig, state: ProcessState, poller: StorePoller) -> None:
        self._config = config
        self._state = state
        self._poller = poller
        self._subscribed = False
        self._version: str | None = None
        """What was held at the last check; None before the first one of a subscription."""
        self._announced = ""
        """The version in the latest notice."""
        self._changed_at = math.inf
        """When a change was found for which no notice has arrived."""
        self._pause = 0.0
        self._again_at = -math.inf
        self._refused_since = math.inf

    def subscribe(self) -> Subscription | None:
        """Open a subscription; None if the store fails, has no notices, or refused a subscription shortly before."""
        self._subscribed, self._version, self._changed_at = False, None, math.inf
        now = self._config.clock()
        if not self._state.stores.first_answers:
            self._pause, self._again_at, self._refused_since = 0.0, now, math.inf
            return None
        if now < self._again_at:
            return None
        try:
            subscription = self._poller.subscribe()
        except StoreError as exc:
            self._refused(exc, now)
            return None
        if subscription is not None:
            self._opened()
        return subscription

    def received(self, version: str) -> None:
        """A notice with this version arrived."""
        self._announced, self._changed_at = version, math.inf

    def granted(self, as_of: str) -> None:
        """A process was granted a fetch. A store that evicts keys may forget the grant and the lease, so note it here.

        Any program with the right to publish can send this notice and so delay the fleet's next fetch. It is believed
        only while fetches succeed, or if the store was empty at the latest poll: a store that evicts keys keeps no
        confirmation, and the right to publish is not enough to empty it.
        """
        now, managed = self._config.clock(), self._state.stores.first
        held, interval = self._state.know.held, self._config.settings.refresh_interval
        if held is None:
            return
        emptied = self._state.know.view(managed.store_name).stored is None
        if not emptied and now - held.born > _CONFIRMED * interval:
            return
        self._state.update(lambda know: know._replace(granted=max(know.granted or now, now)))
        view = self._state.know.view(managed.store_name)
        if view.leads and as_of != str(view.last_grant):
            self._state.lease_lost(managed)

    def check(self) -> None:
        """Check that notices arrive.

        Raises:
            StoreError: a poll brought a change without a notice, so the subscription is broken.
        """
        held = self._state.know.held
        if not self._subscribed or held is None or not self._state.shared:
            return
        now, before = self._config.clock(), self._version
        self._version = held.meta.version
        if before not in (None, self._version):
            self._changed_at = math.inf if self._version == self._announced else min(self._changed_at, now)
        if now - self._changed_at > _LATE:
            _log.info("%s: no notice of a change came: subscribing anew", prefix(self._config.namespace))
            raise StoreError("a poll brought a change of which no notice came")

    def _opened(self) -> None:
        self._subscribed = True
        self._pause, self._again_at, self._refused_since = 0.0, -math.inf, math.inf
        self._state.emit(self._state.troubles.end(PUSH, partial(PushRecovered, self._config.namespace)))

    def _refused(self, exc: StoreError, now: float) -> None:
        """Retry later. Report it only after a poll was answered meanwhile: an outage of the store is another event."""
        self._pause = min(max(_FIRST_PAUSE, 2 * self._pause), _LONGEST_PAUSE)
        self._again_at = now + self._pause
        self._refused_since = min(self._refused_since, now)
        troubles = self._state.troubles
        if exc.kind == "rights" and troubles.has(PUBLISH):
            return  # reported already: usually one right is missing for both
        if troubles.has(PUSH) or now - self._refused_since >= self._config.polls_every:
            lost = partial(PushLost, self._config.namespace, str(exc), REFUSED)
            self._state.emit(troubles.begin(PUSH, REFUSED, lost))
