from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeAlias, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache.settings import Options
from flagcache.stores.sqlite.store import name_of
from flagcache_posthog import FlagDefinitionCache, SqliteFlagDefinitionCache
from tests.fuzz import strategies as hostile
from tests.fuzz.conftest import KINDS, fuzz, named, well_formed
from tests.fuzz.damaged_caches import INTERVAL, DamagedFleet, InputCount, damaged_fleet

Cell: TypeAlias = "int | float | str | bytes | None"


class RowEditor:
    """Reaches into one namespace of a file, as any other program can."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self.name = name

    def version(self) -> str:
        """What is stored."""
        version = self.get("state", "version")
        return version.decode(errors="replace") if isinstance(version, bytes) else ""

    def get(self, table: str, column: str) -> Cell:
        """One value."""
        with closing(sqlite3.connect(self._path, timeout=10)) as connection:
            connection.text_factory = bytes
            rows = connection.execute(f"SELECT {column} FROM {table} WHERE namespace = ?", (self.name,)).fetchall()
            return cast("Cell", rows[0][0]) if rows else None

    def put(self, table: str, **values: Cell) -> None:
        """Overwrite values."""
        assignments = ", ".join(f"{column} = :{column}" for column in values)
        self.run(f"UPDATE {table} SET {assignments} WHERE namespace = :me", **values)

    def run(self, statement: str, **values: Cell) -> None:
        """Do anything."""
        with closing(sqlite3.connect(self._path, timeout=10, isolation_level=None)) as connection:
            connection.execute(statement, {"me": self.name, **values})


@pytest.fixture
def editor(tmp_path: Path, namespace: str, kind: str) -> RowEditor:
    """Return the attacker that damages the file."""
    return RowEditor(tmp_path / "flags.db", name_of(namespace, format_and_protection=f"1-{kind}"))


@pytest.fixture
def both(tmp_path: Path, namespace: str, kind: str, editor: RowEditor) -> Iterator[DamagedFleet]:
    """Return the caches that must survive it."""

    def make(options: Options) -> FlagDefinitionCache:
        options = {**options, **KINDS[kind]}
        return SqliteFlagDefinitionCache(tmp_path / "flags.db", namespace, refresh_interval=INTERVAL, **options)

    with damaged_fleet(make, editor.version, partial(named, kind)) as pair:
        yield pair


def _cells() -> st.SearchStrategy[Cell]:
    """What a column can hold, whatever it was declared to hold; no note that would be believed for minutes."""
    integers = st.integers(0, 1000) | st.integers(hostile.HOUR + 1, 2**63 - 1) | st.integers(-(2**63), 0)
    return st.one_of(
        st.none(),
        integers,
        st.floats(),
        st.text(max_size=40),
        hostile.texts(),
        hostile.numbers().map(lambda number: number.decode("latin-1")),
    )


COLUMNS = (
    *("epoch", "highest", "version", "as_of", "changed_at", "confirmed_at", "etag", "writer", "project"),
    *("payload_size", "grant_as_of", "granted_1", "granted_2", "granted_3", "holder", "outcome", "failures", "owner"),
    *("lease_until", "lease_length", "led_since", "note_status", "note_until", "note_length", "repair_asked"),
    *("replaced_at", "key_missed_at", "reporting", "renewing", "fence", "deputy", "deputy_seen"),
)


@pytest.mark.parametrize("kind", ["plain", "signed"], indirect=True)
def test_rows(editor: RowEditor, both: DamagedFleet, count: InputCount) -> None:
    """With any content of any type in the columns of the state, workers notice nothing except an event."""

    @fuzz(max_examples=50)
    @given(spoilt=st.dictionaries(st.sampled_from(COLUMNS), _cells(), min_size=1, max_size=8))
    def spoil(spoilt: dict[str, Cell]) -> None:
        count.inputs += 1
        editor.put("state", **spoilt)
        both.survive()
        both.heal()

    spoil()


def test_payloads(editor: RowEditor, both: DamagedFleet, kind: str, count: InputCount) -> None:
    """Whatever is stored as payload: only well-formed definitions are used, with a key only our own."""

    def takes(got: FlagDefinitionCacheData) -> bool:
        return kind == "plain" and well_formed(got)

    @fuzz(max_examples=50)
    @given(forgery=hostile.payloads(), known=st.booleans())
    def spoil(forgery: hostile.Forgery, known: bool) -> None:
        count.inputs += 1
        version = editor.version() if known else "f" * 32
        payload = forgery.of(cast("bytes", editor.get("payload", "body") or b""), version)
        editor.put("payload", body=payload)
        later = int(cast("int", editor.get("state", "as_of") or 0)) + 1
        editor.put("state", version=version, payload_size=len(payload), as_of=later)
        both.survive(takes)
        both.heal()

    spoil()


DAMAGES = (
    "DELETE FROM state",
    "DELETE FROM payload",
    "UPDATE payload SET body = NULL",
    "UPDATE payload SET body = 'text'",
    "UPDATE payload SET body = zeroblob(3000000)",
    "UPDATE state SET namespace = namespace || 'x'",
    "INSERT OR REPLACE INTO payload (namespace, body) VALUES ('another', x'00')",
    "INSERT OR REPLACE INTO notice VALUES (:me, 9007199254740993, x'ff', 'x', -1)",
    "DELETE FROM notice",
    "DROP TABLE payload",
    "DROP TABLE notice",
    "ALTER TABLE state RENAME COLUMN etag TO other",
)
FOREIGN = (
    "CREATE TRIGGER spoiler AFTER INSERT ON state BEGIN SELECT RAISE(ABORT, 'no'); END",
    "PRAGMA application_id = 7",
    "PRAGMA user_version = 99",
)
"""What makes the file another program's, which is left as it is."""


@pytest.mark.parametrize("damage", [*DAMAGES, *FOREIGN])
@pytest.mark.parametrize("kind", ["plain"], indirect=True)
def test_damages(editor: RowEditor, both: DamagedFleet, damage: str, count: InputCount) -> None:
    """If rows, columns or tables are missing, no worker loses a flag, and a file of flagcache is repaired."""
    count.inputs += 1
    editor.run(damage)
    both.survive()
    if damage in DAMAGES:
        both.heal()
