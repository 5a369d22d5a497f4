"""The store of a fleet: one hash and one lease in Redis, every verb one script and one round trip.

The scripts (`*.lua` beside this file, each headed by `_reader.lua` and `_state.lua`) decide on the server, by the
server's clock. This module only turns values into arguments and replies into values; `RedisLink` makes the connections.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import quote

from flagcache.errors import StoreError
from flagcache.runtime.log_prefix import prefix
from flagcache.stores.abilities import Subscription
from flagcache.stores.base import Ask, Envelope, Grant, Notice, Published, Replacing, Reply, Scope, Snapshot
from flagcache.stores.redis.cluster import says_try_again
from flagcache.stores.redis.connection import RedisLink, Script, load_script
from flagcache.stores.redis.store_errors import plain, with_right
from flagcache.stores.redis.wire import (
    LONGEST_NOTICE,
    as_flag,
    as_list,
    as_text,
    as_whole,
    poll_arguments,
    read_notice,
    read_reply,
    read_snapshot,
)
from flagcache.stores.unexpected import only_store_errors

if TYPE_CHECKING:
    import redis

    from flagcache.stores.redis import connection as _redis_link
    from flagcache.stores.redis.address import RedisTarget

__all__ = ["SCRIPTS", "Keys", "RedisStore", "keys_of"]

_T = TypeVar("_T")

_log = logging.getLogger(__name__)


class Keys(NamedTuple):
    """All names that one namespace uses in Redis."""

    hash: str
    lease: str
    channel: str
    channels: str
    """The right to use the namespace's channels of any format and database, as a rule of Redis's ACL."""


def keys_of(namespace: str, database: int, *, format_and_protection: str = "1-plain") -> Keys:
    """Return all names of one namespace; no other code makes any.

    The namespace is percent-encoded inside one hash tag, so that two namespaces never share a key and a cluster keeps
    hash and lease in one slot. Format and protection are part of each name, so that workers that cannot read each
    other's envelopes never share a lease. Pub/sub ignores the database, so the channel's name contains it. The prefix
    is not `posthog:flags:`, whose keys the SDK's own result cache deletes.
    """
    tag = quote(namespace, safe="-._~:@/ ")
    prefix = f"flagcache:{format_and_protection}:{{{tag}}}"
    channels = f"&flagcache:*:{{{tag}}}:notices:*"
    return Keys(f"{prefix}:definitions", f"{prefix}:lease", f"{prefix}:notices:{database}", channels)


_VERBS = (
    *("poll", "publish", "confirm", "discard", "report", "fail", "renew", "release"),
    *("inspect", "clear", "forget"),
)
SCRIPTS = {
    verb: Script.of(load_script("_reader").text + load_script("_state").text + load_script(verb).text)
    for verb in _VERBS
}
"""Read at import, not at the first use on any thread: a child that is forked meanwhile could not finish that."""


@only_store_errors
class RedisStore:
    """One namespace on one Redis. Belongs to the process that first uses it.

    If another program gave one of our keys another type, the next verb that meets it removes it, with a warning in the
    server's log. Then the store is as if that key had been deleted, and workers restore what they hold.

    Args:
        source: a URL, a client, from which we take only address, TLS and credentials, or the result of `resolve`.
        namespace: keeps fleets apart.
        timeout: seconds that a verb may take in all, from the look-up of the host's name to the last byte.
        format_and_protection: of the envelopes.
        forget_after: milliseconds after which everything expires unless a leader publishes, confirms or renews; 0:
            never.
        in_all: as for `RedisLink`.
    """

    proves: tuple[str, ...] = ("full", "read_only")
    """As `ProvesWrites.proves`."""

    reads_only = False
    """Whether this is a reader's store, whose scripts write nothing."""

    def __init__(
        self,
        source: redis.Redis | redis.RedisCluster | RedisTarget | str,
        namespace: str,
        *,
        timeout: float = 1.0,
        format_and_protection: str = "1-plain",
        in_all: float | None = None,
        forget_after: int = 0,
    ) -> None:
        self._namespace = namespace
        self._forget_after = forget_after
        self._expiry_refused = False
        self._link = RedisLink(source, timeout=timeout, in_all=in_all)
        self.address = self._link.address
        self.fingerprint = self._link.fingerprint
        self.keys = keys_of(namespace, self._link.database, format_and_protection=format_and_protection)
        self.push_refused: str | None = None
        """As `SendsNotices.push_refused`."""
        self._contends = False
        """Whether this process may lead, as one of its polls said."""
        self.refuses = False
        """The server refused a write, because it is out of memory or a replica. It still answers scripts that only
        read, so each verb of a worker begins with a write until one succeeds."""

    def poll(self, ask: Ask) -> Reply:
        """As `Store.poll`."""
        self._contends = self._contends or ask.may_lead
        try:
            return self._run("poll", ask.me, poll_arguments(ask, self._link.database, self._forget_after), read_reply)
        except StoreError as exc:
            if not self._may_do_without_lease(ask, exc):
                raise
        words = poll_arguments(ask._replace(may_lead=False), self._link.database, self._forget_after)
        return self._run("poll", ask.me, words, read_reply, lease=False)

    def publish(
        self, me: str, envelope: Envelope, *, fresh: bool, lease: int, replacing: Replacing | None = None
    ) -> Published:
        """As `Store.publish`."""
        meta = envelope.meta
        args = (
            *(self.keys.channel, int(fresh), lease),
            *(meta.version, meta.etag, meta.writer, meta.project),
            *(meta.epoch, meta.as_of, meta.changed_at, meta.confirmed_at),
            envelope.payload,
            *(*(replacing or ("", 0)), self._forget_after, meta.stamp),
        )
        return self._notify("publish", me, args, lambda raw: Published(as_text(raw)))

    def confirm(self, me: str, version: str, grant: Grant, *, lease: int, stamp: str = "") -> bool:
        """As `Store.confirm`."""
        args = (version, grant.as_of, grant.at, lease, self.keys.channel, self._forget_after, stamp)
        return self._notify("confirm", me, args, as_flag)

    def discard(self, me: str, version: str) -> bool:
        """As `Store.discard`."""
        return self._notify("discard", me, (version, self.keys.channel), as_flag)

    def report(self, me: str, version: str, interval: int) -> bool:
        """As `Store.report`."""
        return self._notify("report", me, (version, interval, self.keys.channel), as_flag)

    def fail(
        self, me: str, as_of: int, scope: Scope, *, status: int = 0, retry_after: int = 0, stamp: str = ""
    ) -> bool:
        """As `Store.fail`."""
        args = (as_of, scope.value, status, retry_after, self.keys.channel, stamp)
        return self._notify("fail", me, args, as_flag)

    def renew(self, me: str, lease: int) -> bool:
        """As `Store.renew`."""
        return self._notify("renew", me, (lease, self._forget_after), as_flag)

    def release(self, me: str, *, idle: bool) -> bool:
        """As `Store.release`."""
        return self._notify("release", me, (self.keys.channel, int(idle)), as_flag)

    def inspect(self) -> Snapshot:
        """As `Store.inspect`."""
        return self._run("inspect", "", (), read_snapshot)

    def clear(self, stamp: str = "") -> int:
        """As `Store.clear`."""
        return self._notify("clear", "", (self.keys.channel, stamp), as_whole)

    def forget(self) -> bool:
        """As `Forgets.forget`."""
        return bool(self._run("forget", "", (), as_whole))

    def eviction_policy(self) -> str:
        """As `EvictsKeys.eviction_policy`: Redis's `maxmemory-policy`, if its user has the right to `INFO`."""
        told = self._link.command([self.keys.hash], "INFO", "memory")
        lines = as_text(told).splitlines() if isinstance(told, bytes) else []
        return next((line.partition(":")[2] for line in lines if line.startswith("maxmemory_policy:")), "")

    def close(self) -> None:
        """As `Store.close`; a client that was passed in stays open."""
        self._link.close()

    def subscribe(self) -> Subscription:
        """As `Subscribable.subscribe`."""
        try:
            return _RedisSubscription(self._link.subscribe(self.keys.channel))
        except StoreError as exc:
            if exc.kind != "rights":
                raise
            what = with_right(exc.what, "+subscribe", self.keys.channels)
            raise StoreError(what, exc.kind, self.address) from exc

    def _notify(self, verb: str, me: str, args: Sequence[str | bytes | int], read: Callable[[object], _T]) -> _T:
        """Run a verb that may send a notice, and record whether this user may send notices."""

        def read_both(raw: object) -> _T:
            result, notice, *expiry = as_list(raw)
            if expiry and expiry[0]:
                self._warn_of_expiry(as_text(expiry[0]))
            if notice:
                refusal = notice.decode("utf-8", "replace") if isinstance(notice, bytes) else ""
                self.push_refused = refusal and with_right(plain(refusal), "+publish", self.keys.channels)
            return read(result)

        return self._run(verb, me, args, read_both)

    def _warn_of_expiry(self, refusal: str) -> None:
        """Log once that what is stored will never expire."""
        if not self._expiry_refused:
            self._expiry_refused = True
            _log.warning(
                "%s: %s does not let forget_after take effect: %s; its user needs +pexpire",
                prefix(self._namespace),
                self.address,
                plain(refusal),
            )

    def _may_do_without_lease(self, ask: Ask, failure: StoreError) -> bool:
        """Whether a poll may read without the lease, which is on another node than the definitions, or nowhere.

        In a slot whose migration was left unfinished the lease cannot be taken. A reader needs none, and a process
        without definitions needs these first. A worker with definitions continues with its next store, where it can
        fetch.
        """
        return says_try_again(failure.__cause__) and (ask.held is None or not self._contends)

    def _run(
        self,
        verb: str,
        me: str,
        args: Sequence[str | bytes | int],
        read: Callable[[object], _T],
        *,
        lease: bool = True,
    ) -> _T:
        keys = [self.keys.hash, *([self.keys.lease] if lease else [])]
        proves = self.refuses and bool(me) and lease
        if proves:
            keys.append(self.keys.hash)
        try:
            raw = self._link.run(SCRIPTS[verb], keys, [me, *args], read_only=self.reads_only)
        except StoreError as exc:
            self.refuses = self.refuses or exc.kind in self.proves
            raise
        if proves:
            self.refuses = False
        try:
            return read(raw)
        except (TypeError, ValueError, IndexError) as exc:
            what = f"it answered {verb} with something that is no reply of this script"
            raise StoreError(what, address=self.address) from exc


@only_store_errors
class _RedisSubscription:
    def __init__(self, raw: _redis_link.Subscription) -> None:
        self._raw = raw

    def get(self, timeout: float) -> Notice | None:
        message = self._raw.get(timeout)
        return None if message is None or len(message) > LONGEST_NOTICE else read_notice(message)

    def close(self) -> None:
        self._raw.close()
