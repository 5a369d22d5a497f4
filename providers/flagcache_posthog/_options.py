"""The arguments of caches: checked and converted before anything is created."""

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
from flagcache_posthog._unknown_options import refuse_unknown

__all__ = ["Common", "all_options", "checked_path", "common", "path_of", "scheme_of", "understand"]


class Common(Options, total=False):
    """The keyword arguments of every cache."""

    refresh_interval: float
    on_event: Callable[[Event], object] | None


def common(given: Mapping[str, object]) -> Common:
    """Pick what every cache takes by keyword.

    Args:
        given: a constructor's arguments by their names: its `locals()` before it has any other. Its signature names
            each option, for `help()` and for editors; so nothing else has to.
    """
    return cast("Common", {name: given[name] for name in Common.__annotations__})


def all_options(
    namespace: str, refresh_interval: float, on_event: Callable[[Event], object] | None, options: Options
) -> Mapping[str, object]:
    """Return what `understand` takes, of options by name; those that were not given have their defaults.

    Raises:
        ConfigurationError: one of the options is none.
    """
    for name in options:
        if name not in Options.__annotations__:
            refuse_unknown(name, [*Common.__annotations__])
    defaults = {field.name: field.default for field in fields(Settings)}
    given = {"namespace": namespace, "refresh_interval": refresh_interval, "on_event": on_event}
    return {**defaults, "signing_key": None, "encryption_key": None, **options, **given}


def understand(given: Mapping[str, object]) -> tuple[Settings, Protection]:
    """Check what caches have in common; the keys go no further than into the protection.

    Args:
        given: as of `common`, with the namespace.

    Raises:
        ConfigurationError: one of them cannot be right.
    """
    check_namespace(given["namespace"])
    on_event = given["on_event"]
    if on_event is not None and not callable(on_event):
        raise ConfigurationError(f"on_event must be a function that takes an event, or None, not {on_event!r}")
    protection = protection_of(
        cast("KeyMaterial | None", given["signing_key"]), cast("KeyMaterial | None", given["encryption_key"])
    )
    settings = Settings(**{field.name: cast("Any", given[field.name]) for field in fields(Settings)})
    return settings, protection


def checked_path(path: object) -> Path:
    """Return the file that a path names; it need not be there.

    Raises:
        ConfigurationError: it names no file, or this process may not even look there.
    """
    shown = str(path)
    if not isinstance(path, (str, os.PathLike)) or not shown or "\0" in shown:
        raise ConfigurationError(f"path must name a file, not {shown!r}")
    if "://" in shown:
        raise ConfigurationError(f"path must name a file, not a URL: {shown!r}; from_url takes URLs")
    try:
        file = Path(cast("str | os.PathLike[str]", path)).expanduser().absolute()
        is_directory = _is_directory(file)
    except (OSError, RuntimeError) as exc:  # RuntimeError: `~` without a home directory
        reason = (isinstance(exc, OSError) and exc.strerror) or exc
        raise ConfigurationError(f"path {shown!r} cannot be used: {reason}") from exc
    if is_directory:
        raise ConfigurationError(f"path must name a file, not the directory {shown!r}")
    return file


def _is_directory(file: Path) -> bool:
    """As `Path.is_dir`, which from Python 3.14 on hides why it cannot look."""
    try:
        return stat.S_ISDIR(file.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def scheme_of(url: object) -> str:
    """Return the scheme of a URL, whatever is given for one."""
    if not isinstance(url, str):
        raise ConfigurationError(f"url must be a string, not {type(url).__name__}")
    if "+" in (scheme := scheme_in(url)):  # several hosts may stand in it, which urlsplit takes for one
        return scheme
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
