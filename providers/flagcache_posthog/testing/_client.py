"""Asking a stand-in in another process."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from flagcache.errors import FlagcacheError

from ._http import CONTROL_PREFIX

_PATIENCE = 30.0  # seconds for an answer, on top of what the verb itself may wait


def ask_over_http(url: str, ca_file: str | None, verb: str, arguments: Mapping[str, object]) -> object:
    """Have one verb done, on a connection of its own: nothing is shared with other threads or forked children.

    Raises:
        FlagcacheError: The stand-in is gone or refuses.
    """
    waits = arguments.get("timeout", 0.0)
    connection = _connect(url, ca_file, _PATIENCE + (waits if isinstance(waits, (int, float)) else 0.0))
    try:
        connection.request("POST", CONTROL_PREFIX + verb, json.dumps(arguments), {"Content-Type": "application/json"})
        answer: dict[str, object] = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise FlagcacheError(f"the stand-in at {url} does not answer {verb!r}: has it been stopped?") from exc
    finally:
        connection.close()
    if "error" in answer:
        raise FlagcacheError(f"the stand-in at {url} refuses {answer['error']}")
    return answer["told"]


def _connect(url: str, ca_file: str | None, timeout: float) -> http.client.HTTPConnection:
    address = urlsplit(url).netloc
    if ca_file is None:
        return http.client.HTTPConnection(address, timeout=timeout)
    context = ssl.create_default_context(cafile=ca_file)
    return http.client.HTTPSConnection(address, timeout=timeout, context=context)
