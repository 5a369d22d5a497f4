"""Lua scripts: read from their files, and run by the digest that names them in Redis."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from redis.exceptions import NoScriptError

from flagcache.stores.redis.pools import Word
from flagcache.stores.redis.routing import Route

__all__ = ["Script", "load_script", "run_script"]


class Script(NamedTuple):
    """A Lua script and the digest that names it in Redis."""

    text: str
    sha1: str

    @classmethod
    def of(cls, text: str) -> Script:
        """Return the script with this text."""
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@functools.cache
def load_script(name: str) -> Script:
    """Return the script in `flagcache/stores/redis/<name>.lua`."""
    return Script.of(resources.files("flagcache.stores.redis").joinpath(f"{name}.lua").read_text(encoding="utf-8"))


def run_script(route: Route, script: Script, keys: Sequence[str], args: Sequence[Word], *, suffix: str = "") -> object:
    """Run a script by its digest, or by its text if the server does not have it; `suffix` ends the command's name."""
    try:
        return route.execute(keys, f"EVALSHA{suffix}", script.sha1, len(keys), *keys, *args)
    except NoScriptError:
        # Not SCRIPT LOAD: EVAL also reaches the node that took over a slot and has none of the scripts.
        return route.execute(keys, f"EVAL{suffix}", script.text, len(keys), *keys, *args)
