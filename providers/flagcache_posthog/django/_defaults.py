"""What stands for settings that a project does not have, if a module that reads others says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

__all__ = ["assume", "assumes", "with_defaults"]


class _Assumed:
    """Where defaults come from in this process."""

    def __init__(self) -> None:
        self.read: Callable[[], dict[str, Any]] | None = None


_assumed = _Assumed()


def assume(read: Callable[[], dict[str, Any]] | None) -> None:
    """Take defaults by the keys of `FLAGCACHE` from a function, of `CLIENT` for each option; None: there are none."""
    _assumed.read = read


def assumes(read: Callable[[], dict[str, Any]]) -> bool:
    """Whether defaults come from this function."""
    return _assumed.read is read


def with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, completed."""
    if _assumed.read is None:
        return dict(given)
    assumed = _assumed.read()
    completed = {**assumed, **given}
    client: object = completed["CLIENT"]
    if isinstance(client, Mapping):
        completed["CLIENT"] = {**assumed["CLIENT"], **cast("Mapping[str, Any]", client)}
    return completed
