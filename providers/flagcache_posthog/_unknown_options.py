"""Refuses unknown options of a cache, and suggests the right one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import ParamSpec, TypeVar

from flagcache.errors import ConfigurationError

__all__ = ["refuse_unknown_option", "refuses_unknown_options"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def refuses_unknown_options(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Decorate a function so that an unknown option raises a `ConfigurationError` that lists all options.

    The function's signature doesn't change, for `help()`, editors and type checkers.
    """
    parameters = inspect.signature(function).parameters.values()
    options = [each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY]
    accepted = {each.name for each in parameters}

    @functools.wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        if not accepted.issuperset(kwargs):
            refuse_unknown_option(next(name for name in kwargs if name not in accepted), options)
        return function(*args, **kwargs)

    return checked


def refuse_unknown_option(name: str, options: list[str]) -> None:
    """Refuse an option that isn't one of these.

    Raises:
        ConfigurationError: always; its message names the nearest option.
    """
    nearest = get_close_matches(name, options, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ";"
    raise ConfigurationError(f"unknown option {name!r}{hint} There are: {', '.join(sorted(options))}")
