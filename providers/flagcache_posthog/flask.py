"""The flags of a Flask request.

    init_flags(app, posthog, user=lambda: session.get("user_id"))

    @app.get("/")
    def home():
        return "new" if flags.is_enabled("new-checkout") else "old"

`flags` is a proxy of the current request's `RequestFlags`, as `flask.g` is; templates have it too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from flagcache.errors import ConfigurationError, MissingExtraError
from flagcache_posthog.identity import Given, distinct_id_of
from flagcache_posthog.request_flags import Groups, Lazy, Properties, Remote, RequestFlags

try:
    from flask import Flask, current_app, g, has_request_context, request
    from werkzeug.local import LocalProxy
except ImportError as exc:
    raise MissingExtraError("flagcache_posthog.flask needs Flask: pip install flask") from exc

if TYPE_CHECKING:
    from posthog.client import Client

__all__ = ["flags", "init_flags"]

_NAME = "flagcache"


def init_flags(  # noqa: PLR0913 - the keywords are those of `RequestFlags` and `distinct_id_of`
    app: Flask,
    client: Client,
    *,
    user: Given = None,
    session: Given = None,
    person_properties: Lazy[Properties] = None,
    groups: Lazy[Groups] = None,
    remote: Remote = "never",
) -> None:
    """Give each request of an application its flags. A function that you pass is called when a flag is read.

    Args:
        app: the application.
        client: evaluates the flags.
        user: as in `distinct_id_of`, best a function; without it the SDK's context or PostHog's cookie identifies the
            user.
        session: as in `distinct_id_of`.
        person_properties: as in `RequestFlags`.
        groups: as in `RequestFlags`.
        remote: as in `RequestFlags`.
    """

    def make() -> RequestFlags:
        cookies = request.cookies if has_request_context() else None

        def resolve_user() -> str | None:
            return distinct_id_of(user=user, cookies=cookies, project_api_key=client.api_key, session=session)

        return RequestFlags(client, resolve_user, person_properties=person_properties, groups=groups, remote=remote)

    app.extensions[_NAME] = make
    app.context_processor(lambda: {"flags": flags})


def _flags() -> RequestFlags:
    make: Callable[[], RequestFlags] | None = current_app.extensions.get(_NAME)
    if make is None:
        raise ConfigurationError(f"the application {current_app.name!r} has no flags: call init_flags(app, client)")
    # The request keeps them: in a test several requests may share one application context and its `g`.
    kept = request.environ if has_request_context() else vars(g)
    return cast("RequestFlags", kept.get(_NAME) or kept.setdefault(_NAME, make()))


flags = cast("RequestFlags", LocalProxy(_flags))
