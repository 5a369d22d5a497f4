"""The state of one namespace in a store, except the payload, and how its times are read. Pure.

A stored time that lies further ahead of the clock than its own length counts as past (`running`), so a clock that was
stepped back stops nothing.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from flagcache.stores.base import Meta

__all__ = ["FAR", "Outcome", "State", "believable", "passed", "running"]

FAR = 315_360_000_000
"""Ten years in milliseconds. A number further ahead of the clock is no time, and counting on from it would reach
2**53."""


class Outcome(str, Enum):
    """The outcome of the latest grant."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"


class State(NamedTuple):
    """Everything stored for one namespace, except the payload."""

    meta: Meta | None = None
    """None: nothing is stored, or nothing readable."""
    epoch: int = 0
    epoch_stamp: str = ""
    """The signed epoch, if the process that raised it has a key."""
    invalid_epoch: bool = False
    """The stored epoch is too high: no worker wrote it, and it counts as 0. Not stored."""
    highest: int = 0
    """The highest `as_of` ever stored or granted; the next grant's is higher."""
    grant: int = 0
    """`as_of` of the latest grant."""
    granted: tuple[int, int, int] = (0, 0, 0)
    """The clock at the latest three grants, newest first."""
    holder: str = ""
    outcome: Outcome = Outcome.DONE
    reporting: int = 0
    """The latest grant whose holder reports its answers; `grant` itself, or an earlier one."""
    renewing: int = 0
    """The latest grant whose holder renews its lease each second while fetching; `grant` itself, or an earlier one."""
    fence: int = 0
    """The highest grant before the latest one whose holder does not report and that is not known to have failed. What
    was fetched on an earlier grant may be older than what that holder found."""
    failures: int = 0
    """Grants in a row whose fetch failed."""
    owner: str = ""
    """The holder of the lease."""
    lease_until: int = 0
    lease_length: int = 0
    led_since: int = 0
    """When the present leader began to lead, or a challenge was last put off."""
    deputy: str = ""
    """The follower that checks whether each due fetch was granted."""
    deputy_seen: int = 0
    """When the deputy was named, or last looked."""
    backoff_status: int = 0
    """Why the latest fetch failed for all workers, until one succeeds."""
    backoff_until: int = 0
    backoff_length: int = 0
    backoff_stamp: str = ""
    """The signed note, if its writer has a key."""
    repair_asked: int = 0
    """When an asker was last asked to repair the store."""
    replaced_at: int = 0
    """When definitions were last replaced by a process that lacks their key."""
    key_missed_at: int = 0
    """When holders were last asked to look because a process lacks the key of what is stored."""


def running(end: int, length: int, clock: int) -> bool:
    """Whether something of this length that ends at this time is still under way; not if it ends too far ahead."""
    return clock < end <= clock + length


def believable(state: State, clock: int) -> State:
    """Return the state without impossible orders, for stores that others may have written to."""
    if state.epoch > clock + FAR:  # no `clear` counts so high; and as the clock continues, there is always a next epoch
        meta = state.meta and state.meta._replace(epoch=0)
        state = state._replace(epoch=0, epoch_stamp="", invalid_epoch=True, meta=meta)
    meta = state.meta if state.meta is None or state.meta.as_of <= clock + FAR else None
    highest = state.highest if state.highest <= clock + FAR else 0
    grant = state.grant if state.grant <= clock + FAR else 0
    fence = state.fence if state.fence <= grant else 0  # it is the `as_of` of an earlier grant
    if (meta, highest, grant, fence) == (state.meta, state.highest, state.grant, state.fence):
        return state
    highest = max(highest, grant, meta.as_of if meta else 0)
    return state._replace(meta=meta, highest=highest, grant=grant, fence=fence)


def passed(since: int, length: int, clock: int) -> bool:
    """Whether this length has passed since then."""
    return not running(since + length, length, clock)
