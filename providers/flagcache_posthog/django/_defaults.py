"""Defaults for missing settings, from a module that reads other settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

__all__ = ["use_defaults_from", "uses_defaults_from", "with_defaults"]


class _DefaultsSource:
    """The function that returns this process's defaults."""

    def __init__(self) -> None:
        self.read: Callable[[], dict[str, Any]] | None = None


_source = _DefaultsSource()


def use_defaults_from(read: Callable[[], dict[str, Any]] | None) -> None:
    """Use the defaults of a function, which returns them by the keys of `FLAGCACHE`; None: no defaults.

    The options in `CLIENT` are completed one by one.
    """
    _source.read = read


def uses_defaults_from(read: Callable[[], dict[str, Any]]) -> bool:
    """Whether defaults come from this function."""
    return _source.read is read


def with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, with defaults for the missing ones."""
    if _source.read is None:
        return dict(given)
    defaults = _source.read()
    completed = {**defaults, **given}
    client: object = completed["CLIENT"]
    if isinstance(client, Mapping):
        completed["CLIENT"] = {**defaults["CLIENT"], **cast("Mapping[str, Any]", client)}
    return completed
