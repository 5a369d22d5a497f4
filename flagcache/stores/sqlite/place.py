"""Where a SQLite file lies: the links that lead there, and who may write its directory."""

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

__all__ = ["look_at_directory", "resolved"]

_log = logging.getLogger(__name__)

_LINKS = 40
"""How many links in a row are followed, as by Linux."""

_ROOT = 0

_warned: set[Path] = set()
"""Directories of which it was said that others may write them; children need not say it again."""


def resolved(path: Path) -> Path:
    """Follow the links at the end of a path.

    In a directory that others may write, as /tmp, each link there may be another user's, who would choose which file
    of ours is written, or set aside.

    Raises:
        StoreError: such a link belongs to another user; links of root are followed.
        OSError: it cannot be looked at, or the links form a circle.
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


def look_at_directory(directory: Path, name: Path) -> None:
    """Make sure that there is a directory; warn, once, if others may write it.

    Raises:
        StoreError: there is none.
        OSError: it cannot be looked at.
    """
    if identify(directory) is None:  # Path.is_dir hides any other reason from Python 3.14 on
        what = f"the directory {directory} does not exist; make it, with mode 0700"
        raise StoreError(what, address=f"SQLite store {name}")
    if directory not in _warned and others_may_write(directory.stat()):
        text = "%s: SQLite store %s: others may write its directory %s; mode 0700 is safer"
        _log.warning(text, prefix(), name, directory)
        _warned.add(directory)
