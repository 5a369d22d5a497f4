"""The place of a SQLite file: the links to it, and the users who may write its directory."""

from __future__ import annotations

import errno
import logging
import os
import stat
from pathlib import Path

from flagcache.errors import StoreError
from flagcache.runtime.log_prefix import prefix
from flagcache.stores.rights import others_may_write
from flagcache.stores.sqlite.fork_safety import identify

__all__ = ["check_directory", "resolved"]

_log = logging.getLogger(__name__)

_LINKS = 40
"""The number of links in a row that are followed, as in Linux."""

_ROOT = 0

_warned: set[Path] = set()
"""Directories about which a warning says that others may write them; children don't repeat it."""


def resolved(path: Path) -> Path:
    """Follow the links at the end of a path.

    In a directory that others may write, such as /tmp, a link may be another user's, who would choose which of our
    files is written or set aside.

    Raises:
        StoreError: a link belongs to another user; links of root are followed.
        OSError: it cannot be checked, or the links form a circle.
    """
    end = path
    for _ in range(_LINKS):
        try:
            found = end.lstat()
        except FileNotFoundError:
            break
        if not stat.S_ISLNK(found.st_mode):
            break
        if found.st_uid not in (_ROOT, os.geteuid()):
            what = f"{end} is a link of another user ({found.st_uid}), which is not followed; remove it"
            raise StoreError(what, address=f"SQLite store {path}")
        end = end.parent / end.readlink()
    else:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return Path(os.path.realpath(end.parent)) / end.name


def check_directory(directory: Path, name: Path) -> None:
    """Check that the directory exists; warn once if others may write it.

    Raises:
        StoreError: there is none.
        OSError: it cannot be checked.
    """
    if identify(directory) is None:  # from Python 3.14 on Path.is_dir hides every other reason
        what = f"the directory {directory} does not exist; make it, with mode 0700"
        raise StoreError(what, address=f"SQLite store {name}")
    if directory not in _warned and others_may_write(directory.stat()):
        text = "%s: SQLite store %s: others may write its directory %s; mode 0700 is safer"
        _log.warning(text, prefix(), name, directory)
        _warned.add(directory)
