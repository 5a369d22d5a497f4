"""`flagcache refresh`: its arguments, its environment, and its single run."""

from __future__ import annotations

import json
import re
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from posthog.flag_definition_cache import FlagDefinitionCacheData

from flagcache import events
from flagcache.cli import main, refresh
from flagcache.cli.health import address_of
from flagcache.cli.refresh import RefreshOptions
from flagcache.errors import ConfigurationError
from flagcache.stores.redis.store import RedisStore
from flagcache_posthog import from_url
from flagcache_posthog.refresher import Outcome, Project, Refresher
from flagcache_posthog.testing import Drip, PostHogStandIn, make_definitions
from tests.support.servers import RedisServer, free_port, until

SECRETS = ("phs_sesame", "pass-sesame")
ENVIRONMENT = ("POSTHOG_PROJECT_API_KEY", "POSTHOG_SECRET_KEY", "POSTHOG_HOST")


@pytest.fixture
def posthog(environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostHogStandIn]:
    """A PostHog for one test, and in the environment."""
    with PostHogStandIn(make_definitions(3)) as standin:
        monkeypatch.setenv("POSTHOG_HOST", standin.url)
        yield standin


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A project that doesn't exist, unless a test says otherwise, and no environment variable of the user."""
    for name in ("POSTHOG_PERSONAL_API_KEY", "FLAGCACHE_SIGNING_KEY", "FLAGCACHE_ENCRYPTION_KEY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_2", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name, value in zip(ENVIRONMENT, ("phc_test", SECRETS[0], f"http://127.0.0.1:{free_port()}"), strict=True):
        monkeypatch.setenv(name, value)


@pytest.fixture
def store(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The command's arguments for the store."""
    monkeypatch.setenv("STORE_OF_THE_TEST", redis_server.tcp_url)
    return "env:STORE_OF_THE_TEST"


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """Return the last printed line; all lines are JSON and contain no secret."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert not any(secret in captured.err for secret in SECRETS)
    lines = [cast("dict[str, object]", json.loads(line)) for line in captured.err.splitlines()]
    for line in lines:
        assert {"time", "level", "event", "message", "namespace"} <= set(line)
    return lines[-1]


# --- once ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_a_single_run_fetches_what_is_due(
    kind: str,
    posthog: PostHogStandIn,
    store: str,
    namespace: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first run fetches definitions (10 flag requests), the next sends their tag (1), an early one nothing."""
    target = store if kind == "redis" else f"sqlite:///{tmp_path}/flags.db"
    once = ["refresh", target, namespace, "--once", "--json"]
    assert main(once) == 0
    first = last_line(capsys)
    assert (first["event"], first["outcome"], first["level"], posthog.flag_requests) == (
        *("RefreshDone", "fetched", "info"),
        10,
    )
    assert main(once) == 0
    assert (last_line(capsys)["outcome"], posthog.requests) == ("fresh", 1)
    assert main([*once, "--interval", "0.01"]) == 0  # which has ended again before the run has ended
    unchanged = last_line(capsys)
    assert (unchanged["outcome"], unchanged["version"]) == ("unchanged", first["version"])
    assert (posthog.requests, posthog.flag_requests) == (2, 11)
    assert main(["inspect", target, namespace, "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert (seen["leader"], seen["meta"]["version"]) == ("", first["version"])


def test_what_workers_fetched_is_fresh(
    posthog: PostHogStandIn,
    store: str,
    redis_server: RedisServer,
    namespace: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run sends no request if a worker leads and has just fetched."""
    worker = from_url(redis_server.tcp_url, namespace)
    assert worker.should_fetch_flag_definitions()
    worker.on_flag_definitions_received(cast("FlagDefinitionCacheData", make_definitions(3)))
    assert main(["refresh", store, namespace, "--once", "--json"]) == 0
    assert (last_line(capsys)["outcome"], posthog.requests) == ("fresh", 0)
    worker.shutdown()


@pytest.mark.parametrize(("status", "ends"), [(401, 1), (403, 1), (404, 1), (402, 75), (429, 75), (503, 75)], ids=str)
def test_a_refused_run_tells_what_to_do(
    status: int,
    ends: int,
    posthog: PostHogStandIn,
    store: str,
    namespace: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The status is 1 if you must change something, 75 if a later run may succeed; the store keeps what it has."""
    once = ["refresh", store, namespace, "--once", "--json", "--interval", "0.01"]
    assert main(once) == 0
    version = last_line(capsys)["version"]
    posthog.fail(status)
    assert main(once) == ends
    line = last_line(capsys)
    assert (line["event"], line["level"], line["version"]) == ("RefreshFailed", "error", version)
    assert line["outcome"] == ("refused" if ends == 1 else "failed")
    assert str(status) in str(line["reason"])
    posthog.recover()


def test_an_unreachable_posthog_or_store_is_for_later(
    store: str, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The status is 75, with the reason in one line without the password; without the store PostHog isn't asked."""
    assert main(["refresh", store, namespace, "--once", "--json"]) == 75
    assert "ConnectionRefusedError" in str(last_line(capsys)["reason"])
    with PostHogStandIn() as posthog:
        monkeypatch.setenv("POSTHOG_HOST", posthog.url)
        monkeypatch.setenv("STORE_OF_THE_TEST", f"redis://:{SECRETS[1]}@127.0.0.1:{free_port()}/0")
        assert main(["refresh", store, namespace, "--once", "--json"]) == 75
        assert "does not answer" in str(last_line(capsys)["reason"])
        assert posthog.requests == 0


def test_another_projects_namespace_is_refused(
    posthog: PostHogStandIn,
    store: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Another project's definitions stay: the run ends with 1, and sends no request."""
    once = ["refresh", store, namespace, "--once", "--json", "--interval", "0.01"]
    assert main(once) == 0
    asked = posthog.requests
    monkeypatch.setenv("POSTHOG_PROJECT_API_KEY", "phc_other")
    assert main(once) == 1
    line = last_line(capsys)
    assert (line["outcome"], posthog.requests) == ("refused", asked)
    assert "belongs to another project" in str(line["reason"])


def test_protected_stores_need_their_keys(
    posthog: PostHogStandIn,
    store: str,
    redis_server: RedisServer,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Keys come from the environment; a second one only verifies and decrypts. Caches with the key read the result."""
    old, new = "a key of sixteen bytes", "another one of sixteen"
    once = ["refresh", store, namespace, "--once", "--json"]
    assert main([*once, "--protection", "signed"]) == 2
    assert "FLAGCACHE_SIGNING_KEY" in capsys.readouterr().err
    monkeypatch.setenv("FLAGCACHE_SIGNING_KEY", "")
    assert main(once) == 2
    capsys.readouterr()
    monkeypatch.setenv("FLAGCACHE_SIGNING_KEY", old)
    assert main([*once, "--protection", "signed"]) == 0
    assert last_line(capsys)["outcome"] == "fetched"
    worker = from_url(redis_server.tcp_url, namespace, signing_key=old)
    assert not worker.should_fetch_flag_definitions()
    assert len((worker.get_flag_definitions() or {"flags": []})["flags"]) == 4
    worker.shutdown()
    monkeypatch.setenv("FLAGCACHE_SIGNING_KEY", new)
    monkeypatch.setenv("FLAGCACHE_SIGNING_KEY_2", old)
    assert main(once) == 0
    assert (last_line(capsys)["outcome"], posthog.requests) == ("fresh", 1)


# --- arguments and environment ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["memory://", "ns"], "other processes can reach"),
        (["ftp://127.0.0.1", "ns"], "redis://, rediss://, unix:// or sqlite:///"),
        (["env:NOT_THERE", "ns"], "'NOT_THERE' is not set"),
        (["redis://127.0.0.1:1/0", " "], "namespace must have"),
        (["redis://127.0.0.1:1/0", "ns", "--interval", "0"], "refresh_interval must be from 0.01"),
        (["redis://127.0.0.1:1/0", "ns", "--once", "--health", "8080"], "--health needs a process that keeps running"),
        (["redis://127.0.0.1:1/0", "ns", "--health", "here"], "--health must be PORT"),
    ],
)
def test_what_cannot_be_right_is_refused(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid argument or environment ends the command with 2 and the reason, without a request."""
    assert main(["refresh", *arguments]) == 2
    captured = capsys.readouterr()
    assert reason in captured.err
    assert len(captured.err.splitlines()) == 1


def test_what_the_environment_lacks_is_named(
    store: str, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The status is 2, and one line names all missing variables, but no value; the secret key's older name works."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name)
    assert main(["refresh", store, namespace, "--once"]) == 2
    output = capsys.readouterr().err
    assert all(name in output for name in (*ENVIRONMENT, "POSTHOG_PERSONAL_API_KEY"))
    monkeypatch.setenv("POSTHOG_PROJECT_API_KEY", "phc_test")
    monkeypatch.setenv("POSTHOG_PERSONAL_API_KEY", SECRETS[0])
    assert main(["refresh", store, namespace, "--once"]) == 2
    assert capsys.readouterr().err == "flagcache: not set in the environment: POSTHOG_HOST\n"
    monkeypatch.setenv("POSTHOG_HOST", "eu.i.posthog.com")
    assert main(["refresh", store, namespace, "--once"]) == 2
    output = capsys.readouterr().err
    assert "must begin with https://" in output
    assert SECRETS[0] not in output


def test_a_single_run_waits_for_a_body_that_flows(
    redis_server: RedisServer, posthog: PostHogStandIn, namespace: str
) -> None:
    """A body may take longer than the wait for a grant; if the total time ends it, the reason says so."""
    project = Project("phc_test", "phs_sesame", posthog.url)
    for total, outcome, reason in (
        (0.5, Outcome.FAILED, "no complete answer within fetch_total_timeout = 0.5 s"),
        (20.0, Outcome.FETCHED, ""),
    ):
        posthog.fail(Drip(2.5))
        run = Refresher(
            redis_server.url,
            f"{namespace}-{total:g}",
            project,
            fetch_total_timeout=total,
            fetch_timeout=0.5,
            store_timeout=0.4,
        ).once()
        assert (run.outcome, run.reason) == (outcome, reason)


def test_a_refresher_keeps_its_lease_for_one_and_a_half_intervals(
    redis_server: RedisServer, posthog: PostHogStandIn, namespace: str
) -> None:
    """Others wait this long for a refresher that was killed, however rarely it fetches."""
    refresher = Refresher(
        redis_server.url, namespace, Project("phc_test", "phs_sesame", posthog.url), refresh_interval=10
    )
    runs = threading.Thread(target=refresher.run)
    runs.start()
    store = RedisStore(redis_server.url, namespace)
    try:
        until(lambda: store.inspect().meta, what="definitions")
        assert 10_000 < store.inspect().lease_left <= 15_000
    finally:
        refresher.stop()
        runs.join()
        store.close()


def test_nothing_shows_the_key() -> None:
    """A traceback or a debugger shows no secret of project or refresher; a refresher can't be a reader."""
    project = Project("phc_test", SECRETS[0], "https://eu.i.posthog.com")
    refresher = Refresher("redis://:pass-sesame@127.0.0.1:1/0", "ns", project)
    with pytest.raises(ConfigurationError, match="cannot have role"):
        Refresher("redis://127.0.0.1:1/0", "ns", project, role="reader")
    shown = f"{project!r} {refresher!r} {refresher.status()!r}"
    assert not any(secret in shown for secret in SECRETS)


# --- what the docs say -----------------------------------------------------------------------------------------------


PAGE = (Path(__file__).parents[2] / "docs" / "refresher.md").read_text()


def documented_commands() -> list[list[str]]:
    """Return all commands on the page, without the program's name."""
    in_units: list[str] = re.findall(r"^ExecStart=\S+/flagcache (.*)$", PAGE, re.MULTILINE)
    in_text: list[str] = re.findall(r"^    flagcache (.*)$", PAGE, re.MULTILINE)
    in_pods: list[str] = re.findall(r"^ *args: (\[.*\])$", PAGE, re.MULTILINE)
    return [*map(shlex.split, in_units + in_text), *map(json.loads, in_pods)]


def test_what_the_docs_say_to_run_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command line on the page is valid, names no secret, and listens where its probes ask."""
    understood: list[RefreshOptions] = []

    def understand(options: RefreshOptions, *_: object) -> int:
        understood.append(options)
        return 0

    monkeypatch.setattr(refresh, "run_refresh", understand)
    for words in documented_commands():
        assert main(words) == 0
    assert len(understood) == 5
    assert {options.namespace for options in understood} == {"my-team"}
    assert {options.store for options in understood} == {"env:FLAGCACHE_STORE_URL", "sqlite:////flags/store.db"}
    listening = [address_of(options.health)[1] for options in understood if options.health]
    assert [int(port) for port in re.findall(r"containerPort: (\d+)", PAGE)] == listening
    assert set(re.findall(r"path: (/[a-z]+)\b", PAGE)) == {"/healthz", "/readyz"}


def test_what_the_docs_name_is_there() -> None:
    """The environment variables, events and exit statuses on the page are those of the command."""
    source = Path(refresh.__file__).read_text()
    for name in set(re.findall(r"`((?:POSTHOG|FLAGCACHE)_[A-Z_]+?)(?:_2)?`", PAGE)):
        assert f'"{name}"' in source, name
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`", PAGE)) - {"Posthog"}
    assert len(named) > 8
    for name in named:
        kind = getattr(events, name, None) or getattr(refresh, name)
        assert issubclass(kind, events.Event), name
