"""The options of caches, checked and converted before anything is created."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from flagcache.encoding.protection import Protection, protection_of
from flagcache.errors import ConfigurationError
from flagcache.events import Event
from flagcache.settings import KeyMaterial, Options, Settings, check_namespace
from flagcache.stores.spec import scheme_in
from flagcache_posthog._unknown_options import refuse_unknown_option

__all__ = ["CommonOptions", "all_options", "checked_path", "common_options", "parse_options", "path_of", "scheme_of"]


class CommonOptions(Options, total=False):
    """The keyword arguments of every cache."""

    refresh_interval: float
    on_event: Callable[[Event], object] | None


def common_options(arguments: Mapping[str, object]) -> CommonOptions:
    """Return the options that every cache takes by keyword.

    Args:
        arguments: a constructor's arguments by name: its `locals()` before it has other variables. Only its signature
            names each option, for `help()` and editors.
    """
    return cast("CommonOptions", {name: arguments[name] for name in CommonOptions.__annotations__})


def all_options(
    namespace: str, refresh_interval: float, on_event: Callable[[Event], object] | None, options: Options
) -> Mapping[str, object]:
    """Return the arguments of `parse_options`; options that are missing have their defaults.

    Raises:
        ConfigurationError: there is no such option.
    """
    for name in options:
        if name not in Options.__annotations__:
            refuse_unknown_option(name, [*CommonOptions.__annotations__])
    defaults = {field.name: field.default for field in fields(Settings)}
    arguments = {"namespace": namespace, "refresh_interval": refresh_interval, "on_event": on_event}
    return {**defaults, "signing_key": None, "encryption_key": None, **options, **arguments}


def parse_options(arguments: Mapping[str, object]) -> tuple[Settings, Protection]:
    """Check the common options. The keys are stored only in the protection.

    Args:
        arguments: as in `common_options`, with the namespace.

    Raises:
        ConfigurationError: an option is invalid.
    """
    check_namespace(arguments["namespace"])
    on_event = arguments["on_event"]
    if on_event is not None and not callable(on_event):
        raise ConfigurationError(f"on_event must be a function that takes an event, or None, not {on_event!r}")
    protection = protection_of(
        cast("KeyMaterial | None", arguments["signing_key"]), cast("KeyMaterial | None", arguments["encryption_key"])
    )
    settings = Settings(**{field.name: cast("Any", arguments[field.name]) for field in fields(Settings)})
    return settings, protection


def checked_path(path: object) -> Path:
    """Return the file that a path names; it need not exist.

    Raises:
        ConfigurationError: the path names no file, or this process has no access to it.
    """
    text = str(path)
    if not isinstance(path, (str, os.PathLike)) or not text or "\0" in text:
        raise ConfigurationError(f"path must name a file, not {text!r}")
    if "://" in text:
        raise ConfigurationError(f"path must name a file, not a URL: {text!r}; from_url takes URLs")
    try:
        file = Path(cast("str | os.PathLike[str]", path)).expanduser().absolute()
        is_directory = _is_directory(file)
    except (OSError, RuntimeError) as exc:  # RuntimeError: `~` without a home directory
        reason = (isinstance(exc, OSError) and exc.strerror) or exc
        raise ConfigurationError(f"path {text!r} cannot be used: {reason}") from exc
    if is_directory:
        raise ConfigurationError(f"path must name a file, not the directory {text!r}")
    return file


def _is_directory(file: Path) -> bool:
    """As `Path.is_dir`, which hides errors of access from Python 3.14 on."""
    try:
        return stat.S_ISDIR(file.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def scheme_of(url: object) -> str:
    """Return the scheme of a URL; the argument may be of any type."""
    if not isinstance(url, str):
        raise ConfigurationError(f"url must be a string, not {type(url).__name__}")
    if "+" in (scheme := scheme_in(url)):  # the URL may have several hosts, which urlsplit refuses or takes for one
        return scheme
    try:
        return urlsplit(url).scheme
    except ValueError:
        raise ConfigurationError("url is invalid: its host is malformed") from None  # the cause may show a password


def path_of(url: str) -> str:
    """Return the path in an SQLite URL."""
    parts = urlsplit(url)
    if parts.netloc or not parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError("an SQLite URL is sqlite:///relative/path or sqlite:////absolute/path")
    return unquote(parts.path[1:])
