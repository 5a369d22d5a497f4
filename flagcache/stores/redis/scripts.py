"""Lua scripts: read from their files, and the digest that names them in Redis."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from typing import NamedTuple

__all__ = ["Script", "load_script"]


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
