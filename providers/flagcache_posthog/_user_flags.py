"""The flags of one user within a request: each evaluated once, by the SDK."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from flagcache.runtime.clock import monotonic
from flagcache_posthog._remote_calls import SLOW, calls_of, on_event_loop

if TYPE_CHECKING:
    from posthog import FeatureFlagEvaluations, FeatureFlagResult
    from posthog.client import Client

__all__ = ["OVERRIDDEN", "UserFlags"]

OVERRIDDEN = threading.Event()
"""Set while `override_flags` decides which flags are on: then PostHog is not asked, and no request is counted."""

_Parts: TypeAlias = "tuple[bool | str | None, object]"
"""A value and its payload."""


class UserFlags:
    """What the flags are to one user.

    Args:
        client: evaluates them.
        user: the distinct id.
        options: more of what the SDK's `evaluate_flags` takes.
        remote: whether PostHog may be asked for flags that cannot be decided locally.
    """

    def __init__(self, client: Client, user: str, options: Mapping[str, Any], *, remote: bool) -> None:
        self._client = client
        self._user = user
        self._options = options
        self._remote = remote
        self._calls = calls_of(client)
        self._read: dict[str, _Parts] = {}
        """Values that were read, and their payloads. The SDK was to send an event of each."""
        self._payloads: dict[str, object] = {}
        """Payloads that were read alone."""
        self._taken: FeatureFlagEvaluations | None = None

    def value(self, key: str) -> bool | str | None:
        """The value of a flag; None if it has none."""
        if key not in self._read:
            self._read[key] = self._from_snapshot(key) or _parts(self.result(key))
        return self._read[key][0]

    def payload(self, key: str) -> object:
        """The payload of a flag; None if it has none."""
        if key in self._read:
            return self._read[key][1]
        if key not in self._payloads:
            self._payloads[key] = self._payload_alone(key)
        return self._payloads[key]

    def snapshot(self, keys: Iterable[str]) -> FeatureFlagEvaluations | None:
        """One evaluation of the flags that were read, and these; None if there are no flags."""
        named = [*{**self._read, **self._payloads, **dict.fromkeys(keys)}]
        if not named:
            return None
        taken = self._client.evaluate_flags(self._user, flag_keys=named, only_evaluate_locally=True, **self._options)
        undecided = self._defined(set(named).difference(taken.keys)) if self._may_ask else []
        if undecided and self._calls.paused:
            self._calls.skip(partial(self._probe, undecided[0]))
        elif undecided:
            asked = self._defined(named)
            began = monotonic()
            found = self._client.evaluate_flags(self._user, flag_keys=asked, **self._options)
            seconds = monotonic() - began
            self._calls.note(seconds, answered=set(undecided) <= set(found.keys))
            taken = found.only([key for key in named if key in found.keys])  # posthog 7.37.3 keeps whatever came
        self._taken = taken
        return taken

    # --- one flag ----------------------------------------------------------------------------------------------------

    def result(self, key: str, *, quietly: bool = False) -> FeatureFlagResult | None:
        """What the SDK makes of a flag, anew at each call; None if it has no value."""
        if not self._may_ask:
            return self._result(key, only_evaluate_locally=True, quietly=quietly)
        if not self._loaded(key):
            return None
        defined = key in (self._client.feature_flags_by_key or {})
        asks, began = defined and not self._calls.paused, monotonic()
        result = self._result(key, only_evaluate_locally=not asks, quietly=quietly)
        seconds = monotonic() - began
        if asks and (result is None or result.reason is not None or seconds >= SLOW):  # else it was decided locally
            self._calls.note(seconds, answered=result is not None)
        elif defined and result is None:
            self._calls.skip(partial(self._probe, key))
        return result

    def _payload_alone(self, key: str) -> object:
        """It is no read: the event is sent when the value is."""
        if self._taken is not None and key in self._taken.keys:
            return self._taken.get_flag_payload(key)
        result = self._quietly(key)
        if result is not None:
            return result.payload
        taken = self.snapshot([key]) if self._may_ask else None
        return None if taken is None else taken.get_flag_payload(key)

    def _from_snapshot(self, key: str) -> _Parts | None:
        if self._taken is None or key not in self._taken.keys:
            return None
        return self._taken.get_flag(key), self._taken.get_flag_payload(key)

    def _loaded(self, key: str) -> bool:
        """Whether there are definitions. If not, an evaluation loads them, and what it costs is no request's fault."""
        return self._client.feature_flags is not None or (
            self._quietly(key) is not None or self._client.feature_flags is not None
        )

    def _defined(self, keys: Iterable[str]) -> list[str]:
        """Those of which the client has a definition: PostHog knows no others, or not for long."""
        defined = self._client.feature_flags_by_key or {}
        return [key for key in keys if key in defined]

    @property
    def _may_ask(self) -> bool:
        return self._remote and not on_event_loop() and not OVERRIDDEN.is_set()

    def _quietly(self, key: str) -> FeatureFlagResult | None:
        return self._result(key, only_evaluate_locally=True, quietly=True)

    def _result(self, key: str, *, only_evaluate_locally: bool, quietly: bool = False) -> FeatureFlagResult | None:
        return self._client.get_feature_flag_result(
            key,
            self._user,
            only_evaluate_locally=only_evaluate_locally,
            send_feature_flag_events=not quietly,
            **self._options,
        )

    def _probe(self, key: str) -> bool:
        """Ask PostHog, on another thread, and use nothing of its answer."""
        answer = self._client.get_flags_decision(self._user, flag_keys_to_evaluate=[key], **self._options)
        return bool(answer.get("requestId") or answer.get("flags"))


def _parts(result: FeatureFlagResult | None) -> _Parts:
    return (None, None) if result is None else (result.get_value(), result.payload)
