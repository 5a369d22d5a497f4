"""What caches are told: checked, and given its form, before anything is made of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

from flagcache.encoding.protection import Protection, protection_of
from flagcache.errors import ConfigurationError
from flagcache.settings import Options, Settings, SettingsOptions, check_namespace

__all__ = ["checked_path", "path_of", "scheme_of", "understand"]


def understand(namespace: str, refresh_interval: float, options: Options) -> tuple[Settings, Protection]:
    """Check all arguments that caches have in common; the keys go no further than into the protection."""
    check_namespace(namespace)
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        raise ConfigurationError(
            f"unknown option {unknown[0]!r}; there are: {', '.join(sorted(Options.__annotations__))}"
        )
    rest = options.copy()
    protection = protection_of(rest.pop("signing_key", None), rest.pop("encryption_key", None))
    settings = Settings(refresh_interval=refresh_interval, **cast("SettingsOptions", rest))
    return settings, protection


def checked_path(path: object) -> Path:
    """Return the file that a path names; it need not be there."""
    shown = str(path)
    if not isinstance(path, (str, os.PathLike)) or not shown or "\0" in shown:
        raise ConfigurationError(f"path must name a file, not {shown!r}")
    file = Path(cast("str | os.PathLike[str]", path)).expanduser().absolute()
    if file.is_dir():
        raise ConfigurationError(f"path must name a file, not the directory {shown!r}")
    return file


def scheme_of(url: object) -> str:
    """Return the scheme of a URL, whatever is given for one."""
    if not isinstance(url, str):
        raise ConfigurationError(f"url must be a string, not {type(url).__name__}")
    try:
        return urlsplit(url).scheme
    except ValueError:
        raise ConfigurationError("url is no URL: the host in it is malformed") from None  # it may show a password


def path_of(url: str) -> str:
    """Return the path in an SQLite URL."""
    parts = urlsplit(url)
    if parts.netloc or not parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError("an SQLite URL is sqlite:///relative/path or sqlite:////absolute/path")
    return unquote(parts.path[1:])
