"""Runs commands on a stand-in in another process."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from flagcache.errors import FlagcacheError

from ._http import CONTROL_PREFIX

_TIMEOUT = 30.0  # seconds for a reply, in addition to the time that the command itself may wait


def run_over_http(url: str, ca_file: str | None, command: str, arguments: Mapping[str, object]) -> object:
    """Run one command on a new connection, which no other thread or forked child shares.

    Raises:
        FlagcacheError: The stand-in is gone or refuses.
    """
    wait = arguments.get("timeout", 0.0)
    connection = _connect(url, ca_file, _TIMEOUT + (wait if isinstance(wait, (int, float)) else 0.0))
    try:
        connection.request(
            "POST", CONTROL_PREFIX + command, json.dumps(arguments), {"Content-Type": "application/json"}
        )
        reply: dict[str, object] = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise FlagcacheError(f"the stand-in at {url} does not answer {command!r}: has it been stopped?") from exc
    finally:
        connection.close()
    if "error" in reply:
        raise FlagcacheError(f"the stand-in at {url} refuses {reply['error']}")
    return reply["result"]


def _connect(url: str, ca_file: str | None, timeout: float) -> http.client.HTTPConnection:
    address = urlsplit(url).netloc
    if ca_file is None:
        return http.client.HTTPConnection(address, timeout=timeout)
    context = ssl.create_default_context(cafile=ca_file)
    return http.client.HTTPSConnection(address, timeout=timeout, context=context)
