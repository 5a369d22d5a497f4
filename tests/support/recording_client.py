"""A client that records everything that it gets, by the SDK's public property only."""

from __future__ import annotations

import inspect
from typing import cast

from posthog import Posthog

__all__ = ["RecordingClient"]

_FLAGS = cast("property", inspect.getattr_static(Posthog, "feature_flags"))


class RecordingClient(Posthog):
    """A base class: `record` is called with each value that the client holds from then on."""

    def record(self, flags: list[dict[str, object]] | None) -> None:
        """The client holds this now; on the thread that gave it."""
        raise NotImplementedError

    @property
    def feature_flags(self) -> list[dict[str, object]] | None:
        """The definitions that this client holds."""
        return cast("list[dict[str, object]] | None", _FLAGS.__get__(self))

    @feature_flags.setter
    def feature_flags(self, flags: list[dict[str, object]] | None) -> None:
        _FLAGS.__set__(self, flags)
        self.record(flags)
