"""`--app module:attribute`: the commands find store, namespace and keys in the application's own cache."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache import from_url
from flagcache.cli import main
from flagcache.stores.sqlite.store import SqliteStore
from flagcache_posthog.testing import PostHogStandIn, make_definitions
from tests.support.servers import RedisServer

KEY = "a key of sixteen bytes or more"

MODULE = "shop_flags_of_the_test"

APP = """
import redis
from flagcache import MemoryFlagDefinitionCache, RedisFlagDefinitionCache, SqliteFlagDefinitionCache

class Shop:
    cache = {cache}

cache = Shop.cache
def make_cache():
    return cache
number = 7
def takes_one(argument):
    return cache
"""

Write = Callable[..., str]


@pytest.fixture
def write_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes the application's module into the working directory; returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(cache: str, source: str = APP) -> str:
        (tmp_path / f"{MODULE}.py").write_text(source.format(cache=cache))
        return MODULE

    yield write
    sys.modules.pop(MODULE, None)


@pytest.fixture
def app(request: pytest.FixtureRequest, write_app: Write, redis_server: RedisServer, namespace: str) -> str:
    """An application with a protected cache on Redis, in which there are definitions."""
    worker = from_url(redis_server.url, namespace, signing_key=KEY, fallback=None, auto_attach=False)
    assert worker.should_fetch_flag_definitions()
    worker.on_flag_definitions_received(cast("FlagDefinitionCacheData", make_definitions(3)))
    worker.shutdown()
    role = getattr(request, "param", "worker")
    client = f"redis.Redis(unix_socket_path={str(redis_server.socket_path)!r})"
    options = f"signing_key={KEY!r}, role={role!r}, refresh_interval=7"
    return write_app(f"RedisFlagDefinitionCache({client}, {namespace!r}, {options})")


@pytest.mark.parametrize("attribute", ["cache", "Shop.cache", "make_cache"])
def test_inspect_looks_where_the_cache_looks(
    app: str, attribute: str, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command reads the keys of the cache's namespace and protection, at its client's address."""
    assert main(["inspect", "--app", f"{app}:{attribute}", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["namespace"], printed["protection"]) == (namespace, "signed")
    assert printed["meta"]["version"]


@pytest.mark.parametrize("app", ["worker", "reader"], indirect=True)
def test_clear_empties_it(app: str, namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`clear` also works for a reader's store, because people may do more than a reader."""
    assert main(["clear", "--app", f"{app}:cache"]) == 2
    assert f"this empties namespace '{namespace}'" in capsys.readouterr().err
    assert main(["clear", "--app", f"{app}:cache", "--yes"]) == 0
    assert capsys.readouterr().out == "cleared; the epoch is now 1\n"


@pytest.mark.parametrize("app", ["worker", "reader"], indirect=True)
def test_refresh_fetches_for_its_fleet(
    app: str, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`refresh` uses its keys and interval; the project comes from the environment, as always."""
    with PostHogStandIn(make_definitions(4)) as posthog:
        for name, value in {"PROJECT_API_KEY": "phc_test", "SECRET_KEY": "phs_test", "HOST": posthog.url}.items():
            monkeypatch.setenv(f"POSTHOG_{name}", value)
        assert main(["clear", "--app", f"{app}:cache", "--yes"]) == 0
        assert main(["refresh", "--app", f"{app}:cache", "--once", "--json", "--protection", "plain"]) == 2
        assert "the keys of that cache result in signed" in capsys.readouterr().err
        assert main(["refresh", "--app", f"{app}:cache", "--once", "--json"]) == 0
        done = json.loads(capsys.readouterr().err.splitlines()[-1])
        assert (done["outcome"], done["namespace"]) == ("fetched", namespace)
    assert main(["inspect", "--app", f"{app}:cache", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["meta"]["version"] == done["version"]


def test_a_file_is_looked_into_and_not_made(
    write_app: Write, tmp_path: Path, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing file is not created, and a foreign one not changed, as with a URL."""
    app = write_app(f"SqliteFlagDefinitionCache({str(tmp_path / 'flags.db')!r}, {namespace!r})")
    before = sorted(tmp_path.iterdir())
    assert main(["inspect", "--app", f"{app}:cache"]) == 1
    assert "No such file" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    (tmp_path / "flags.db").write_text("shopping list")
    assert main(["clear", "--app", f"{app}:cache", "--yes"]) == 1
    assert "flagcache did not create this file" in capsys.readouterr().err
    assert (tmp_path / "flags.db").read_text() == "shopping list"


def test_inspect_changes_no_file(
    write_app: Write, tmp_path: Path, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken file stays where it is, as with its URL; a healthy one keeps every byte."""
    path = tmp_path / "flags.db"
    app = write_app(f"SqliteFlagDefinitionCache({str(path)!r}, {namespace!r})")
    with closing(SqliteStore(path, namespace)) as store:
        store.clear()
    sound = path.read_bytes()
    assert main(["inspect", "--app", f"{app}:cache"]) == 0
    assert path.read_bytes() == sound
    path.write_bytes(sound[:100] + b"x" * 5000)
    assert main(["inspect", "--app", f"{app}:cache"]) == 1
    assert "malformed" in capsys.readouterr().err
    assert path.read_bytes() == sound[:100] + b"x" * 5000
    assert [each.name for each in tmp_path.iterdir() if "corrupt" in each.name] == []


def test_a_mistake_in_the_module_is_shown_as_it_is(write_app: Write) -> None:
    """An error in the application's module is shown unchanged; the command doesn't report a missing cache."""
    app = write_app("", source="import os\ncache = os.enviorn")
    with pytest.raises(AttributeError, match="enviorn"):
        main(["inspect", "--app", f"{app}:cache"])


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        (":takes_one", "that is of type function; it must be"),
        ("", "must be MODULE:ATTRIBUTE"),
        (":nothing", "there is no 'nothing'"),
        (":Shop.nothing", "there is no 'Shop.nothing'"),
        (":number", "that is of type int; it must be one of flagcache's caches"),
        (":cache", "the memory of its own process"),
    ],
)
def test_what_is_no_shared_cache_is_refused(
    write_app: Write, namespace: str, attribute: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The refusal says what it is and what it must be."""
    app = write_app(f"MemoryFlagDefinitionCache({namespace!r})")
    assert main(["inspect", "--app", f"{app}{attribute}"]) == 2
    assert reason in capsys.readouterr().err


def test_a_module_that_is_not_there_and_one_that_needs_another(
    write_app: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing module is a mistake on the command line; a failed import in it is shown with its traceback."""
    assert main(["inspect", "--app", "no_such_module_of_ours:cache"]) == 2
    assert "there is no module 'no_such_module_of_ours'" in capsys.readouterr().err
    app = write_app("", source="import no_such_dependency_of_ours")
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency_of_ours"):
        main(["inspect", "--app", f"{app}:cache"])


@pytest.mark.parametrize("command", [["inspect"], ["clear", "--yes"], ["refresh", "--once"]])
def test_one_way_to_name_a_store(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The command takes URL and namespace, or an application, and not both."""
    assert main(command) == 2
    assert "which store?" in capsys.readouterr().err
    assert main([*command, "redis://127.0.0.1:1"]) == 2
    assert "which store?" in capsys.readouterr().err
    assert main([*command, "redis://127.0.0.1:1", "ns", "--app", "a:b"]) == 2
    assert "leave out STORE_URL and NAMESPACE" in capsys.readouterr().err
    if command[0] != "refresh":
        assert main([*command, "--app", "a:b", "--protection", "plain"]) == 2
        assert "leave out --protection" in capsys.readouterr().err
