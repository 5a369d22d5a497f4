"""The flags of a request as `request.state.flags`, for Starlette and frameworks based on it; WebSockets too.

Middleware(FlagsMiddleware, client=posthog, user=lambda request: request.session.get("user_id"))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from flagcache.errors import MissingExtraError
from flagcache_posthog.identity import distinct_id_of
from flagcache_posthog.request_flags import Groups, Properties, Remote, RequestFlags

try:
    from starlette.requests import HTTPConnection
except ImportError as exc:
    raise MissingExtraError("flagcache_posthog.starlette needs Starlette: pip install starlette") from exc

if TYPE_CHECKING:
    from posthog.client import Client
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["FlagsMiddleware"]

_T = TypeVar("_T")


class FlagsMiddleware:
    """Gives each connection a `RequestFlags`. The functions get the connection, and are called when a flag is read.

    Args:
        app: the application.
        client: evaluates the flags.
        user: as in `distinct_id_of`; without it the SDK's context or PostHog's cookie identifies the user.
        session: as in `distinct_id_of`.
        person_properties: as in `RequestFlags`.
        groups: as in `RequestFlags`.
        remote: as in `RequestFlags`.
    """

    def __init__(  # noqa: PLR0913 - the keywords are those of `RequestFlags` and `distinct_id_of`
        self,
        app: ASGIApp,
        client: Client,
        *,
        user: Callable[[HTTPConnection], str | int | UUID | None] | None = None,
        session: Callable[[HTTPConnection], str | None] | None = None,
        person_properties: Callable[[HTTPConnection], Properties | None] | None = None,
        groups: Callable[[HTTPConnection], Groups | None] | None = None,
        remote: Remote = "never",
    ) -> None:
        def flags_of(connection: HTTPConnection) -> RequestFlags:
            def bound(function: Callable[[HTTPConnection], _T] | None) -> Callable[[], _T | None]:
                return lambda: None if function is None else function(connection)

            def resolve_user() -> str | None:
                cookies, key = connection.cookies, client.api_key
                return distinct_id_of(user=bound(user), cookies=cookies, project_api_key=key, session=bound(session))

            return RequestFlags(
                client, resolve_user, person_properties=bound(person_properties), groups=bound(groups), remote=remote
            )

        self._app = app
        self._flags_of = flags_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] in ("http", "websocket"):
            scope.setdefault("state", {})["flags"] = self._flags_of(HTTPConnection(scope))
        await self._app(scope, receive, send)
