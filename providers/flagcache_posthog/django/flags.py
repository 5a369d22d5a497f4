"""`request.flags`: the flags of the user of one request, who is looked up when a flag is first read."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.http import HttpRequest

from flagcache_posthog.django.project import client, config, hook
from flagcache_posthog.identity import distinct_id_of
from flagcache_posthog.request_flags import RequestFlags

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser
    from posthog import FeatureFlagEvaluations

__all__ = ["HttpRequestFlags", "flags_in_template", "flags_of"]

_ASYNC_REMEDY = (
    "the user of this request is not known yet, and cannot be looked up on an event loop: write `flags = await"
    " request.flags` in an async view, and read `flags`"
)


class HttpRequestFlags:
    """The flags of one request.

    Each read uses the current user, also after a login during the request or the authentication of Django REST
    framework. In an async view await it first: `flags = await request.flags`.

    Args:
        request: Django's.
    """

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._users: dict[str, RequestFlags] = {}
        self.read = False
        """Whether a flag was read, so that the response depends on the user."""

    def is_enabled(self, key: str, default: bool = False) -> bool:  # noqa: FBT001, FBT002 - as of the SDK's snapshots
        """Whether a flag is on; `default` if it has no value."""
        return self._flags().is_enabled(key, default)

    def get(self, key: str, default: bool | str | None = None) -> bool | str | None:  # noqa: FBT001 - as of a mapping
        """Return the value of a flag, True, False or a variant's key; `default` if it has none."""
        return self._flags().get(key, default)

    def payload(self, key: str, default: object = None) -> object:
        """Return the payload of a flag; `default` if it has none."""
        return self._flags().payload(key, default)

    def snapshot(self, *keys: str) -> FeatureFlagEvaluations:
        """Return the flags that were read and those that are named here, for `capture(flags=...)`."""
        return self._flags().snapshot(*keys)

    @property
    def distinct_id(self) -> str | None:
        """Return the first id of these: `IDENTIFY`, the user, the SDK's context, PostHog's cookie, the session."""
        request = self._request
        identify = hook("IDENTIFY")
        session = getattr(request, "session", None)
        return distinct_id_of(
            explicit=None if identify is None else lambda: cast("str | None", identify(request)),
            user=self._user_id,
            cookies=request.COOKIES,
            project_api_key=config().project_api_key,
            session=None if session is None else lambda: cast("str | None", session.session_key),
        )

    def __await__(self) -> Generator[Any, None, HttpRequestFlags]:
        """Look up the user and load flags without blocking the event loop; later reads do neither."""
        return self._prepared().__await__()

    # --- the user ----------------------------------------------------------------------------------------------------

    def _user_id(self) -> str | None:
        try:
            user = self._user()
            return str(user.pk) if user is not None and user.is_authenticated else None
        except SynchronousOnlyOperation as exc:
            raise SynchronousOnlyOperation(_ASYNC_REMEDY) from exc

    def _user(self) -> AbstractBaseUser | AnonymousUser | None:
        return getattr(self._request, "user", None)

    async def _prepared(self) -> HttpRequestFlags:
        try:
            self._user_id()  # a middleware may have looked it up
        except SynchronousOnlyOperation:
            self._request.user = await self._request.auser()
        posthog = client()
        if posthog.feature_flags is None and not posthog.disabled:
            await sync_to_async(posthog.get_all_flags, thread_sensitive=False)("flagcache", only_evaluate_locally=True)
        if config().hooks:
            await sync_to_async(self._flags)()
        return self

    # --- the user's flags --------------------------------------------------------------------------------------------

    def _flags(self) -> RequestFlags:
        self.read = True
        user = self.distinct_id or ""
        if user not in self._users:
            self._users[user] = RequestFlags(
                client(),
                lambda: user,
                groups=self._from_hook("GROUPS"),
                person_properties=self._from_hook("PERSON_PROPERTIES"),
                group_properties=self._from_hook("GROUP_PROPERTIES"),
                remote=cast("Literal['never', 'needed']", config().remote),
            )
        return self._users[user]

    def _from_hook(self, key: str) -> Mapping[str, Any] | None:
        function = hook(key)
        return None if function is None else cast("Mapping[str, Any] | None", function(self._request))


def flags_of(request: HttpRequest) -> HttpRequestFlags:
    """Return the flags of a request: `request.flags`, also without the middleware, and typed.

    Args:
        request: Django's, or one of Django REST framework, which wraps Django's.
    """
    django_request: HttpRequest = getattr(request, "_request", request)
    own = vars(django_request)
    found: object = own.get("flags")
    if not isinstance(found, HttpRequestFlags):
        found = own["flags"] = HttpRequestFlags(django_request)
    return found


def flags_in_template(request: HttpRequest | None) -> HttpRequestFlags:
    """Return the flags of the request that a template is rendered for.

    Raises:
        ImproperlyConfigured: the template has no request.
    """
    if request is None:
        raise ImproperlyConfigured("a template reads flags without a request: render it by `render(request, ...)`")
    return flags_of(request)
