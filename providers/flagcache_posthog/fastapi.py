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
"""Whatever FastAPI's `Depends` takes."""


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
    """Make a dependency that gives each request its flags: one `RequestFlags` for all that depend on it.

    All but the client and `remote` are dependencies themselves, with dependencies of their own if they need them.

    Args:
        client: evaluates the flags.
        user: returns the id of the authenticated user, None for one who is not. Without one the SDK's context, or
            PostHog's cookie, says who it is.
        session: returns the key of the session, for visitors who have no other id.
        person_properties: returns what local evaluation may know of the user, as a mapping or None.
        groups: returns the user's groups, as a mapping or None.
        remote: as of `RequestFlags`; PostHog is asked in routes that are no coroutines.
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
