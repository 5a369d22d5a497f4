"""A home directory that hosts share: each host has a file, and starts with another host's definitions."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from flagcache.stores.base import Envelope, Meta, Store
from flagcache.stores.fallback import fallback_specs
from tests.stores.test_sqlite import ask
from tests.support.forked_functions import forked

FINGERPRINT = "f" * 64


class System(NamedTuple):
    """The result of `os.uname`."""

    nodename: str


def on(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be on that host from now on."""
    monkeypatch.setattr(os, "uname", lambda: System(host))


def opened(folder: Path, fingerprint: str = FINGERPRINT) -> Store:
    """Open the fallback, as a process does."""
    (spec,) = fallback_specs(folder, fingerprint, "team", timeout=5.0, format_and_protection="1-plain")
    return spec.open()


def fill(store: Store, version: str) -> None:
    """Keep definitions there."""
    at = store.inspect().clock
    store.publish("keeper", Envelope(Meta(version, 0, at, at, at), version.encode()), fresh=False, lease=60_000)


def version(store: Store) -> str:
    """Return the version in the file."""
    meta = store.inspect().meta
    return meta.version if meta else ""


def names(folder: Path) -> list[str]:
    """The files."""
    return sorted(file.name for file in folder.iterdir())


def test_each_host_has_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each host has its own file, as the address shows; a name that no file may have is encoded."""
    for host, shown in (
        ("web-1", "web-1"),
        ("web-2.example", "web-2.example"),
        ("../etc", ".._etc"),
        ("", "localhost"),
    ):
        on(host, monkeypatch)
        (spec,) = fallback_specs(tmp_path, FINGERPRINT, "team", timeout=1.0, format_and_protection="1-plain")
        assert spec.address == f"sqlite://{tmp_path}/fallback-{FINGERPRINT[:32]}-{shown}-v1.sqlite"


def test_hosts_do_not_meet_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each leads, and keeps, for itself."""
    stores: list[Store] = []
    for host in ("a", "b"):
        on(host, monkeypatch)
        stores.append(opened(tmp_path))
        assert stores[-1].poll(ask(host)).leads
        fill(stores[-1], f"of-{host}")
    assert [version(store) for store in stores] == ["of-a", "of-b"]


@pytest.mark.parametrize("ended", ["closed", "killed"])
def test_a_new_host_begins_with_what_the_latest_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    """A container that restarts under another name has the last known good definitions, and no lease."""
    for host in ("a", "b"):
        on(host, monkeypatch)

        def live(content: str = f"of-{host}") -> str:
            store = opened(tmp_path)
            store.poll(ask("leader"))
            fill(store, content)
            if ended == "closed":
                store.close()
            os._exit(0)

        with forked(live) as child:
            child.answer()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    on("c", monkeypatch)
    store = opened(tmp_path)
    assert version(store) == "of-b"
    assert store.inspect().leader == ""
    assert store.poll(ask("new")).leads
    fill(store, "of-c")
    assert version(opened(tmp_path)) == "of-c"
    assert {name: content for name, content in before.items() if name in names(tmp_path)} == {
        name: (tmp_path / name).read_bytes() for name in before
    }


def test_what_a_release_without_hosts_left_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade does not begin with nothing."""
    on("a", monkeypatch)
    store = opened(tmp_path)
    fill(store, "v1")
    store.close()
    (tmp_path / f"fallback-{FINGERPRINT[:32]}-a-v1.sqlite").rename(tmp_path / f"fallback-{FINGERPRINT[:32]}-v1.sqlite")
    assert version(opened(tmp_path)) == "v1"


def test_only_what_belongs_to_the_same_store_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two Redis servers never share a file, and no file is copied that others may write or that is broken."""
    on("a", monkeypatch)
    fill(opened(tmp_path, "e" * 64), "another server's")
    start = f"fallback-{FINGERPRINT[:32]}"
    (tmp_path / f"{start}-broken-v1.sqlite").write_bytes(b"garbage" * 1000)
    store = opened(tmp_path)
    assert version(store) == ""
    fill(store, "v1")
    store.close()
    (tmp_path / f"{start}-a-v1.sqlite").chmod(0o666)
    on("b", monkeypatch)
    assert version(opened(tmp_path)) == ""
    assert not [name for name in names(tmp_path) if name.startswith(f"{start}-b-v1.sqlite.")]


def test_hosts_that_are_gone_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was not written for a month is deleted, with its log, when another host makes its own."""
    month = 30 * 86_400
    for host, age in (("old", month + 60), ("young", month - 60)):
        on(host, monkeypatch)
        store = opened(tmp_path)
        fill(store, host)
        store.close()
        file = tmp_path / f"fallback-{FINGERPRINT[:32]}-{host}-v1.sqlite"
        os.utime(file, (time.time() - age, time.time() - age))
    on("new", monkeypatch)
    assert version(opened(tmp_path)) == "young"
    hosts = [name.split("-")[2] for name in names(tmp_path)]
    assert sorted(set(hosts)) == ["new", "young"]


def test_two_processes_that_start_at_once_take_it_over_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that the first one has kept since is replaced by the copy."""
    on("a", monkeypatch)
    store = opened(tmp_path)
    fill(store, "old")
    store.close()
    on("b", monkeypatch)
    first, second = opened(tmp_path), opened(tmp_path)
    fill(first, "new")
    assert version(second) == version(opened(tmp_path)) == "new"
    with closing(sqlite3.connect(tmp_path / f"fallback-{FINGERPRINT[:32]}-b-v1.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
