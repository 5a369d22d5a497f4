from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flagcache import __version__
from flagcache.cli import main

_POSTHOG = ("POSTHOG_PROJECT_API_KEY", "POSTHOG_SECRET_KEY", "POSTHOG_HOST")


@pytest.fixture(autouse=True)
def no_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the environment variables of a real project, so that it gets no request."""
    for name in _POSTHOG:
        monkeypatch.delenv(name, raising=False)


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`flagcache --version` names the package and its version, and ends with 0."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"flagcache {__version__}\n"


def test_without_a_command_it_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    """`flagcache` alone is refused with its usage."""
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "usage: flagcache" in capsys.readouterr().err


def test_the_version_needs_nothing_but_the_package() -> None:
    """The command loads neither SDK, nor client, nor an extra before a sub-command needs them."""
    script = "import sys, flagcache.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=_python_path()
    )
    assert set(done.stdout.split()) & {"flagcache_posthog", "gunicorn", "posthog", "redis", "rich"} == set()


@pytest.mark.parametrize("missing", ["gunicorn", "rich"])
def test_a_missing_extra_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without what the demo needs, it ends with 2 and the line that installs it."""
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["demo"]) == 2
    output = capsys.readouterr().err
    assert missing in output
    assert 'pip install "flagcache[demo]"' in output


@pytest.mark.parametrize("given", [_POSTHOG[:1], _POSTHOG[1:], _POSTHOG[::2]])
def test_half_a_project_is_refused(
    given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With only some of the three variables set, the demo ends with 2 and names the missing ones, but no value."""
    for name in given:
        monkeypatch.setenv(name, "sesame")
    assert main(["demo"]) == 2
    output = capsys.readouterr().err
    missing = output.partition(" not set")[0]
    assert {name for name in _POSTHOG if name in missing} == set(_POSTHOG) - set(given)
    assert "sesame" not in output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--workers", "1"], "--workers must be from 2 to 64"),
        (["--workers", "65"], "--workers must be from 2 to 64"),
        (["--refresh", "0"], "--refresh must be from 0.1 to 60 seconds, not 0"),
        (["--refresh", "nan"], "--refresh must be"),
        (["--seconds", "inf"], "--seconds must be"),
        (["--store", "memory://"], "belongs to one process"),
        (["--store", "ftp://somewhere"], "unknown scheme 'ftp'"),
    ],
)
def test_wrong_options_are_refused(
    arguments: list[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Invalid options end the demo with 2 and the reason, before anything is started."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["demo", *arguments]) == 2
    captured = capsys.readouterr()
    assert reason in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def _python_path() -> dict[str, str]:
    """Return an environment in which a child imports the same packages as this process."""
    return {"PYTHONPATH": ":".join(filter(None, sys.path))}
