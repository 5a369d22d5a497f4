"""Views that exist only for users for whom a flag is on: a decorator, and a mixin for class-based views."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404, HttpRequest, HttpResponseBase

from flagcache_posthog.django.flags import HttpRequestFlags, flags_of

__all__ = ["FlagRequiredMixin", "flag_required", "is_on"]

_View = TypeVar("_View", bound=Callable[..., Any])


def flag_required(
    key: str, *, value: bool | str | None = None, fallback: Callable[..., Any] | None = None
) -> Callable[[_View], _View]:
    """Decorate a view that exists only if a flag is on; otherwise the response is a 404, or another view's.

    With Django REST framework write it below `@api_view`, which looks up the user.

    Args:
        key: the flag's key.
        value: the value that the flag must have: a variant's key, or False for a flag that is off. None: it is on.
        fallback: the view for all other users, with the same arguments.
    """

    def decorate(view: _View) -> _View:
        if iscoroutinefunction(view):
            return cast("_View", _async_view(view, key, value, fallback))
        return cast("_View", _view(view, key, value, fallback))

    return decorate


def is_on(flags: HttpRequestFlags, key: str, value: bool | str | None) -> bool:  # noqa: FBT001 - a flag's value
    """Whether a flag is on, or has this value. A flag without a value counts as off."""
    return flags.is_enabled(key) if value is None else flags.get(key, default=False) == value


def _view(
    view: Callable[..., Any],
    key: str,
    value: bool | str | None,  # noqa: FBT001 - a flag's value
    fallback: Callable[..., Any] | None,
) -> Callable[..., Any]:
    other = async_to_sync(fallback) if iscoroutinefunction(fallback) else fallback

    @functools.wraps(view)
    def flagged(request: HttpRequest, *args: object, **kwargs: object) -> object:
        if is_on(flags_of(request), key, value):
            return view(request, *args, **kwargs)
        return _otherwise(key, other)(request, *args, **kwargs)

    return flagged


def _async_view(
    view: Callable[..., Any],
    key: str,
    value: bool | str | None,  # noqa: FBT001 - a flag's value
    fallback: Callable[..., Any] | None,
) -> Callable[..., Any]:
    other = fallback if fallback is None or iscoroutinefunction(fallback) else sync_to_async(fallback)

    @functools.wraps(view)
    async def flagged(request: HttpRequest, *args: object, **kwargs: object) -> object:
        if is_on(await flags_of(request), key, value):
            return await view(request, *args, **kwargs)
        return await _otherwise(key, other)(request, *args, **kwargs)

    return flagged


def _otherwise(key: str, fallback: Callable[..., Any] | None) -> Callable[..., Any]:
    if fallback is None:
        raise Http404(f"the flag {key!r} is not on")
    return fallback


class _FlagIsOffError(Exception):
    """Carries the response of `flag_is_off` out of `initial`."""

    def __init__(self, response: HttpResponseBase) -> None:
        super().__init__()
        self.response = response


class FlagRequiredMixin:
    """A class-based view that exists only if a flag is on; otherwise `flag_is_off` answers, by default with a 404.

    Also for the views of Django REST framework, after the authentication. Name it before the view's class.
    """

    flag_required: str = ""
    """The flag's key."""
    flag_value: bool | str | None = None
    """The value that the flag must have; None: it is on."""

    def flag_is_off(self, request: HttpRequest) -> HttpResponseBase:
        """Respond to a request for which the flag is not on; may raise."""
        raise Http404(f"the flag {self.flag_required!r} is not on")

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # noqa: ANN401 - as Django
        """As in Django's `View`."""
        own = cast("Any", super())
        if getattr(self, "view_is_async", False):
            return cast("HttpResponseBase", self._dispatch_async(request, *args, **kwargs))
        if hasattr(own, "initial") or self._is_on(flags_of(request)):
            return cast("HttpResponseBase", own.dispatch(request, *args, **kwargs))
        return self.flag_is_off(request)

    def initial(self, request: HttpRequest, *args: object, **kwargs: object) -> None:
        """As in the views of Django REST framework, which calls it once it has authenticated a request."""
        cast("Any", super()).initial(request, *args, **kwargs)
        if not self._is_on(flags_of(request)):
            raise _FlagIsOffError(self.flag_is_off(request))

    def handle_exception(self, exc: Exception) -> object:
        """As in the views of Django REST framework, which ignores what `initial` returns."""
        return exc.response if isinstance(exc, _FlagIsOffError) else cast("Any", super()).handle_exception(exc)

    async def _dispatch_async(self, request: HttpRequest, *args: object, **kwargs: object) -> object:
        if not self._is_on(await flags_of(request)):
            return self.flag_is_off(request)
        return await cast("Any", super()).dispatch(request, *args, **kwargs)

    def _is_on(self, flags: HttpRequestFlags) -> bool:
        if not self.flag_required:
            raise ImproperlyConfigured(f"{type(self).__name__} names no flag: set flag_required to a flag's key")
        return is_on(flags, self.flag_required, self.flag_value)
