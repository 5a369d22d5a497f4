"""The store in a SQLite file."""

from __future__ import annotations

from flagcache.stores.sqlite.store import CHECK_EVERY, SqliteStore, name_of

__all__ = ["CHECK_EVERY", "SqliteStore", "name_of"]
