"""Mistakes in how a cache is made, named with their remedy."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import ParamSpec, TypeVar

from flagcache.errors import ConfigurationError

__all__ = ["names_mistakes", "refuse_unknown"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def names_mistakes(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Have a function with keyword-only options refuse an unknown one by a `ConfigurationError` that lists them all.

    Its signature stays what it is, for `help()`, editors and type checkers.
    """
    parameters = inspect.signature(function).parameters.values()
    options = [each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY]
    accepted = {each.name for each in parameters}

    @functools.wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        if not accepted.issuperset(kwargs):
            refuse_unknown(next(name for name in kwargs if name not in accepted), options)
        return function(*args, **kwargs)

    return checked


def refuse_unknown(name: str, options: list[str]) -> None:
    """Refuse an option that is none of these.

    Raises:
        ConfigurationError: always; it names the nearest one.
    """
    nearest = get_close_matches(name, options, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ";"
    raise ConfigurationError(f"unknown option {name!r}{hint} There are: {', '.join(sorted(options))}")
