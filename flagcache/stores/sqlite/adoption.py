"""Copies the definitions of another host's file into a new fallback file.

Each host has its own file, because a write-ahead log needs memory that all its users share. A container's name changes
with each start, so its successor would begin with nothing, and the number of files would grow.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

from flagcache.stores.sqlite.create import alone
from flagcache.stores.sqlite.fork_safety import beside, identify, this_process

__all__ = ["adopt", "forget"]

_FORGOTTEN_AFTER = 30 * 86_400
"""Seconds after which a host that wrote nothing counts as gone. A running one renews its times every few minutes."""

_LEAVE = """
    UPDATE state SET owner = NULL, lease_until = NULL, holder = NULL, outcome = NULL, deputy = NULL, deputy_seen = NULL
"""
"""Deletes what belongs to another fleet: the leader, and the holder of a grant."""


def adopt(path: Path, others: Iterable[Path], until: float) -> None:
    """Make the file from a copy of the one that was written last, unless it exists.

    Does nothing if none can be copied, because another host may be writing.

    Raises:
        OSError: nothing can be made there, or not before this time of the monotonic clock.
    """
    process = this_process()
    with process.entered(), alone(path, until):
        if process.useless or identify(path) is not None:
            return
        for other in sorted(others, key=_written_at, reverse=True):
            with tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as folder:
                copied = Path(folder) / path.name
                with suppress(OSError, sqlite3.Error):
                    if _copy(other, copied):
                        for leftover in (beside(path, "-wal"), beside(path, "-shm")):
                            leftover.unlink(missing_ok=True)
                        copied.rename(path)
                        return


def forget(others: Iterable[Path]) -> None:
    """Delete the files of hosts that are gone."""
    for other in others:
        if _written_at(other) < time.time() - _FORGOTTEN_AFTER:
            for file in (other, beside(other, "-wal"), beside(other, "-shm")):
                with suppress(OSError):
                    file.unlink()


def _copy(other: Path, copied: Path) -> bool:
    """Copy a file and its log into one; False if it was written meanwhile."""
    before = _written_at(other)
    shutil.copy(other, copied)
    with suppress(FileNotFoundError):
        shutil.copy(beside(other, "-wal"), beside(copied, "-wal"))
    if _written_at(other) != before:
        return False
    copied.chmod(0o600)
    with closing(sqlite3.connect(copied, isolation_level=None)) as connection:
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute(_LEAVE)
        connection.execute("DELETE FROM notice")
        connection.execute("PRAGMA journal_mode=DELETE")  # everything is in the one file that is moved
        connection.execute("PRAGMA journal_mode=WAL")
        sound: tuple[str] = connection.execute("PRAGMA quick_check(1)").fetchone()
    return sound[0] == "ok" and not beside(copied, "-wal").exists()


def _written_at(file: Path) -> float:
    """Return when a file or its log was last written; 0 if it is missing."""
    times = [0.0]
    for path in (file, beside(file, "-wal")):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)
