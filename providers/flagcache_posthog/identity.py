"""Which user a request comes from, for flags and events: analytics identity, never authorisation.

A browser chooses its own cookie and headers, so a visitor who is not authenticated can claim any distinct id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeAlias, cast
from urllib.parse import unquote
from uuid import UUID

from posthog.contexts import get_context_distinct_id

__all__ = ["Given", "cookie_name", "distinct_id_of", "from_cookie", "from_session"]

Given: TypeAlias = str | int | UUID | Callable[[], str | int | UUID | None] | None
"""An id, or a function that returns one and is called only if it is needed. A `bool` counts as no id, so you can pass
`user.is_authenticated and user.pk`."""

_LONGEST_COOKIE = 4096
_LONGEST_ID = 200
"""Characters; PostHog refuses longer ids."""
_COOKIELESS = "$posthog_cookieless"
"""What posthog-js writes for all visitors in cookieless mode."""


def distinct_id_of(
    *,
    explicit: Given = None,
    user: Given = None,
    cookies: Mapping[str, str] | None = None,
    project_api_key: str | None = None,
    session: Given = None,
) -> str | None:
    """Return the distinct id of a request's user; None if it is unknown.

    The first of these that gives one: `explicit`, `user`, the SDK's context, PostHog's cookie, `session`.

    Args:
        explicit: the application's own choice.
        user: the id of the authenticated user; None if the visitor isn't authenticated.
        cookies: the request's cookies, by name.
        project_api_key: is part of the name of PostHog's cookie; without it the cookie isn't read.
        session: the session's key, if there is a session. PostHog gets a digest of it, because the key itself would
            let others take over the session.
    """
    found = _text(explicit) or _text(user) or get_context_distinct_id()
    if not found and cookies is not None and project_api_key:
        found = from_cookie(cookies, project_api_key)
    return found or from_session(_text(session))


def cookie_name(project_api_key: str) -> str:
    """Return the name of posthog-js's cookie, unless its option `persistence_name` sets another name."""
    return f"ph_{project_api_key.replace('+', 'PL').replace('/', 'SL').replace('=', 'EQ')}_posthog"


def from_cookie(cookies: Mapping[str, str], project_api_key: str) -> str | None:
    """Return the distinct id in PostHog's cookie; None if there is none, or it is invalid."""
    text = cookies.get(cookie_name(project_api_key), "")
    return _id_in(text) if text and len(text) <= _LONGEST_COOKIE else None


@lru_cache(maxsize=256)  # reading three flags asks three times, and parsing takes as long as a flag
def _id_in(text: str) -> str | None:
    try:
        state: object = json.loads(unquote(text))
    except (ValueError, RecursionError):
        return None
    found = cast("dict[str, object]", state).get("distinct_id") if isinstance(state, dict) else None
    return found if isinstance(found, str) and _is_id(found) else None


def from_session(key: str) -> str | None:
    """Return a distinct id for a session: a digest of its key; None without a key."""
    return f"session-{hashlib.sha256(key.encode()).hexdigest()[:32]}" if key else None


def _text(given: Given) -> str:
    found = given() if callable(given) else given
    return "" if found is None or isinstance(found, bool) else str(found)


def _is_id(text: str) -> bool:
    return bool(text.strip()) and len(text) <= _LONGEST_ID and text.isprintable() and text != _COOKIELESS
