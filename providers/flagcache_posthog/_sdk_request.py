"""Reads two options of the SDK's own requests that have no public name.

Our own fetch must work wherever the SDK's request does: firewalls and logs may check the user agent of a wrapped SDK,
and networks may need socket options. No public name shows them (posthog 7.91.1: `request._socket_options`, and
`Client._sdk_info`, which 7.37.3 lacks). An SDK without these names counts as one without these options.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

from posthog import request as sdk_request

from flagcache_posthog._sdk import loaded

if TYPE_CHECKING:
    from posthog.client import Client

__all__ = ["SocketOptions", "socket_options", "user_agent_of"]

SocketOptions: TypeAlias = Sequence[tuple[int, int, "int | bytes"]]


def user_agent_of(client: Client) -> str:
    """Return the user agent of a client's requests: the SDK, or the library that wraps it."""
    named = cast("object", getattr(client, "_sdk_info", None))
    if isinstance(named, str) and re.fullmatch(r"[!-~]+( [!-~]+)*", named):
        return named
    bases = {base.__module__.partition(".")[0] for base in type(client).__mro__}
    own = (module for module in loaded("request") if module.__name__.partition(".")[0] in bases)
    return cast("str", getattr(next(own, sdk_request), "USER_AGENT", sdk_request.USER_AGENT))


def socket_options() -> SocketOptions | None:
    """Return the last argument of `posthog.set_socket_options`; None if there is none."""
    told = (cast("SocketOptions | None", getattr(module, "_socket_options", None)) for module in loaded("request"))
    return next((options for options in told if options is not None), None)
