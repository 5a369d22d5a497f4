"""Rights to files: whether a user other than this one and root may write a file or can have put it there.

Each directory on the path is opened through its parent's descriptor and never through a link, so the checked directory
is the one that is used. A user who may write a directory may rename its entries, unless it has the sticky bit.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from flagcache.errors import StoreError

__all__ = ["is_our_group", "make_directory", "others_may_write", "refuse_strangers"]

_ROOT = 0

_OVERFLOW = 65534

_LOOKS = ("-wal", "-shm", "")
"""Suffixes of the files that SQLite reads together, and the file itself."""


def others_may_write(found: os.stat_result) -> bool:
    """Whether users other than its owner may write it, unless they are of a group of this process.

    Kubernetes gives each directory of a volume with `fsGroup` the mode 2770, and each file 0660, at every mount:
    https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
    """
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not is_our_group(found.st_gid)


def is_our_group(group: int) -> bool:
    """Whether this process is of that group."""
    return group == os.getegid() or group in os.getgroups()


def refuse_strangers(file: Path) -> None:
    """Check the directories above a file, its directory, the file if it exists, and its log.

    Raises:
        StoreError: one of them is a link, is of the wrong kind, belongs to another user or can be written by others.
        OSError: one of them cannot be checked.
    """
    directory = Path(os.path.realpath(file.parent.parent)) / file.parent.name
    above = [*reversed(directory.parents)]
    with _entered(above[0], None) as top:
        _check_below(top, [*above[1:], directory], file)


def make_directory(directory: Path) -> None:
    """Make a directory, and those above it that are missing, with mode 0700 whatever the umask.

    Raises:
        OSError: it cannot be made.
    """
    missing = [path for path in (directory, *directory.parents) if not os.path.lexists(path)]
    for path in reversed(missing):
        with suppress(FileExistsError):  # another process was quicker
            path.mkdir(mode=0o700)
            path.chmod(0o700)
    directory.mkdir(mode=0o700, exist_ok=True)  # raises if it is not a directory


def _check_below(parent: int, rest: list[Path], file: Path) -> None:
    """Check the next directory through its parent's descriptor, then those below it."""
    path = rest[0]
    if len(rest) > 1:
        with _entered(path, parent) as entered:
            _refuse_parent(os.fstat(entered), path, file)
            return _check_below(entered, rest[1:], file)
    found = os.stat(path.name, dir_fd=parent, follow_symlinks=False)
    _refuse_directory(found, file.parent)
    with _entered(path, parent) as entered:
        _refuse_directory(os.fstat(entered), file.parent)
        for suffix in _LOOKS:
            with suppress(FileNotFoundError):
                name = file.name + suffix
                # We don't open it, because to close it would release the locks that SQLite has on it in this process.
                _refuse_file(os.stat(name, dir_fd=entered, follow_symlinks=False), file.with_name(name))
    return None


@contextmanager
def _entered(path: Path, parent: int | None) -> Generator[int]:
    """Open a directory. With `O_PATH`, if the system has it, the right to pass through is enough."""
    flags = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path if parent is None else path.name, flags, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _refuse_parent(found: os.stat_result, path: Path, file: Path) -> None:
    if found.st_uid not in (_ROOT, os.geteuid(), _overflow_user()):
        why = f"is in {path}, which belongs to another user ({found.st_uid}), who can replace it; name another"
        raise _refused(file.parent, why, directory=True)
    if others_may_write(found) and not found.st_mode & stat.S_ISVTX:
        why = f"is in {path}, which can be written by others, who can replace it; make that 0755, or name another"
        raise _refused(file.parent, why, directory=True)


def _refuse_directory(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISDIR(found.st_mode):
        link = stat.S_ISLNK(found.st_mode)
        why = "is a link; name what it leads to" if link else "is no directory; name another"
        raise _refused(path, why, directory=True)
    # A volume with `fsGroup` is root's, who can do everything in any case.
    if found.st_uid not in (_ROOT, os.geteuid()):
        raise _refused(path, f"belongs to another user ({found.st_uid})", directory=True)
    if others_may_write(found):
        raise _refused(path, "can be written by others; make its mode 0700", directory=True)


def _refuse_file(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        link = stat.S_ISLNK(found.st_mode)
        raise _refused(path, "is a link; name what it leads to" if link else "is no file; remove it", directory=False)
    if found.st_uid != os.geteuid():
        raise _refused(path, f"belongs to another user ({found.st_uid})", directory=False)
    if others_may_write(found):
        raise _refused(path, "can be written by others; make its mode 0600", directory=False)


def _overflow_user() -> int:
    """The user that Linux shows for users outside a user namespace: the host's root in some containers."""
    with suppress(OSError):
        if Path("/proc/self/uid_map").read_text(encoding="utf-8").split() != ["0", "0", "4294967295"]:
            return _OVERFLOW
    return _ROOT


def _refused(path: Path, why: str, *, directory: bool) -> StoreError:
    return StoreError(f"{'its directory' if directory else 'it'} {why}", address=f"no fallback store: {path}")
