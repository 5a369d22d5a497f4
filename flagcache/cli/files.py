"""Files that the command is told to look into: opening one that is no store would make one, or move it aside."""

from __future__ import annotations

from pathlib import Path

from flagcache.errors import ConfigurationError, StoreError
from flagcache.stores.spec import missing_for_sqlite

__all__ = ["refuse_other_file"]


def refuse_other_file(path: Path) -> None:
    """Do nothing if the file is a store of ours.

    Raises:
        StoreError: it is none, or is not there.
        ConfigurationError: this system lacks what a SQLite store needs.
    """
    if missing := missing_for_sqlite():
        raise ConfigurationError(f"SQLite stores cannot work on this system: {missing}")
    from flagcache.stores.sqlite import tables as rows  # noqa: PLC0415 - SQLite, for who uses it

    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as exc:
        raise StoreError(f"SQLite store {path}: {exc.strerror}") from exc
    if not header.startswith(b"SQLite format 3\0") or header[68:72] != rows.SCHEMA.application.to_bytes(4, "big"):
        raise StoreError(f"SQLite store {path}: flagcache did not make this file")
