"""`flagcache inspect` and `flagcache clear`, on a real server and a real file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flagcache.cli import main
from flagcache.encoding.codec import label_of
from flagcache.encoding.protection import protection_of
from flagcache.stores.base import Envelope, Grant, Meta, Scope, Store
from flagcache.stores.redis.store import RedisStore
from flagcache.stores.sqlite.store import SqliteStore
from flagcache.testing._store.cases import Worker
from tests.support.servers import RedisServer

KEY = "a key of sixteen bytes or more"


def fill(store: Store) -> Grant:
    """Let a worker publish definitions, and leave a note that the vendor is busy."""
    worker = Worker(store, "worker-1")
    grant = worker.granted()
    meta = Meta("v1", grant.epoch, grant.as_of, grant.at, grant.at, etag='"tag"', writer="some\u202e[31mbody")
    store.publish("worker-1", Envelope(meta, b"twelve bytes"), fresh=True, lease=60_000)
    worker.fail(grant, Scope.EVERYBODY, status=429, retry_after=60_000)
    store.close()
    return grant


@pytest.fixture(params=["redis", "sqlite"])
def url(request: pytest.FixtureRequest, namespace: str, tmp_path: Path) -> str:
    """A store with definitions and a note."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        fill(RedisStore(server.tcp_url, namespace, timeout=10.0))
        return server.tcp_url
    fill(SqliteStore(tmp_path / "flags.db", namespace, timeout=10.0))
    return f"sqlite:///{tmp_path}/flags.db"


def test_inspect_shows_everything_to_people(url: str, namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The lines show definitions, times with ages, leader, grant and failure, without terminal escapes."""
    assert main(["inspect", url, namespace]) == 0
    output = capsys.readouterr().out
    shown = {line[:14].strip(): line[14:] for line in output.splitlines()}
    assert shown["namespace"] == f"{namespace} (plain)"
    assert shown["definitions"] == "v1, 12 bytes"
    assert shown["entity tag"] == '"tag"'
    assert shown["writer"] == "some?[31mbody"
    assert shown["leader"].startswith("worker-1, for ")
    assert shown["failure"].startswith("HTTP 429; no worker fetches for ")
    for name in ("confirmed", "changed", "as of", "latest grant"):
        assert " UTC (" in shown[name]
        assert " s ago)" in shown[name]
    assert shown["latest grant"].endswith("to worker-1")


def test_inspect_tells_programs_the_same(url: str, namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` prints one object: the snapshot, in milliseconds."""
    assert main(["inspect", url, namespace, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["namespace"], printed["protection"], printed["epoch"]) == (namespace, "plain", 0)
    assert (printed["meta"]["version"], printed["payload_size"], printed["leader"]) == ("v1", 12, "worker-1")
    assert printed["meta"]["confirmed_at"] == printed["granted_at"] <= printed["clock"]
    assert (printed["note_status"], printed["grant_holder"]) == (429, "worker-1")


def test_clear_needs_to_be_sure(url: str, namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without `--yes` nothing happens and the status is 2; with it, definitions are gone and the epoch is higher."""
    assert main(["clear", url, namespace]) == 2
    assert "add --yes" in capsys.readouterr().err
    assert main(["clear", url, namespace, "--yes"]) == 0
    assert capsys.readouterr().out == "cleared; the epoch is now 1\n"
    assert main(["inspect", url, namespace, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["meta"], printed["epoch"], printed["note_status"]) == (None, 1, 0)


def test_an_empty_namespace_is_shown_as_one(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A namespace without data has no definitions, no leader and no grant."""
    assert main(["inspect", url, "unused"]) == 0
    output = capsys.readouterr().out.splitlines()
    for line in ("definitions   none", "leader        none", "latest grant  none"):
        assert line in output


def test_the_url_may_come_from_the_environment(
    url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`env:NAME` stands for the URL in a variable; one that is not set is refused."""
    monkeypatch.setenv("STORE_OF_THE_TEST", url)
    assert main(["inspect", "env:STORE_OF_THE_TEST", namespace]) == 0
    assert "v1, 12 bytes" in capsys.readouterr().out
    monkeypatch.delenv("STORE_OF_THE_TEST")
    assert main(["inspect", "env:STORE_OF_THE_TEST", namespace]) == 2
    assert "'STORE_OF_THE_TEST' is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("signing_key", "encryption_key"), [(None, None), (KEY, None), (None, KEY), (KEY, KEY)], ids=str
)
def test_each_protection_is_found_by_its_name(
    signing_key: str | None,
    encryption_key: str | None,
    tmp_path: Path,
    namespace: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Protected envelopes have other Redis keys; without a secret key all is shown except the entity tag."""
    protection = protection_of(signing_key, encryption_key)
    path = tmp_path / "flags.db"
    fill(SqliteStore(path, namespace, timeout=10.0, format_and_protection=label_of(protection)))
    assert main(["inspect", f"sqlite:///{path}", namespace, "--protection", protection.name]) == 0
    output = capsys.readouterr().out
    assert "v1, 12 bytes" in output
    assert ('"tag"' in output) == (protection.name == "plain")


@pytest.mark.parametrize("command", [["inspect"], ["clear", "--yes"]])
@pytest.mark.parametrize("url", ["redis://me:sesame@127.0.0.1:1/0", "unix:///nowhere/socket?password=sesame"])
def test_a_store_out_of_reach_is_one_line(url: str, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """If the store can't be reached, the status is 1 and one line names the store, without the password."""
    assert main([*command, url, "ns"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("flagcache: ")
    assert "sesame" not in captured.err


@pytest.mark.parametrize(
    ("url", "namespace", "reason"),
    [
        ("http://me:sesame@127.0.0.1", "ns", "must begin with redis://"),
        ("redis://:sesame@127.0.0.1:x/0", "ns", "cannot be read"),
        ("redis://:sesame@127.0.0.1:1/0", " ", "namespace must have"),
        ("sqlite://flags.db", "ns", "an SQLite URL is"),
    ],
)
def test_wrong_arguments_are_refused(url: str, namespace: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Invalid arguments end the command with 2 and the reason, without the password."""
    assert main(["inspect", url, namespace]) == 2
    output = capsys.readouterr().err
    assert reason in output
    assert "sesame" not in output


@pytest.mark.parametrize("command", [["inspect"], ["clear", "--yes"]])
def test_a_file_that_is_no_store_stays_as_it_is(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing file isn't created, and another program's file isn't renamed."""
    path = tmp_path / "notes"
    assert main([*command, f"sqlite:///{path}", "ns"]) == 1
    assert list(tmp_path.iterdir()) == []
    path.write_text("shopping list")
    assert main([*command, f"sqlite:///{path}", "ns"]) == 1
    assert "flagcache did not create this file" in capsys.readouterr().err
    assert [(file, file.read_text()) for file in tmp_path.iterdir()] == [(path, "shopping list")]


def test_clear_of_a_protected_namespace_needs_its_key(
    url: str, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Workers would undo an unsigned `clear`, so the command refuses, and says where the key comes from."""
    assert main(["clear", url, namespace, "--protection", "signed", "--yes"]) == 2
    assert "--app MODULE:ATTRIBUTE" in capsys.readouterr().err
