"""The middleware that gives each request its `flags`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import patch_vary_headers

from flagcache_posthog.django.flags import HttpRequestFlags, flags_of
from flagcache_posthog.django.project import config

__all__ = ["FlagsMiddleware"]

_Response: TypeAlias = "HttpResponseBase | Awaitable[HttpResponseBase]"


class FlagsMiddleware:
    """Gives each request its `flags`, at any place in `MIDDLEWARE`: the user is looked up when a flag is read.

    If flags were read, the response varies by cookie, so that no HTTP cache serves it to other visitors.

    Args:
        get_response: calls the next middleware.

    Raises:
        ConfigurationError: the settings are invalid, so the server doesn't start.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], _Response]) -> None:
        config()
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> _Response:
        """Respond to a request."""
        flags = flags_of(request)
        if self._is_async:
            return self._answer(request, flags)
        return _varied(cast("HttpResponseBase", self._get_response(request)), flags)

    async def _answer(self, request: HttpRequest, flags: HttpRequestFlags) -> HttpResponseBase:
        return _varied(await cast("Awaitable[HttpResponseBase]", self._get_response(request)), flags)


def _varied(response: HttpResponseBase, flags: HttpRequestFlags) -> HttpResponseBase:
    if flags.read:
        patch_vary_headers(response, ["Cookie"])
    return response
