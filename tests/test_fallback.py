"""Where the fallback store lies, and what may not be taken for it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from flagcache.errors import ConfigurationError, StoreError
from flagcache.stores.base import Store
from flagcache.stores.fallback import AUTO, Fallback, checked_fallback, fallback_specs
from flagcache_posthog import RedisFlagDefinitionCache, from_url


def opened(fallback: Fallback, fingerprint: str = "f" * 64) -> Store:
    """Open it, as a process does."""
    (spec,) = fallback_specs(fallback, fingerprint, "team", timeout=1.0, format_and_protection="1-plain")
    return spec.open()


def address(fallback: Fallback, fingerprint: str = "f" * 64) -> Path:
    """Its file."""
    (spec,) = fallback_specs(fallback, fingerprint, "team", timeout=1.0, format_and_protection="1-plain")
    return Path(spec.address.removeprefix("sqlite://"))


def test_it_lies_in_the_users_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the XDG specification has it: the variable where it is absolute, else below the home."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert address(AUTO).parent == tmp_path / "state" / "flagcache"
    monkeypatch.setenv("HOME", str(tmp_path))
    for useless in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", useless)
        assert address(AUTO).parent == tmp_path / ".local" / "state" / "flagcache"


def test_two_stores_have_two_files(tmp_path: Path) -> None:
    """The name holds the fingerprint of address and database."""
    assert address(tmp_path, "a" * 64) != address(tmp_path, "b" * 64)
    assert address(tmp_path, "a" * 64) == address(tmp_path, "a" * 64)


def test_directory_and_file_are_for_this_user_alone(tmp_path: Path) -> None:
    """Whatever the umask: 0700 and 0600, made when they are needed and not before."""
    old = os.umask(0)
    try:
        store = opened(tmp_path / "a" / "b")
        store.inspect()
    finally:
        os.umask(old)
    (file,) = (tmp_path / "a" / "b").glob("*.sqlite")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file.parent, file)] == [0o700, 0o600]
    store.close()


def test_a_link_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    """Also one that leads to a file of ours."""
    home = tmp_path / "flagcache"
    home.mkdir(mode=0o700)
    file = address(home)
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a link"):
        opened(home)
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """They could choose a fleet's flags."""
    opened(tmp_path / "x").inspect()
    (file,) = (tmp_path / "x").glob("*.sqlite")
    file.chmod(0o666)
    with pytest.raises(StoreError, match="0600"):
        opened(tmp_path / "x")


@pytest.mark.parametrize("wrong", ["", 7, True, b"bytes", "a\0b", object()])
def test_what_is_no_directory_is_refused_at_once(wrong: object) -> None:
    """In the constructor, with what was given and what may be."""
    with pytest.raises(ConfigurationError, match="fallback"):
        checked_fallback(wrong)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    """Nor is it replaced."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigurationError, match="not the file"):
        RedisFlagDefinitionCache("redis://127.0.0.1:1/0", "team", fallback=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_directory_that_cannot_be_found_is_done_without(caplog: pytest.LogCaptureFixture) -> None:
    """A fallback store is optional: a home that is not there is one warning with the remedy, and no exception."""
    assert checked_fallback("~nobody-of-this-name/state") is None
    (line,) = caplog.records
    assert line.levelname == "WARNING"
    assert "fallback=None" in line.getMessage()
    assert RedisFlagDefinitionCache("redis://127.0.0.1:1/0", "team", fallback="~nobody-of-this-name/state").status()


def test_a_directory_that_cannot_be_looked_at_is_told_of_when_it_is_opened(tmp_path: Path) -> None:
    """With an error of ours; here it is a name that no file system takes."""
    with pytest.raises(StoreError, match=r"no fallback store in .*fallback=None goes without"):
        opened(tmp_path / ("x" * 300))


def test_only_redis_has_one(tmp_path: Path) -> None:
    """A file or memory needs none; to give one is a mistake."""
    with pytest.raises(ConfigurationError, match="only a cache on Redis"):
        from_url(f"sqlite:///{tmp_path / 'flags.db'}", "team", fallback=tmp_path)
    assert from_url("memory://", "team", fallback=None).status().store == "memory://"
    assert fallback_specs(None, "f" * 64, "team", timeout=1.0, format_and_protection="1-plain") == ()
