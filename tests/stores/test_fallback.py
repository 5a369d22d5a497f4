"""The path of the fallback store, and which files are refused."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from flagcache.errors import ConfigurationError, StoreError
from flagcache.runtime.clock import monotonic
from flagcache.stores.base import Store
from flagcache.stores.fallback import AUTO, Fallback, checked_fallback, fallback_specs
from flagcache.stores.sqlite.connection import Mode, connect
from flagcache.stores.sqlite.store import SqliteStore
from flagcache_posthog import RedisFlagDefinitionCache, from_url
from tests.stores.test_sqlite_file import mounted
from tests.support.forked_functions import forked
from tests.support.servers import until


def opened(fallback: Fallback, fingerprint: str = "f" * 64) -> Store:
    """Open it, as a process does."""
    (spec,) = fallback_specs(fallback, fingerprint, "team", timeout=1.0, format_and_protection="1-plain")
    return spec.open()


def address(fallback: Fallback, fingerprint: str = "f" * 64) -> Path:
    """Its file."""
    (spec,) = fallback_specs(fallback, fingerprint, "team", timeout=1.0, format_and_protection="1-plain")
    return Path(spec.address.removeprefix("sqlite://"))


def test_it_lies_in_the_users_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in the XDG specification: the variable if it is absolute, otherwise below the home directory."""
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
    """Whatever the umask, the modes are 0700 and 0600; both are made when they are needed."""
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
    """A link is refused too, also one to a file of flagcache."""
    home = tmp_path / "flagcache"
    home.mkdir(mode=0o700)
    file = address(home)
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a link"):
        opened(home)
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """A file that others may write is refused, because they could choose a fleet's flags."""
    opened(tmp_path / "x").inspect()
    (file,) = (tmp_path / "x").glob("*.sqlite")
    file.chmod(0o666)
    with pytest.raises(StoreError, match="0600"):
        opened(tmp_path / "x")


@pytest.mark.parametrize("wrong", ["", 7, True, b"bytes", "a\0b", object()])
def test_what_is_no_directory_is_refused_at_once(wrong: object) -> None:
    """The constructor refuses what is no directory, with the value and what is accepted."""
    with pytest.raises(ConfigurationError, match="fallback"):
        checked_fallback(wrong)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    """A file in the place of the directory is refused and not replaced."""
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
    """The error is a flagcache error; here it is a name that no file system accepts."""
    with pytest.raises(StoreError, match=r"no fallback store in .*fallback=None goes without"):
        opened(tmp_path / ("x" * 300))


def test_only_redis_has_one(tmp_path: Path) -> None:
    """A file or memory needs none; to give one is a mistake."""
    with pytest.raises(ConfigurationError, match="only a cache on Redis"):
        from_url(f"sqlite:///{tmp_path / 'flags.db'}", "team", fallback=tmp_path)
    assert from_url("memory://", "team", fallback=None).status().store == "memory://"
    assert fallback_specs(None, "f" * 64, "team", timeout=1.0, format_and_protection="1-plain") == ()


ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts, or becomes another user")
OTHER, GROUP, FOREIGN = 54321, 54322, 54323


def as_user(work: Callable[[], str], *, groups: tuple[int, ...] = ()) -> str:
    """Do something in a process of another user, who also belongs to these groups."""

    def become() -> str:
        os.setgroups(groups)
        os.setgid(OTHER)
        os.setuid(OTHER)
        return work()

    with forked(become) as child:
        return child.answer()


def problem_of(work: Callable[[], object]) -> str:
    """What went wrong, if anything: its kind and words."""
    try:
        work()
    except StoreError as exc:
        return f"{exc.kind}: {exc}"
    return "fine"


@contextlib.contextmanager
def volume(group: int) -> Generator[Path]:
    """A volume as a pod with that `fsGroup` finds it, and a function's worth of what kubelet does at each mount."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        root = Path(name) / "volume"
        root.mkdir()
        mount(root, group)
        yield root


def mount(root: Path, group: int) -> None:
    """Prepare a volume as kubelet does for `fsGroup`: all belongs to the group, which may read and write it."""
    for path in (root, *root.rglob("*")):
        os.chown(path, -1, group)
        path.chmod(path.stat().st_mode | (0o2770 if path.is_dir() else 0o660))


@ROOT
@pytest.mark.parametrize("inside", ["", "flagcache"], ids=["the volume itself", "a directory in it"])
def test_a_volume_with_a_group_of_ours_is_used_pod_after_pod(inside: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each mount gives the group all rights; the file is this user's alone again once a process has opened it."""
    with volume(GROUP) as root:

        def work() -> str:
            store = opened(root / inside)
            epoch = store.clear()
            (file,) = (root / inside).glob("*.sqlite")
            modes = {stat.S_IMODE(path.stat().st_mode) for path in file.parent.glob("*.sqlite*")}
            return f"{epoch} {[oct(mode) for mode in modes]} {len(caplog.records)}"

        for pod in (1, 2, 3):
            assert problem_of(lambda: None) == "fine"
            assert as_user(work, groups=(GROUP,)) == f"{pod} ['0o600'] 0"
            mount(root, GROUP)
            assert {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*.sqlite*")} == {0o660}


@ROOT
def test_a_group_that_is_not_ours_is_refused() -> None:
    """A foreign group's directory is refused, because its members could choose a fleet's flags."""
    with volume(GROUP) as root:
        assert as_user(lambda: str(opened(root / "flagcache").clear()), groups=(GROUP,)) == "1"
        os.chown(root, OTHER, -1)
        mount(root, FOREIGN)
        answer = as_user(lambda: problem_of(lambda: opened(root / "flagcache")), groups=(GROUP,))
        assert "can be written by others" in answer
        (root / "flagcache").chmod(0o700)
        answer = as_user(lambda: problem_of(lambda: opened(root / "flagcache")), groups=(GROUP,))
        assert "can be written by others" in answer  # the file


@ROOT
@pytest.mark.parametrize("umask", [0, 0o022, 0o777], ids=oct)
def test_directories_that_it_makes_are_this_users_alone_whatever_the_umask(umask: int) -> None:
    """The directory, and those above it that were missing, have mode 0700, for a user without any privilege too."""
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, OTHER, OTHER)
        wanted = Path(name) / "a" / "b" / "flagcache"

        def work() -> str:
            os.umask(umask)
            opened(wanted).clear()
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (wanted.parent.parent, wanted.parent, wanted)]
            return " ".join(map(oct, modes + [stat.S_IMODE(file.stat().st_mode) for file in wanted.glob("*.sqlite")]))

        assert as_user(work) == "0o700 0o700 0o700 0o600"


@contextlib.contextmanager
def shared_folder(mode: int, owner: int = -1) -> Generator[Path]:
    """A directory of root's, or another user's, of this mode, above that of a worker's fallback store."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        shared = Path(name) / "shared"
        (shared / "state").mkdir(parents=True)
        os.chown(shared / "state", OTHER, OTHER)
        (shared / "state").chmod(0o700)
        os.chown(shared, owner, -1)
        shared.chmod(mode)
        yield shared


@ROOT
@pytest.mark.parametrize(
    ("mode", "owner", "answer"),
    [
        (0o777, -1, "shared, which can be written by others"),
        (0o755, FOREIGN, "shared, which belongs to another user"),
        (0o1777, FOREIGN, "shared, which belongs to another user"),
        (0o1777, -1, "fine"),
        (0o755, -1, "fine"),
        (0o755, OTHER, "fine"),
    ],
)
def test_a_directory_that_others_can_replace_is_refused(mode: int, owner: int, answer: str) -> None:
    """A user who may write the directory above may replace it, unless that has the sticky bit, as /tmp has."""
    with shared_folder(mode, owner) as shared:
        assert answer in as_user(lambda: problem_of(lambda: opened(shared / "state" / "flagcache").clear()))


def become(user: int) -> None:
    """Be another user from now on."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def flag(shared: Path, name: str) -> Path:
    """A file by which the processes of a test wait for one another."""
    return shared.parent / name


def used_again(shared: Path) -> str:
    """In a worker: use the store, let the test do its part, use it again, and return the result."""
    become(OTHER)
    store = opened(shared / "state")
    store.clear()
    (shared / "state" / "ready").touch()
    until(flag(shared, "go").exists, what="the attack")
    return f"{problem_of(store.inspect)}, {problem_of(store.clear)}"


def plant(shared: Path) -> str:
    """As another user: put a directory and a copy of the file in the place of the worker's, for all to use."""
    become(FOREIGN)
    name = next(path.name for path in flag(shared, "copies").iterdir())
    (shared / "state").rename(shared / "old")
    (shared / "state").mkdir()
    shutil.copy(flag(shared, "copies") / name, shared / "state" / name)
    (shared / "state" / name).chmod(0o666)
    (shared / "state").chmod(0o777)
    return "planted"


@ROOT
def test_a_directory_that_was_swapped_under_a_running_worker_is_refused() -> None:
    """If rights above change while a worker runs, and another user swaps its directory, it uses nothing of that."""
    with shared_folder(0o755) as shared, forked(lambda: used_again(shared)) as worker:
        until((shared / "state" / "ready").exists, what="the worker")
        flag(shared, "copies").mkdir()
        for file in (shared / "state").glob("*.sqlite"):
            shutil.copy(file, flag(shared, "copies") / file.name)
            (flag(shared, "copies") / file.name).chmod(0o644)
        shared.chmod(0o777)
        with forked(lambda: plant(shared)) as attacker:
            assert attacker.answer() == "planted"
        flag(shared, "go").touch()
        assert worker.answer().count("shared, which can be written by others") == 2


@ROOT
@pytest.mark.parametrize("what", ["directory", "link", "file"])
def test_what_another_user_put_there_is_refused_at_each_open(what: str) -> None:
    """A running worker checks the directory and the file each time that it opens the file."""
    with shared_folder(0o755) as shared, forked(lambda: used_again(shared)) as worker:
        state = shared / "state"
        until((state / "ready").exists, what="the worker")
        if what == "link":
            state.rename(shared / "old")
            state.symlink_to("elsewhere")
            shutil.copytree(shared / "old", shared / "elsewhere")
        else:
            file = next(state.glob("*.sqlite"))
            shutil.copy(file, state / "copy")
            (state / "copy").rename(file)
            os.chown(state if what == "directory" else file, FOREIGN, FOREIGN)
        flag(shared, "go").touch()
        assert worker.answer().count("is a link" if what == "link" else "belongs to another user") == 2


def test_no_connection_trusts_what_a_schema_names(tmp_path: Path) -> None:
    """`trusted_schema` is off for every file, so a foreign file's schema cannot call functions."""
    store = SqliteStore(tmp_path / "flags.db", "team")
    store.clear()
    connection = connect(tmp_path / "flags.db", Mode.WRITE, monotonic() + 1)
    assert connection.execute("PRAGMA trusted_schema").fetchone()[0] == 0
    connection.close()
    store.close()


@ROOT
def test_a_directory_of_another_user_is_refused_whatever_its_group() -> None:
    """The owner of a file can give any right to any user."""
    with volume(GROUP) as root:
        os.chown(root, FOREIGN, GROUP)
        assert "belongs to another user" in as_user(lambda: problem_of(lambda: opened(root)), groups=(GROUP,))


def test_the_state_directory_of_a_service_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What systemd's `StateDirectory=` gives goes before the user's own; of several the first."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    for value in (tmp_path / "lib", f"{tmp_path / 'lib'}:{tmp_path / 'more'}"):
        monkeypatch.setenv("STATE_DIRECTORY", str(value))
        assert address(AUTO).parent == tmp_path / "lib" / "flagcache"
    for useless in ("", "relative"):
        monkeypatch.setenv("STATE_DIRECTORY", useless)
        assert address(AUTO).parent == tmp_path / "xdg" / "flagcache"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home directory from which the place follows."""
    for variable in ("XDG_STATE_HOME", "STATE_DIRECTORY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def reports(caplog: pytest.LogCaptureFixture, fallback: Fallback = AUTO) -> list[str]:
    """Return the lines from INFO on about the fallback of a process that fetched, and its trouble."""
    caplog.set_level("INFO")
    cache = RedisFlagDefinitionCache("redis://127.0.0.1:1/0", "team", cold_start_wait=0, fallback=fallback)
    for _ in range(2):
        cache.should_fetch_flag_definitions()
        cache.on_flag_definitions_received({"flags": [], "group_type_mapping": {}, "cohorts": {}})
    status = cache.status()
    cache.shutdown()
    assert status.trouble == "store_unreachable"
    lines = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
    assert not [line for line in lines if "redis:" in line and "share" in line]  # for they do not
    return [line for line in lines if ("fallback" in line or "sqlite" in line) and "redis:" not in line]


@pytest.mark.parametrize("value", [None, "", "relative"])
def test_without_a_home_there_is_none(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str | None
) -> None:
    """The place that follows from it is not there: no lost store, one line, nothing made anywhere."""
    if value is not None:
        monkeypatch.setenv("HOME", value)
    (line,) = reports(caplog)
    assert line.startswith("INFO ")
    assert "XDG_STATE_HOME" in line
    assert not home.exists()


@ROOT
@pytest.mark.parametrize("there", [False, True], ids=["no directory", "directory, no file"])
def test_on_a_read_only_home_there_is_none(home: Path, caplog: pytest.LogCaptureFixture, *, there: bool) -> None:
    """A container with a read-only root has no place for it, which is no lost store."""
    home.mkdir()
    with mounted(home / ".local", "size=1m") as disk:
        if there:
            (disk / "state" / "flagcache").mkdir(parents=True, mode=0o700)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        (line,) = reports(caplog)
    assert line.startswith("INFO ")


@ROOT
def test_a_directory_that_was_named_and_is_read_only_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory that was named and is read-only is one warning, because the user asked for it."""
    with mounted(tmp_path / "disk", "size=1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        (line,) = reports(caplog, fallback=disk / "flagcache")
    assert line.startswith("WARNING ")
