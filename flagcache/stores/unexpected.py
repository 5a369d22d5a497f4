"""Keeps the promise of `flagcache.stores.base`: a verb raises `StoreError` and nothing else.

Below a verb runs code that isn't ours: a client library, and with it the user's connect functions, credential providers
and address mappings, which may raise anything. An exception of a type that no caller expects would end the poll, and
with it the fallback to the next store.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from pathlib import PurePath
from types import FunctionType
from typing import Any, TypeVar, cast

from flagcache.errors import StoreError

__all__ = ["only_store_errors", "unexpected"]

_Kind = TypeVar("_Kind", bound=type)


def only_store_errors(kind: _Kind) -> _Kind:
    """Let the public methods of a class raise no `Exception` but `StoreError`. A class decorator.

    A `BaseException` that is no `Exception` passes: the interpreter's end, Ctrl-C, a gevent timeout.
    """
    for name, method in [*vars(kind).items()]:
        if isinstance(method, FunctionType) and not name.startswith("_"):
            setattr(kind, name, _converting(method))
    return kind


def _converting(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def convert(self: object, *args: object, **options: object) -> object:
        try:
            return method(self, *args, **options)
        except StoreError:
            raise
        except Exception as exc:
            raise unexpected(exc, str(getattr(self, "address", ""))) from exc

    return convert


def unexpected(exc: Exception, address: str) -> StoreError:
    """Convert an exception that no caller expects; the result names its type and the line that raised it.

    The exception's own text is left out, because it isn't ours and may hold a password or a token.

    Args:
        exc: the exception.
        address: of the store, for people.
    """
    frames = traceback.extract_tb(exc.__traceback__)
    place = PurePath(frames[-1].filename) if frames else PurePath()
    where = f" at {'/'.join(place.parts[-2:])}:{cast('int', frames[-1].lineno)}" if frames else ""
    return StoreError(f"unexpected {type(exc).__name__}{where}", address=address)
