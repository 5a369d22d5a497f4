"""Fleets whose tests run with attached clients and with others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from flagcache_posthog.testing import StandInControl
from tests.support.real_fleet import MemberContext

__all__ = ["MakeContexts"]


class MakeContexts(Protocol):
    """Clients of a fleet, attached or not."""

    def __call__(
        self,
        posthog: StandInControl,
        store_url: str,
        namespace: str,
        *,
        every: float = ...,
        store_timeout: float = ...,
        first_load_max_age: float = ...,
    ) -> Callable[[int], MemberContext]:
        """Return what makes a member's context."""
        ...
