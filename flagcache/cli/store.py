"""`flagcache inspect` and `flagcache clear`: show what a store holds of one namespace, and empty it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from flagcache.cli.files import refuse_other_file
from flagcache.encoding.payload import FORMAT
from flagcache.encoding.stamps import Stamps
from flagcache.errors import ConfigurationError, StoreError
from flagcache.runtime.text import printable
from flagcache.settings import check_namespace
from flagcache.stores.abilities import Forgets
from flagcache.stores.base import Meta, Snapshot, Store
from flagcache.stores.spec import REDIS_SCHEMES, scheme_in

__all__ = ["StoreLocation", "Target", "resolved", "run_clear", "run_inspect"]

_CLEAR_ATTEMPTS = 5
"""How often a `clear` is tried if another one raises the epoch at the same time."""

_TIMEOUT = 5.0
"""Seconds that a store may take to answer a command."""


class StoreLocation(Protocol):
    """A namespace in a store, as named on the command line."""

    @property
    def namespace(self) -> str:
        """The namespace."""
        ...

    @property
    def protection(self) -> str:
        """The `Protection.name` of its envelopes."""
        ...

    @property
    def stamps(self) -> Stamps | None:
        """Signs with the fleet's key; None if the key is unknown here."""
        ...

    @property
    def file(self) -> Path | None:
        """The SQLite file, if the store is one. Raises `ConfigurationError` if the URL names no file."""
        ...

    def open(self) -> Store:
        """Open the store. Raises what a verb may raise, or `ConfigurationError`."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """URL and namespace from the command line."""

    url: str
    """The store's URL, or `env:NAME`, because other users of the machine can see a command's arguments."""
    namespace: str
    protection: str
    """The `Protection.name` of the envelopes, which is part of Redis's keys; the commands need no secret key."""

    @property
    def stamps(self) -> Stamps | None:
        """None: a command line names no keys, because other users could see them."""
        return None

    @property
    def file(self) -> Path | None:
        """As `StoreLocation.file`."""
        url = resolved(self.url)
        return _path_in(url) if scheme_in(url) == "sqlite" else None

    def open(self) -> Store:
        """Open the store.

        Raises:
            ConfigurationError: URL or namespace is invalid, or this system lacks what an SQLite store needs.
            StoreError: there is no such SQLite store.
        """
        label, url = f"{FORMAT}-{self.protection}", resolved(self.url)
        namespace = check_namespace(self.namespace)
        scheme = scheme_in(url)
        if scheme in REDIS_SCHEMES:
            from flagcache.stores.redis.store import RedisStore  # noqa: PLC0415 - needs redis-py

            return RedisStore(url, namespace, timeout=_TIMEOUT, format_and_protection=label)
        if scheme == "sqlite":
            path = _path_in(url)
            refuse_other_file(path)
            from flagcache.stores.sqlite.store import SqliteStore  # noqa: PLC0415 - likewise

            return SqliteStore(path, namespace, timeout=_TIMEOUT, format_and_protection=label)
        raise ConfigurationError(
            "the store's URL must begin with redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// or"
            " sqlite:///, or be env:NAME; or give --app MODULE:ATTRIBUTE"
        )


def run_inspect(target: StoreLocation, *, as_json: bool) -> int:
    """Print what the store has, and change nothing. Returns the exit status."""
    with _opened_read_only(target) as store:
        snapshot = store.inspect()
    print(json.dumps(_values(snapshot, target), indent=2) if as_json else "\n".join(_lines(snapshot, target)))
    return 0


def run_clear(target: StoreLocation, *, sure: bool, forget: bool = False) -> int:
    """Empty the store and print the new epoch, or delete the namespace. Returns the exit status."""
    if forget:
        return _forget(target, sure=sure)
    if not sure:
        raise ConfigurationError(
            f"this empties namespace {target.namespace!r} for all its workers, which then fetch again: add --yes to do"
            " it"
        )
    store = target.open()
    try:
        epoch = _cleared(store, target)
    finally:
        store.close()
    print(f"cleared; the epoch is now {epoch}")
    return 0


def _cleared(store: Store, target: StoreLocation) -> int:
    """Empty the store; return the new epoch. It is signed if the fleet has a key, or workers would undo it."""
    if target.protection == "plain":
        return store.clear()
    stamps = target.stamps
    if stamps is None:
        raise ConfigurationError(
            f"namespace {target.namespace!r} is {target.protection}: its workers undo a clear that is not signed with"
            " their key; give --app MODULE:ATTRIBUTE, whose cache has it"
        )
    for _ in range(_CLEAR_ATTEMPTS):
        expected = store.inspect().epoch + 1
        if (epoch := store.clear(stamps.of_epoch(expected))) == expected:
            return epoch
    raise StoreError(f"another process raised the epoch during each of {_CLEAR_ATTEMPTS} attempts; run it again")


def _forget(target: StoreLocation, *, sure: bool) -> int:
    if not sure:
        raise ConfigurationError(
            f"this deletes all of namespace {target.namespace!r}; workers that still run store what they hold again:"
            " add --yes to do it"
        )
    store = target.open()
    try:
        if not isinstance(store, Forgets):
            raise ConfigurationError("this store cannot delete a namespace")
        deleted = store.forget()
    finally:
        store.close()
    name = f"namespace {target.namespace!r} ({target.protection})"
    print(f"{name} is deleted" if deleted else f"the store has nothing of {name}: see --protection")
    return 0


def resolved(url: str) -> str:
    """Return the URL, also if it is in an environment variable.

    Raises:
        ConfigurationError: that environment variable is not set.
    """
    if not url.startswith("env:"):
        return url
    name = url.removeprefix("env:")
    if not (value := os.environ.get(name, "")):
        raise ConfigurationError(f"the environment variable {name!r} is not set or is empty")
    return value


def _path_in(url: str) -> Path:
    """Return the path in a URL."""
    parts = urlsplit(url)
    if parts.netloc or not parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError("an SQLite URL is sqlite:///relative/path or sqlite:////absolute/path")
    return Path(unquote(parts.path[1:])).expanduser().absolute()


@contextmanager
def _opened_read_only(target: StoreLocation) -> Generator[Store]:
    """Open the store without changing it.

    If an SQLite store was copied without its index (`-shm`), its log can only be read by creating another index. That
    is done in a copy, because no process has such a file open.
    """
    path = target.file
    if path is None:
        with closing(target.open()) as store:
            yield store
        return
    refuse_other_file(path)
    from flagcache.stores.sqlite.store import SqliteStore  # noqa: PLC0415 - as above

    log, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    with tempfile.TemporaryDirectory() as folder:
        if log.exists() and not index.exists():
            path = Path(folder) / path.name
            shutil.copy(log.with_name(path.name), path)
            shutil.copy(log, folder)
        label = f"{FORMAT}-{target.protection}"
        store = SqliteStore(path, check_namespace(target.namespace), timeout=_TIMEOUT, format_and_protection=label)
        with closing(store if path.parent == Path(folder) else store.only_look()):
            yield store


_PRINTED_AS = {"backoff_status": "note_status", "backoff_left": "note_left"}
"""The names of two values in the JSON, which programs have known since 0.1."""


def _values(snapshot: Snapshot, target: StoreLocation) -> dict[str, object]:
    """Return a snapshot in its own units. If entity tags are protected, there is none."""
    meta: dict[str, object] | None = snapshot.meta._asdict() if snapshot.meta is not None else None
    if meta is not None and target.protection != "plain":
        meta["etag"] = None
    values = {_PRINTED_AS.get(name, name): value for name, value in snapshot._asdict().items()}
    return {"namespace": target.namespace, "protection": target.protection, **values, "meta": meta}


def _lines(snapshot: Snapshot, target: StoreLocation) -> list[str]:
    facts = [
        ("namespace", f"{target.namespace} ({target.protection})"),
        ("store's clock", _utc(snapshot.clock)),
        ("epoch", str(snapshot.epoch)),
        *(_of_definitions(snapshot.meta, snapshot, target) if snapshot.meta else [("definitions", "none")]),
        ("leader", f"{snapshot.leader}, for {snapshot.lease_left / 1000:.1f} s more" if snapshot.leader else "none"),
        (
            "latest grant",
            f"{_time(snapshot.granted_at, snapshot.clock)}, to {snapshot.grant_holder}"
            if snapshot.granted_at
            else "none",
        ),
        ("failure", _failure(snapshot)),
    ]
    return [f"{name:<14}{printable(value)}" for name, value in facts]


def _of_definitions(meta: Meta, snapshot: Snapshot, target: StoreLocation) -> list[tuple[str, str]]:
    return [
        ("definitions", f"{meta.version}, {snapshot.payload_size} bytes"),
        ("confirmed", _time(meta.confirmed_at, snapshot.clock)),
        ("changed", _time(meta.changed_at, snapshot.clock)),
        ("as of", _time(meta.as_of, snapshot.clock)),
        ("entity tag", (meta.etag or "not known") if target.protection == "plain" else "protected"),
        ("writer", meta.writer or "not known"),
        ("project", meta.project or "not known"),
    ]


def _failure(snapshot: Snapshot) -> str:
    if not snapshot.backoff_status and not snapshot.backoff_left:
        return "none for the whole fleet"
    wait = (
        f"no worker fetches for {snapshot.backoff_left / 1000:.1f} s more"
        if snapshot.backoff_left
        else "the next fetch is allowed"
    )
    return f"HTTP {snapshot.backoff_status}; {wait}"


def _time(at: int, clock: int) -> str:
    """Format a time and its age by the store's own clock; both in milliseconds."""
    age = (clock - at) / 1000
    return f"{_utc(at)} ({age:.1f} s ago)" if age >= 0 else f"{_utc(at)} ({-age:.1f} s ahead of the store's clock)"


def _utc(at: int) -> str:
    try:
        moment = datetime.fromtimestamp(at / 1000, timezone.utc)
    except (OverflowError, OSError, ValueError):  # a writer to the store can write any number
        return f"{at} ms after 1970"
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
