"""Gives flags fixed values in a test: through the real SDK, for every client and thread, without a network."""

from __future__ import annotations

import functools
import inspect
import threading
import unittest
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Any, TypeVar, cast

from . import _override_sdk
from ._override_values import FlagValue, Overrides, ShownFlags, UnknownFlagError

__all__ = ["FlagValue", "UnknownFlagError", "forget_unknown", "override_flags", "raise_unknown"]

_T = TypeVar("_T", bound="Callable[..., Any]")

_lock = threading.RLock()
_active: list[Overrides] = []


class override_flags:  # noqa: N801 - reads as what it does, like Django's `override_settings`
    """Give flags fixed values while a block, a test or a class of tests runs.

    A context manager, and a decorator of functions, coroutine functions and classes of tests. It applies to the whole
    process: to every user, thread and client, even if the client was created before. Clients without a key and
    `disabled` clients have the values too. Overrides nest: if two name the same flag, the later one applies.

    Only these flags exist meanwhile. Reading another one raises `UnknownFlagError` at once and, if the code under test
    swallows that, it raises again at the end. Reading a flag makes no request and sends no event
    (`$feature_flag_called`,
    `$experiment_exposure`).

    Clients keep and update the definitions that they loaded, and evaluate with them again afterwards.

    Args:
        values: by flag key: True, False, or the key of a variant.
        payloads: by flag key: the payload as a JSON value. Only for flags that are on.
        allow_unknown: True, or the keys of flags that may be read although no override names them. They read as flags
            that PostHog doesn't know: None, or False.

    Raises:
        TypeError: a value is neither a bool nor a variant's key, or a payload isn't a JSON value.
        ValueError: a payload belongs to no flag, or to a flag that is off.
    """

    def __init__(
        self,
        values: Mapping[str, FlagValue],
        *,
        payloads: Mapping[str, object] | None = None,
        allow_unknown: bool | Collection[str] = False,
    ) -> None:
        self._overrides = Overrides(values, payloads=payloads, allow_unknown=allow_unknown)

    def __enter__(self) -> None:
        with _lock:
            _active.append(self._overrides)
            _override_sdk.show(ShownFlags(_active))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _lock:
            _drop_last(self._overrides)
            _override_sdk.show(ShownFlags(_active) if _active else None)
        unknown, self._overrides.unknown = self._overrides.unknown, []
        if error is None or (isinstance(error, Exception) and not isinstance(error, UnknownFlagError)):
            _raise(unknown, error)

    def __call__(self, decorated: _T) -> _T:
        """Decorate a function, a coroutine function, or a class of tests.

        Raises:
            TypeError: it is something else, or a class without tests.
        """
        if isinstance(decorated, type):
            return cast("_T", self._of_class(cast("type[object]", decorated)))
        if inspect.isgeneratorfunction(decorated) or inspect.isasyncgenfunction(decorated):
            raise TypeError("override_flags decorates no generators: use it as a context manager inside")
        return cast(
            "_T", self._of_coroutines(decorated) if inspect.iscoroutinefunction(decorated) else self._of(decorated)
        )

    def _of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def overridden(*args: object, **options: object) -> object:
            with self:
                return function(*args, **options)

        return overridden

    def _of_coroutines(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def overridden(*args: object, **options: object) -> object:
            with self:
                return await function(*args, **options)

        return overridden

    def _of_class(self, kind: type[object]) -> type[object]:
        if issubclass(kind, unittest.TestCase):
            self._of_test_case(kind)
            return kind
        tests = [name for name in dir(kind) if name.startswith("test")]
        if not tests:
            raise TypeError(f"override_flags decorates classes of tests: {kind.__name__} has no method named test...")
        for name in tests:
            method: Any = inspect.getattr_static(kind, name)
            if inspect.isfunction(method):
                setattr(kind, name, self(method))
            elif isinstance(method, staticmethod | classmethod):
                setattr(kind, name, _wrap(cast("Any", method), self))
        return kind

    def _of_test_case(self, kind: type[unittest.TestCase]) -> None:
        """Start the override before `setUp`, so that it sees the flags."""
        own = kind.setUp

        @functools.wraps(own)
        def set_up(case: unittest.TestCase) -> None:
            self.__enter__()
            case.addCleanup(self.__exit__, None, None, None)
            own(case)

        setattr(kind, "setUp", set_up)  # noqa: B010 - no type checker lets a method be replaced


def _wrap(method: Any, override: override_flags) -> object:  # noqa: ANN401 - a static method or a class method
    return type(method)(override(method.__func__))


def raise_unknown() -> None:
    """Raise if unknown flags were read; each read is reported once.

    For plugins of test frameworks, which use this to report a swallowed error before the override ends.

    Raises:
        UnknownFlagError: a flag was read that no active override names.
    """
    with _lock:
        unknown = [message for overrides in _active for message in overrides.unknown]
        forget_unknown()
    _raise(unknown, None)


def forget_unknown() -> None:
    """Forget the unknown flags that were read under the active overrides."""
    with _lock:
        for overrides in _active:
            overrides.unknown = []


def _raise(unknown: list[str], cause: BaseException | None) -> None:
    if unknown:
        raise UnknownFlagError("; ".join(dict.fromkeys(unknown))) from cause


def _drop_last(overrides: Overrides) -> None:
    for place in reversed(range(len(_active))):
        if _active[place] is overrides:
            del _active[place]
            return
