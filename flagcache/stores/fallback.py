"""The fallback store: where on this machine it is, and that nobody else can have put it there.

It lies in a *state* directory of the user, which outlives a reboot, in one file for each fleet's store and database.
Must never follow a link, nor use what another user owns or may write: whoever can write it chooses a fleet's flags.
"""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias, cast

from flagcache.errors import ConfigurationError, StoreError
from flagcache.runtime.here import prefix
from flagcache.stores.spec import StoreSpec, missing_for_sqlite

__all__ = ["AUTO", "Fallback", "checked_fallback", "fallback_specs"]

Fallback: TypeAlias = str | os.PathLike[str] | None
"""Where the fallback store is kept: a directory, made with mode 0700; `"auto"` is `$XDG_STATE_HOME/flagcache`, by
default `~/.local/state/flagcache`, and on systems where a SQLite store cannot work (Windows) None: there is none."""

AUTO = "auto"

_log = logging.getLogger(__name__)

_said = False

_FORMAT = 1
"""Of the file's tables: versions of flagcache with another one use another file, side by side."""


def checked_fallback(fallback: object) -> Fallback:
    """Return the argument if it can be one. Of a directory that cannot be found a warning tells: a cache does without.

    Raises:
        ConfigurationError: it is no directory's name, or names something that is there and is no directory.
    """
    if fallback is None or fallback == AUTO:
        return None if fallback is None else AUTO
    shown = str(fallback)
    if not isinstance(fallback, (str, os.PathLike)) or not shown or "\0" in shown:
        raise ConfigurationError(f'fallback must be "auto", None or a directory, not {shown!r}')
    try:
        path = Path(cast("str | os.PathLike[str]", fallback)).expanduser().absolute()
    except (OSError, RuntimeError) as exc:  # `~` without a home directory, or the working directory is gone
        _log.warning("%s: no fallback store in %r: %s; name an absolute path, or fallback=None", prefix(), shown, exc)
        return None
    with suppress(OSError):  # if we may not look there, opening the store reports it
        if path.exists() and not path.is_dir():
            raise ConfigurationError(f"fallback must name a directory, not the file {shown!r}")
    return path


def fallback_specs(
    fallback: Fallback, fingerprint: str, namespace: str, *, timeout: float, format_and_protection: str
) -> tuple[StoreSpec, ...]:
    """Return how each process opens the fallback store; nothing where there is none.

    Args:
        fallback: where.
        fingerprint: of the fleet's store: two servers or databases never meet in one file.
        namespace: several share a file.
        timeout: as of `SqliteStore`.
        format_and_protection: as of `SqliteStore`.

    Raises:
        ConfigurationError: `fallback` cannot be right, or names a directory on a system that lacks what a SQLite store
            needs.
    """
    place = checked_fallback(fallback)
    if place is None:
        return ()
    if missing := missing_for_sqlite():
        if place != AUTO:
            raise ConfigurationError(f"no fallback store can work on this system: {missing}; say fallback=None")
        _say_once(missing)
        return ()
    # Here and not when it is opened, on some thread: a child forked in mid-import could never import it.
    from flagcache.stores.sqlite.store import SqliteStore  # noqa: PLC0415 - who wants no fallback need not pay for it

    def make() -> SqliteStore:
        return SqliteStore(
            _safe(_file(place, fingerprint)),
            namespace,
            timeout=timeout,
            format_and_protection=format_and_protection,
            replace_foreign=True,
        )

    return (StoreSpec(_address(place, fingerprint), make, archive=True),)


def _say_once(missing: str) -> None:
    """One line a process, however many caches it makes."""
    global _said  # noqa: PLW0603 - one flag of the process
    if _said:
        return
    _said = True
    text = "%s: no fallback store on this system: %s; while Redis is away each process fetches for itself"
    _log.warning(text + " (fallback=None says so without this line)", prefix(), missing)


def _address(fallback: Fallback, fingerprint: str) -> str:
    """Return what people call it."""
    try:
        return f"sqlite://{_file(fallback, fingerprint)}"
    except StoreError:
        return "this machine's fallback store"


def _safe(file: Path) -> Path:
    """Return the file if it is nobody else's, having made its directory if that was not there."""
    try:
        file.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        _refuse_strangers(file.parent, directory=True)
        if file.is_symlink() or file.exists():
            _refuse_strangers(file, directory=False)
    except OSError as exc:
        what = f"{exc.strerror or exc}; fallback=None goes without"
        raise StoreError(what, address=f"no fallback store in {file.parent}") from exc
    return file


def _directory(fallback: Fallback) -> Path:
    """Return the directory that is meant, in this process's environment.

    Raises:
        StoreError: this user has no home directory and no `XDG_STATE_HOME`.
    """
    if fallback != AUTO:
        return Path(fallback or "").absolute()
    state = os.environ.get("XDG_STATE_HOME", "")
    if Path(state).is_absolute():  # the XDG specification: a relative one is to be ignored
        return Path(state) / "flagcache"
    try:
        return Path.home() / ".local" / "state" / "flagcache"
    except RuntimeError as exc:
        raise StoreError(
            "no fallback store: this user has no home directory; set XDG_STATE_HOME, or say fallback=None"
        ) from exc


def _file(fallback: Fallback, fingerprint: str) -> Path:
    """Return the file that belongs to the store with this fingerprint of address and database."""
    return _directory(fallback) / f"fallback-{fingerprint[:32]}-v{_FORMAT}.sqlite"


def _refuse_strangers(path: Path, *, directory: bool) -> None:
    found = path.lstat()
    kind = stat.S_ISDIR(found.st_mode) if directory else stat.S_ISREG(found.st_mode)
    if not kind:
        raise _refused(path, f"is a link or no {'directory' if directory else 'file'}; remove it", directory=directory)
    if found.st_uid != os.geteuid():
        raise _refused(path, f"belongs to another user ({found.st_uid})", directory=directory)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = "0700" if directory else "0600"
        raise _refused(path, f"can be written by others; make its mode {mode}", directory=directory)


def _refused(path: Path, why: str, *, directory: bool) -> StoreError:
    return StoreError(f"{'its directory' if directory else 'it'} {why}", address=f"no fallback store: {path}")
