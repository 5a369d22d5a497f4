"""Checks that no worker went back to what PostHog had replaced, from the record of what PostHog served."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flagcache_posthog.testing import Truth
from tests.support.fleet_tasks import history, in_order
from tests.support.real_fleet import Member, Sighting

__all__ = ["Record", "backward_steps", "in_words", "records_of"]

Record = tuple[str, Sequence[Sighting]]
"""A worker's name, and everything that its client ever held."""


def in_words(held: Sequence[Sighting]) -> str:
    """What a client held, each change once, in words."""
    words = ["none" if not seen.flags else f"r{seen.revision}" for seen in held]
    return " ".join(word for place, word in enumerate(words) if place == 0 or word != words[place - 1])


def backward_steps(records: Iterable[Record], truths: Sequence[Truth]) -> list[str]:
    """Return every worker that went back to something that PostHog had replaced, in words."""
    return [f"{who}: {in_words(held)}" for who, held in records if not in_order(held, truths)]


def records_of(members: Iterable[Member]) -> list[Record]:
    """What the clients of these members held so far."""
    return [(repr(member), member.call(history)) for member in members]
