"""Defaults for settings that a project does not have, taken from a module that reads other settings."""

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
    """Take the defaults from a function, which returns them by the keys of `FLAGCACHE`; None: there are none.

    Those of `CLIENT` are completed option by option.
    """
    _assumed.read = read


def assumes(read: Callable[[], dict[str, Any]]) -> bool:
    """Whether defaults come from this function."""
    return _assumed.read is read


def with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, with defaults for the missing ones."""
    if _assumed.read is None:
        return dict(given)
    assumed = _assumed.read()
    completed = {**assumed, **given}
    client: object = completed["CLIENT"]
    if isinstance(client, Mapping):
        completed["CLIENT"] = {**assumed["CLIENT"], **cast("Mapping[str, Any]", client)}
    return completed
