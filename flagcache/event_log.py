"""The log of events: one line for each event, by the logger `flagcache`.

    flagcache[shop] web-1:4711: PostHog's quota is restored after 42 s; clients use all flags again

The record also has the event's plain values, in its attribute `flagcache`.
"""

from __future__ import annotations

import logging

from flagcache.event import Event
from flagcache.runtime.log_prefix import prefix, process_name

__all__ = ["log_events"]

_log = logging.getLogger("flagcache")


def log_events(event: Event) -> None:
    """Write an event to the logger `flagcache`, at its level."""
    if _log.isEnabledFor(event.level):
        extra = {"flagcache": {**event.as_dict(), "process": process_name()}}
        _log.log(event.level, "%s: %s", prefix(event.namespace), event, extra=extra)
