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
"""Set while `override_flags` is active: then PostHog is not asked, and no request is counted."""

_Result: TypeAlias = "tuple[bool | str | None, object]"
"""A value and its payload."""


class UserFlags:
    """The flags of one user.

    Args:
        client: evaluates them.
        user: the distinct id.
        options: other arguments of the SDK's `evaluate_flags`.
        remote: whether PostHog may be asked for flags that can't be decided locally.
    """

    def __init__(self, client: Client, user: str, options: Mapping[str, Any], *, remote: bool) -> None:
        self._client = client
        self._user = user
        self._options = options
        self._remote = remote
        self._calls = calls_of(client)
        self._read: dict[str, _Result] = {}
        """Values that were read, and their payloads. The SDK sends an event for each."""
        self._payloads: dict[str, object] = {}
        """Payloads that were read without the value."""
        self._snapshot: FeatureFlagEvaluations | None = None

    def value(self, key: str) -> bool | str | None:
        """Return the value of a flag; None if it has none."""
        if key not in self._read:
            self._read[key] = self._from_snapshot(key) or _result_of(self.result(key))
        return self._read[key][0]

    def payload(self, key: str) -> object:
        """Return the payload of a flag; None if it has none."""
        if key in self._read:
            return self._read[key][1]
        if key not in self._payloads:
            self._payloads[key] = self._payload_alone(key)
        return self._payloads[key]

    def snapshot(self, keys: Iterable[str]) -> FeatureFlagEvaluations | None:
        """Evaluate the flags that were read and these at once; None if there are none."""
        named = [*{**self._read, **self._payloads, **dict.fromkeys(keys)}]
        if not named:
            return None
        snapshot = self._client.evaluate_flags(self._user, flag_keys=named, only_evaluate_locally=True, **self._options)
        undecided = self._defined(set(named).difference(snapshot.keys)) if self._may_request else []
        if undecided and self._calls.paused:
            self._calls.skip(partial(self._probe, undecided[0]))
        elif undecided:
            defined_keys = self._defined(named)
            began = monotonic()
            found = self._client.evaluate_flags(self._user, flag_keys=defined_keys, **self._options)
            seconds = monotonic() - began
            self._calls.record(seconds, answered=set(undecided) <= set(found.keys))
            snapshot = found.only(
                [key for key in named if key in found.keys]
            )  # posthog 7.37.3 keeps all flags of the response
        self._snapshot = snapshot
        return snapshot

    # --- one flag ----------------------------------------------------------------------------------------------------

    def result(self, key: str, *, without_event: bool = False) -> FeatureFlagResult | None:
        """Return the SDK's result for a flag, evaluated at each call; None if it has no value."""
        if not self._may_request:
            return self._result(key, only_evaluate_locally=True, without_event=without_event)
        if not self._loaded(key):
            return None
        defined = key in (self._client.feature_flags_by_key or {})
        requests, began = defined and not self._calls.paused, monotonic()
        result = self._result(key, only_evaluate_locally=not requests, without_event=without_event)
        seconds = monotonic() - began
        if requests and (
            result is None or result.reason is not None or seconds >= SLOW
        ):  # otherwise it was decided locally
            self._calls.record(seconds, answered=result is not None)
        elif defined and result is None:
            self._calls.skip(partial(self._probe, key))
        return result

    def _payload_alone(self, key: str) -> object:
        """Read a payload without an event, which is sent when the value is read."""
        if self._snapshot is not None and key in self._snapshot.keys:
            return self._snapshot.get_flag_payload(key)
        result = self._result_without_event(key)
        if result is not None:
            return result.payload
        snapshot = self.snapshot([key]) if self._may_request else None
        return None if snapshot is None else snapshot.get_flag_payload(key)

    def _from_snapshot(self, key: str) -> _Result | None:
        if self._snapshot is None or key not in self._snapshot.keys:
            return None
        return self._snapshot.get_flag(key), self._snapshot.get_flag_payload(key)

    def _loaded(self, key: str) -> bool:
        """Whether there are definitions. If not, an evaluation loads them, which must not count as a slow request."""
        return self._client.feature_flags is not None or (
            self._result_without_event(key) is not None or self._client.feature_flags is not None
        )

    def _defined(self, keys: Iterable[str]) -> list[str]:
        """Return the keys for which the client has a definition.

        PostHog knows no others, except new ones, whose definitions come soon.
        """
        defined = self._client.feature_flags_by_key or {}
        return [key for key in keys if key in defined]

    @property
    def _may_request(self) -> bool:
        return self._remote and not on_event_loop() and not OVERRIDDEN.is_set()

    def _result_without_event(self, key: str) -> FeatureFlagResult | None:
        return self._result(key, only_evaluate_locally=True, without_event=True)

    def _result(
        self, key: str, *, only_evaluate_locally: bool, without_event: bool = False
    ) -> FeatureFlagResult | None:
        return self._client.get_feature_flag_result(
            key,
            self._user,
            only_evaluate_locally=only_evaluate_locally,
            send_feature_flag_events=not without_event,
            **self._options,
        )

    def _probe(self, key: str) -> bool:
        """Ask PostHog on another thread; only whether it answers is used."""
        answer = self._client.get_flags_decision(self._user, flag_keys_to_evaluate=[key], **self._options)
        return bool(answer.get("requestId") or answer.get("flags"))


def _result_of(result: FeatureFlagResult | None) -> _Result:
    return (None, None) if result is None else (result.get_value(), result.payload)
