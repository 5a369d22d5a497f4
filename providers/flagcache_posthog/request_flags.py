"""The flags of one request or task: each is evaluated once, locally, when it is first read.

    flags = RequestFlags(posthog, user_id)
    if flags.is_enabled("new-checkout"): ...
    posthog.capture("bought", distinct_id=user_id, flags=flags.snapshot())

For any framework: create one when a request begins. Values and events are the SDK's own (posthog 7.37.3 to 7.91.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from posthog.contexts import get_context_distinct_id

from flagcache.errors import ConfigurationError
from flagcache_posthog._remote_calls import RemoteStatus, calls_of
from flagcache_posthog._sdk import is_client
from flagcache_posthog._user_flags import UserFlags

if TYPE_CHECKING:
    from posthog import FeatureFlagEvaluations
    from posthog.client import Client

__all__ = ["Groups", "Lazy", "Properties", "Remote", "RemoteStatus", "RequestFlags", "remote_status"]

_T = TypeVar("_T")

Lazy: TypeAlias = "_T | Callable[[], _T | None] | None"
"""A value, or a function that returns it and is called when a flag of a user is first read."""
Properties: TypeAlias = Mapping[str, object]
"""Properties of a person, for local evaluation."""
Groups: TypeAlias = Mapping[str, str | int]
"""The key of a user's group, by the type of group."""
Remote: TypeAlias = Literal["never", "needed"]
"""Whether PostHog is asked for a flag that can't be decided locally."""


class RequestFlags:
    """The flags of one request.

    A flag keeps its value for the request, even if definitions change. Don't use it on several threads at a time.

    Args:
        client: a `posthog.Posthog`.
        distinct_id: the user's, or a function that returns it, called at each read. Without one, the distinct id of the
            SDK's context (`posthog.integrations`). If there is none, flags have no value.
        groups: this and the next three: as in the SDK's `evaluate_flags`. This and the next may be functions, which
            are called when a flag of a user is first read.
        person_properties: properties of the user, for local evaluation.
        group_properties: properties of the groups.
        device_id: for flags that are rolled out by device.
        remote: `"never"`: a flag that can't be decided locally has no value. `"needed"`: PostHog is asked for it on
            this thread, for at most the client's `feature_flags_request_timeout_seconds` per attempt. PostHog is not
            asked for a flag for which the client has no definition, on an event loop, or for half a minute after three
            requests in a row that failed or took over a second.

    Raises:
        ConfigurationError: `remote` is another value, or `client` isn't a `posthog.Posthog`.
    """

    def __init__(  # noqa: PLR0913 - the keywords are those of the SDK
        self,
        client: Client,
        distinct_id: str | Callable[[], str | None] | None = None,
        *,
        groups: Lazy[Groups] = None,
        person_properties: Lazy[Properties] = None,
        group_properties: Mapping[str, dict[str, object]] | None = None,
        device_id: str | None = None,
        remote: Remote = "never",
    ) -> None:
        if not is_client(client):
            raise ConfigurationError(
                f"RequestFlags reads the flags of a posthog.Posthog, not of {type(client).__name__!r}; the client of"
                " the module `posthog` is what `posthog.setup()` returns"
            )
        if remote not in ("never", "needed"):
            raise ConfigurationError(f"remote is 'never' or 'needed', not {remote!r}")
        self._client = client
        self._distinct_id = distinct_id
        self._remote = remote == "needed"
        self._groups = groups
        self._person_properties = person_properties
        self._options: dict[str, object] = {"group_properties": dict(group_properties or {}), "device_id": device_id}
        self._users: dict[str, UserFlags] = {}

    def is_enabled(self, key: str, default: bool = False) -> bool:  # noqa: FBT001, FBT002 - as of the SDK's snapshots
        """Whether a flag is on; `default` if it has no value."""
        value = self.get(key)
        return default if value is None else bool(value)

    def get(self, key: str, default: bool | str | None = None) -> bool | str | None:  # noqa: FBT001 - as of a mapping
        """Return the value of a flag, True, False or a variant's key; `default` if it has none."""
        user = self._user()
        value = None if user is None else user.value(key)
        return default if value is None else value

    def payload(self, key: str, default: object = None) -> object:
        """Return the payload of a flag; `default` if it has none. As in the SDK, this sends no event."""
        user = self._user()
        payload = None if user is None else user.payload(key)
        return default if payload is None else payload

    def snapshot(self, *keys: str) -> FeatureFlagEvaluations:
        """Return the flags that were read and those named here, as `evaluate_flags` does, for `capture(flags=...)`.

        With `remote="needed"` it makes one request if any of them can't be decided locally. Name such flags here before
        you read them: reads then take their values from it.
        """
        user = self._user()
        snapshot = None if user is None else user.snapshot(keys)
        return self._client.evaluate_flags("") if snapshot is None else snapshot  # for no user: an empty one

    def _user(self) -> UserFlags | None:
        given = self._distinct_id() if callable(self._distinct_id) else self._distinct_id
        user = given or get_context_distinct_id()
        if not user:
            return None
        if user not in self._users:
            options = {
                "groups": _made(self._groups),
                "person_properties": _made(self._person_properties),
                **self._options,
            }
            self._users[user] = UserFlags(self._client, user, options, remote=self._remote)
        return self._users[user]


def _made(given: Lazy[Mapping[str, object]]) -> dict[str, object]:
    return dict((given() if callable(given) else given) or {})


def remote_status(client: Client) -> RemoteStatus:
    """Return the counts of this client's requests for `remote="needed"` in this process. Does no I/O."""
    return calls_of(client).status
