"""The fallback store: where on this machine it is, and a check that no other user can have put it there.

It is in a *state* directory of the user, which outlives a reboot. Each fleet's store and database has a file of its
own, and so has each host: hosts that share a home directory share no memory, without which SQLite's log breaks.
Invariant: it never follows a link, and never uses what another user owns or may write, because a user who can write it
chooses a fleet's flags.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias, cast

from flagcache.errors import NO_PLACE, ConfigurationError, StoreError
from flagcache.runtime.clock import monotonic
from flagcache.runtime.log_prefix import prefix, process_name
from flagcache.stores.rights import make_directory, refuse_strangers
from flagcache.stores.spec import StoreSpec, missing_for_sqlite

__all__ = ["AUTO", "Fallback", "checked_fallback", "fallback_specs"]

Fallback: TypeAlias = str | os.PathLike[str] | None
"""The directory of the fallback store, made with mode 0700; None: there is none. `"auto"` is `flagcache` in
`$STATE_DIRECTORY` (systemd's) or `$XDG_STATE_HOME`, by default in `~/.local/state`; on systems on which a SQLite store
cannot work (Windows), it is None."""

AUTO = "auto"

_log = logging.getLogger(__name__)

_logged = False

_LONGEST_HOST = 64
"""The longest host name in a file's name, in characters; Linux allows no more."""

_NOWHERE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR)
"""Errors of a home directory in which no file can be made."""

_FORMAT = 1
"""The format of the file's tables. Versions of flagcache with another format use another file beside it."""


def checked_fallback(fallback: object) -> Fallback:
    """Return the argument if it is valid. If its path can't be resolved, log a warning and return None.

    Raises:
        ConfigurationError: it is no name of a directory, or names an existing file of another kind.
    """
    if fallback is None or fallback == AUTO:
        return None if fallback is None else AUTO
    shown = str(fallback)
    no_directory = not shown or "\0" in shown or "://" in shown or shown.lower() == AUTO
    if not isinstance(fallback, (str, os.PathLike)) or no_directory:
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
    """Return how each process opens the fallback store; nothing if there is none.

    Args:
        fallback: its directory.
        fingerprint: of the fleet's store, so that two servers or databases never share a file.
        namespace: several share a file.
        timeout: as for `SqliteStore`.
        format_and_protection: as for `SqliteStore`.

    Raises:
        ConfigurationError: `fallback` is invalid, or names a directory on a system that lacks what a SQLite store
            needs.
    """
    place = checked_fallback(fallback)
    if place is None:
        return ()
    if missing := missing_for_sqlite():
        if place != AUTO:
            raise ConfigurationError(f"no fallback store can work on this system: {missing}; say fallback=None")
        _log_once(missing)
        return ()
    # Here, because it is opened on any thread, and a child forked during that import could never import it.
    from flagcache.stores.sqlite.adoption import adopt, forget  # noqa: PLC0415 - slow to import, and not always needed
    from flagcache.stores.sqlite.store import SqliteStore  # noqa: PLC0415 - likewise

    def make() -> SqliteStore:
        file = _safe(_directory(place), fingerprint)
        if not file.exists():
            with suppress(OSError):  # if nothing can be written there, opening it reports that
                adopt(file, _others(file, fingerprint), monotonic() + timeout)
                forget(_others(file, fingerprint))
        return SqliteStore(
            file,
            namespace,
            timeout=timeout,
            format_and_protection=format_and_protection,
            replace_foreign=True,
            guard=_refuse_strangers,
        )

    return (StoreSpec(_address(place, fingerprint), make, fallback=True),)


def _log_once(missing: str) -> None:
    """Log one line for each process, however many caches it makes."""
    global _logged  # noqa: PLW0603 - one flag of the process
    if _logged:
        return
    _logged = True
    text = "%s: no fallback store on this system: %s; while Redis is away each process fetches for itself"
    _log.warning(text + " (fallback=None says so without this line)", prefix(), missing)


def _address(fallback: Fallback, fingerprint: str) -> str:
    """Return its address, for people."""
    try:
        return f"sqlite://{_file_in(_directory(fallback).directory, fingerprint)}"
    except StoreError:
        return "this machine's fallback store"


class _Place(NamedTuple):
    """The directory of the fallback store."""

    directory: Path
    home: Path | None = None
    """The user's home directory, if the place was derived from it."""


def _safe(place: _Place, fingerprint: str) -> Path:
    """Make the directory if it is missing, and return the file if only this user can have written it."""
    file = _file_in(place.directory, fingerprint)
    try:
        if place.home is not None:
            _make_below(place.home, file)
        else:
            make_directory(file.parent)
        refuse_strangers(file)
        _take_back(file)
    except OSError as exc:
        what = f"{exc.strerror or exc}; fallback=None goes without"
        raise StoreError(what, address=f"no fallback store in {file.parent}") from exc
    return file


def _refuse_strangers(file: Path) -> None:
    """Check, each time the file is opened, that no other user can have put it there.

    Raises:
        StoreError: another user can have put it there, or the check failed.
    """
    try:
        refuse_strangers(file)
    except OSError as exc:
        raise StoreError(f"{exc.strerror or exc}", address=f"no fallback store in {file.parent}") from exc


def _make_below(home: Path, file: Path) -> None:
    """Make the file's directory in an existing home directory.

    Raises:
        StoreError: there is no such home, or nothing can be written there. For a default that is not logged as trouble.
    """
    try:
        if not home.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(home))
        make_directory(file.parent)
        if not file.exists() and not os.access(file.parent, os.W_OK):
            raise PermissionError(errno.EACCES, "nothing can be written there", str(file.parent))
    except OSError as exc:
        if exc.errno not in _NOWHERE:
            raise
        raise _no_place(f"in {home}: {exc.strerror}") from exc


def _directory(fallback: Fallback) -> _Place:
    """Return the directory, from the argument or this process's environment.

    Raises:
        StoreError: this user has no home directory, and no variable names a place.
    """
    if fallback != AUTO:
        return _Place(Path(fallback or "").absolute())
    # systemd names several, separated by colons, if the unit has several. The XDG specification: ignore a relative one.
    for state in (os.environ.get("STATE_DIRECTORY", "").partition(":")[0], os.environ.get("XDG_STATE_HOME", "")):
        if Path(state).is_absolute():
            return _Place(Path(state) / "flagcache")
    try:
        home = Path.home()
    except RuntimeError as exc:
        raise _no_place("this user has no home directory") from exc
    if not home.is_absolute() or not os.environ.get("HOME", "/"):
        raise _no_place("HOME names no directory")
    return _Place(home / ".local" / "state" / "flagcache", home)


def _no_place(why: str) -> StoreError:
    return StoreError(
        f"no fallback store, because {why}; set STATE_DIRECTORY or XDG_STATE_HOME, or say fallback=None", NO_PLACE
    )


def _file_in(directory: Path, fingerprint: str) -> Path:
    """Return this host's file that belongs to the store with this fingerprint of address and database."""
    host = re.sub(r"[^A-Za-z0-9.-]", "_", process_name().rpartition(":")[0])[:_LONGEST_HOST] or "localhost"
    return directory / f"fallback-{fingerprint[:32]}-{host}-v{_FORMAT}.sqlite"


def _others(file: Path, fingerprint: str) -> list[Path]:
    """Return the files of other hosts, or of a release without host names in them, that belong to this user alone."""
    begins, ends = f"fallback-{fingerprint[:32]}-", f"v{_FORMAT}.sqlite"
    entries: list[Path] = []
    with suppress(OSError):  # not `glob`: Python 3.15 loads that at its first use, maybe during a fork
        entries = [*file.parent.iterdir()]
    found: list[Path] = []
    for other in entries:
        if other != file and other.name.startswith(begins) and other.name.endswith(ends):
            with suppress(OSError, StoreError):
                refuse_strangers(other)
                found.append(other)
    return found


def _take_back(file: Path) -> None:
    """Restore the mode of a file that a group of this process may write.

    Not through a descriptor, because to close it would release the locks that SQLite has on the file in this process.
    """
    for path in (file, *(file.with_name(file.name + suffix) for suffix in ("-wal", "-shm"))):
        with suppress(FileNotFoundError):
            found = path.lstat()
            if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & stat.S_IWGRP:
                with suppress(PermissionError):  # a file system with fixed rights
                    path.chmod(0o600)
