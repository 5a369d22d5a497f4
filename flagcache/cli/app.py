"""The cache of the user's own application, named `module:attribute` on the command line.

It has what a URL lacks: how to reach its Redis (a Sentinel, a cluster, TLS, a credential provider), the namespace, and
the keys that protect the stored definitions.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from flagcache.cli.files import refuse_other_file
from flagcache.encoding.codec import Codec
from flagcache.errors import ConfigurationError
from flagcache.stores.spec import scheme_in

if TYPE_CHECKING:
    from flagcache.encoding.protection import Protection
    from flagcache.encoding.stamps import Stamps
    from flagcache.settings import Settings
    from flagcache.stores.base import Store
    from flagcache.stores.spec import StoreSpec
    from flagcache_posthog._base import CacheBase

__all__ = ["AppCache", "app_cache"]


@dataclass(frozen=True, slots=True)
class AppCache:
    """The store of an application's cache."""

    namespace: str
    protection: str
    """`Protection.name` of its envelopes."""
    keys: Protection
    """The same, with the keys."""
    settings: Settings
    spec: StoreSpec

    @property
    def stamps(self) -> Stamps:
        """As `flagcache.cli.store.StoreLocation.stamps`."""
        return Codec(self.namespace, self.keys, limit=self.settings.max_decoded_bytes).stamps

    @property
    def file(self) -> Path | None:
        """The SQLite file, if the store is one."""
        address = self.spec.address
        return Path(address.partition("://")[2]) if scheme_in(address) == "sqlite" else None

    def open(self) -> Store:
        """Open the store.

        Raises:
            StoreError: there is no such SQLite store.
        """
        if self.file is not None:
            refuse_other_file(self.file)
        return (self.spec.open_to_lead or self.spec.open)()


def app_cache(name: str) -> AppCache:
    """Import the module and return its cache.

    Args:
        name: `module:attribute`; the attribute may be a dotted path, or a function that takes no arguments and
            returns the cache.

    Raises:
        ConfigurationError: there is no such module or attribute, it isn't a cache, or its store is a process's memory.
    """
    from flagcache_posthog._base import config_of  # noqa: PLC0415 - needs the SDK

    cache = _cache_named(name)
    config = config_of(cache)
    spec = config.stores[0]
    if scheme_in(spec.address) == "memory":
        raise ConfigurationError(
            f"--app {name}: its store is the memory of its own process, which other processes can't read"
        )
    return AppCache(config.namespace, config.protection.name, config.protection, config.settings, spec)


def _cache_named(name: str) -> CacheBase:
    from flagcache_posthog._base import CacheBase  # noqa: PLC0415 - as above

    module, _, path = name.partition(":")
    if not module or not path:
        raise ConfigurationError(f"--app must be MODULE:ATTRIBUTE, such as shop.flags:cache, not {name!r}")
    imported = _imported(module)
    try:
        found = attrgetter(path)(imported)
    except AttributeError:
        raise ConfigurationError(f"--app {name}: there is no {path!r} in {module}") from None
    if callable(found) and not isinstance(found, CacheBase) and _takes_nothing(found):
        found = found()
    if not isinstance(found, CacheBase):
        raise ConfigurationError(
            f"--app {name}: that is of type {type(found).__name__}; it must be one of flagcache's caches, or a function"
            " that takes no arguments and returns one"
        )
    return found


def _takes_nothing(function: Callable[..., object]) -> bool:
    """Whether it can be called without arguments and returns its result directly."""
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return False
    return not inspect.iscoroutinefunction(function)


def _imported(module: str) -> object:
    """Import a module as gunicorn and uvicorn do, from the working directory first."""
    if (here := os.getcwd()) not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module}.".startswith(f"{exc.name}."):
            raise
        raise ConfigurationError(f"--app: there is no module {exc.name!r}, neither in {here} nor installed") from exc
