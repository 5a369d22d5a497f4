"""URLs that exist only for users for whom a flag is on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.urls import URLPattern, path

from flagcache_posthog.django.views import flag_required

__all__ = ["flagged_path"]


def flagged_path(  # noqa: PLR0913 - those of Django's `path`, and the flag
    flag: str,
    route: str,
    view: Callable[..., Any],
    kwargs: dict[str, Any] | None = None,
    name: str | None = None,
    *,
    value: bool | str | None = None,
    fallback: Callable[..., Any] | None = None,
) -> URLPattern:
    """As Django's `path`, for a view that exists only if a flag is on; otherwise it is a 404, or another view.

    Args:
        flag: the flag's key.
        route: as in `path`; so are `view`, `kwargs` and `name`. For an `include()`, decorate its views.
        view: a function, or `SomeView.as_view()`.
        kwargs: for both views.
        name: of the URL.
        value: the value that the flag must have: a variant's key, or False for a flag that is off. None: it is on.
        fallback: the view for all other users, with the same arguments.

    Raises:
        TypeError: the view is an `include()`.
    """
    if not callable(view):
        raise TypeError(f"flagged_path takes a view for {route!r}: decorate the views of an include() by flag_required")
    return path(route, flag_required(flag, value=value, fallback=fallback)(view), kwargs, name)
