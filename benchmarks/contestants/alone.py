"""No provider: every process asks PostHog for itself."""

from __future__ import annotations

from benchmarks.contestants.contestant import Contestant, make_client

__all__ = ["ALONE"]

ALONE = Contestant("none", "no provider", "none", make_client)
