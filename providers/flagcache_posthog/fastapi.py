"""The flags of a request as a FastAPI dependency.

    request_flags = flags_dependency(posthog, user=current_user_id)
    Flags = Annotated[RequestFlags, Depends(request_flags)]

    @app.get("/")
    async def home(flags: Flags): ...

With the SDK's own `posthog.integrations.asgi.PosthogASGIMiddleware` events of the request have its context, and flags
its user.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, TypeAlias

from flagcache.errors import MissingExtraError
from flagcache_posthog.identity import Given, distinct_id_of
from flagcache_posthog.request_flags import Groups, Properties, Remote, RequestFlags

try:
    from fastapi import Depends
    from fastapi.requests import HTTPConnection
except ImportError as exc:
    raise MissingExtraError("flagcache_posthog.fastapi needs FastAPI: pip install fastapi") from exc

if TYPE_CHECKING:
    from posthog.client import Client

__all__ = ["flags_dependency"]

_Dependency: TypeAlias = "Callable[..., object]"
"""An argument of FastAPI's `Depends`."""


def _nothing() -> None:
    return None


def flags_dependency(
    client: Client,
    *,
    user: _Dependency = _nothing,
    session: _Dependency = _nothing,
    person_properties: _Dependency = _nothing,
    groups: _Dependency = _nothing,
    remote: Remote = "never",
) -> Callable[..., Coroutine[None, None, RequestFlags]]:
    """Create a dependency that gives each request its flags: one `RequestFlags` for all its dependents.

    All arguments except the client and `remote` are dependencies themselves, and may have dependencies of their own.

    Args:
        client: evaluates the flags.
        user: returns the id of the authenticated user; None if there is none. Without an id, the SDK's context or
            PostHog's cookie identifies the user.
        session: returns the key of the session, for visitors who have no other id.
        person_properties: returns the user's properties for local evaluation, as a mapping or None.
        groups: returns the user's groups, as a mapping or None.
        remote: as in `RequestFlags`; PostHog is asked only in routes that aren't coroutines.
    """

    async def request_flags(
        connection: HTTPConnection,
        user: Given = Depends(user),
        session: Given = Depends(session),
        person_properties: Properties | None = Depends(person_properties),
        groups: Groups | None = Depends(groups),
    ) -> RequestFlags:
        def resolve_user() -> str | None:
            key, cookies = client.api_key, connection.cookies
            return distinct_id_of(user=user, cookies=cookies, project_api_key=key, session=session)

        return RequestFlags(client, resolve_user, person_properties=person_properties, groups=groups, remote=remote)

    return request_flags
