"""Checks that a file is a flagcache store before a command opens it, which would change any other file."""

from __future__ import annotations

from pathlib import Path

from flagcache.errors import ConfigurationError, StoreError
from flagcache.stores.spec import missing_for_sqlite

__all__ = ["refuse_other_file"]


def refuse_other_file(path: Path) -> None:
    """Raise if the file is not a flagcache store.

    Raises:
        StoreError: it isn't a flagcache store, or doesn't exist.
        ConfigurationError: this system lacks what an SQLite store needs.
    """
    if missing := missing_for_sqlite():
        raise ConfigurationError(f"SQLite stores cannot work on this system: {missing}")
    from flagcache.stores.sqlite import tables as rows  # noqa: PLC0415 - needs SQLite

    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as exc:
        raise StoreError(f"SQLite store {path}: {exc.strerror}") from exc
    if not header.startswith(b"SQLite format 3\0") or header[68:72] != rows.SCHEMA.application.to_bytes(4, "big"):
        raise StoreError(f"SQLite store {path}: flagcache did not create this file")
