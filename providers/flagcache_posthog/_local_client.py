"""A client that evaluates as `RequestFlags` does, for code that asks a client for one flag at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flagcache_posthog._user_flags import UserFlags

if TYPE_CHECKING:
    from posthog import FeatureFlagResult
    from posthog.client import Client

__all__ = ["LocalClient"]


class LocalClient:
    """A proxy of a client, whose `get_feature_flag_result` evaluates as `RequestFlags` does.

    Args:
        client: the client.
        remote: whether PostHog may be asked for a flag that can't be decided locally.
    """

    def __init__(self, client: Client, *, remote: bool) -> None:
        self._client = client
        self._remote = remote

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)

    def get_feature_flag_result(
        self, key: str, distinct_id: str, *, send_feature_flag_events: bool = True, **options: object
    ) -> FeatureFlagResult | None:
        """Return the result of one flag, with the arguments of the SDK's method."""
        given = {name: value for name, value in options.items() if value is not None}
        flags = UserFlags(self._client, distinct_id, given, remote=self._remote)
        return flags.result(key, without_event=not send_feature_flag_events)
