"""What an error of SQLite, or of the system below it, means."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from flagcache.stores.sqlite.store_errors import is_broken, kind_of, words_of


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite3.OperationalError("database or disk is full"), "full"),
        (OSError(28, "No space left on device"), "full"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "read_only"),
        (OSError(30, "Read-only file system"), "read_only"),
        (sqlite3.OperationalError("database is locked"), "timeout"),
        (sqlite3.OperationalError("unable to open database file"), "unreachable"),
        (PermissionError(13, "Permission denied"), "rights"),
        (sqlite3.OperationalError("disk I/O error"), "failed"),
        (ValueError("anything"), "failed"),
    ],
)
def test_an_error_has_a_kind(error: Exception, kind: str) -> None:
    """An error has one of `StoreError`'s kinds."""
    assert kind_of(error) == kind


def raised(statement: str, before: Callable[[sqlite3.Connection], object] = lambda _connection: None) -> sqlite3.Error:
    """What SQLite itself raises."""
    connection = sqlite3.connect(":memory:")
    before(connection)
    with pytest.raises(sqlite3.Error) as caught:
        connection.execute(statement)
    connection.close()
    return caught.value


def test_a_file_without_our_tables_is_broken() -> None:
    """As is one that is no database; a locked or a full one is not."""
    assert is_broken(raised("select * from leases"))
    assert is_broken(raised("select absent from t", lambda connection: connection.execute("create table t (a)")))
    assert is_broken(raised("insert into t (b) values (1)", lambda c: c.execute("create table t (a)")))
    assert is_broken(sqlite3.DatabaseError("file is not a database"))
    assert not is_broken(sqlite3.OperationalError("database is locked"))
    assert not is_broken(sqlite3.IntegrityError("UNIQUE constraint failed"))


def test_words_have_no_path() -> None:
    """The address has it already."""
    assert words_of(PermissionError(13, "Permission denied", "/home/me/flags.db")) == "permission denied"
    assert words_of(sqlite3.OperationalError("database is locked")) == "database is locked"
