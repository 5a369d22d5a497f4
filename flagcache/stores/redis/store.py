"""The store of a fleet: one hash and one lease in Redis, every verb one script and one round trip.

The scripts (`*.lua` beside this file, each headed by `_state.lua`) decide on the server, by the server's clock. This
module only turns values into arguments and replies into values; `_redis_link` makes the connections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast
from urllib.parse import quote

from flagcache.errors import StoreError
from flagcache.stores.base import Ask, Envelope, Grant, Meta, Notice, Published, Reply, Scope, Snapshot, Subscription
from flagcache.stores.redis.cluster import says_try_again
from flagcache.stores.redis.connection import RedisLink, Script, load_script
from flagcache.stores.unexpected import only_store_errors

if TYPE_CHECKING:
    import redis

    from flagcache.stores.redis import connection as _redis_link
    from flagcache.stores.redis.address import RedisTarget

__all__ = ["SCRIPTS", "Keys", "RedisStore", "keys_of"]

_T = TypeVar("_T")


class Keys(NamedTuple):
    """Every name that one namespace uses in Redis."""

    hash: str
    lease: str
    channel: str


def keys_of(namespace: str, database: int, *, format_and_protection: str = "1-plain") -> Keys:
    """Make all names of one namespace; no other code makes any.

    The namespace is percent-encoded inside one hash tag, so that two namespaces never meet and a cluster keeps hash
    and lease in one slot. Format and protection are part of each name, so that workers who cannot read each other
    never share a lease; pub/sub ignores the database, so that the channel carries it. The prefix is not
    `posthog:flags:`, whose keys the SDK's own result cache deletes.
    """
    tag = quote(namespace, safe="-._~:@/ ")
    prefix = f"flagcache:{format_and_protection}:{{{tag}}}"
    return Keys(f"{prefix}:definitions", f"{prefix}:lease", f"{prefix}:notices:{database}")


SCRIPTS = {
    verb: Script.of(load_script("_reader").text + load_script("_state").text + load_script(verb).text)
    for verb in ("poll", "publish", "confirm", "discard", "fail", "renew", "release", "inspect", "clear")
}
"""Read at the import, not at the first use on some thread: a child forked meanwhile could not go on with that."""


@only_store_errors
class RedisStore:
    """One namespace on one Redis. Belongs to the process that first uses it.

    A key of ours that somebody made one of another type is removed by the next verb that meets it, with a warning in
    the server's own log; then the store is as if that key had been deleted, and workers put back what they hold.

    Args:
        source: a URL, a client of which only address, TLS and credentials are taken, or what was told of one of them.
        namespace: what keeps fleets apart.
        timeout: seconds that a verb may take in all, from looking the host's name up to the last byte.
        format_and_protection: of the envelopes.
        in_all: as of `RedisLink`.
    """

    proves: tuple[str, ...] = ("full", "read_only")
    """As `ProvesWrites.proves`."""

    def __init__(
        self,
        source: redis.Redis | redis.RedisCluster | RedisTarget | str,
        namespace: str,
        *,
        timeout: float = 1.0,
        format_and_protection: str = "1-plain",
        in_all: float | None = None,
    ) -> None:
        self._link = RedisLink(source, timeout=timeout, in_all=in_all)
        self.address = self._link.address
        self.fingerprint = self._link.fingerprint
        self.keys = keys_of(namespace, self._link.database, format_and_protection=format_and_protection)
        self._contends = False
        """Whether this process may lead: some of its polls asked for that."""
        self.refuses = False
        """The server refused a write, because it is out of memory or a replica. It still answers what only reads, so
        each verb of a worker begins with a write until one is taken."""

    def poll(self, ask: Ask) -> Reply:
        """As `Store.poll`."""
        self._contends = self._contends or ask.may_lead
        try:
            return self._run("poll", ask.me, _words_of(ask), _read_reply)
        except StoreError as exc:
            if not self._may_do_without_lease(ask, exc):
                raise
        return self._run("poll", ask.me, _words_of(ask._replace(may_lead=False)), _read_reply, lease=False)

    def publish(self, me: str, envelope: Envelope, *, fresh: bool, lease: int) -> Published:
        """As `Store.publish`."""
        meta = envelope.meta
        args = (
            *(self.keys.channel, int(fresh), lease),
            *(meta.version, meta.etag, meta.writer, meta.project),
            *(meta.epoch, meta.as_of, meta.changed_at, meta.confirmed_at),
            envelope.payload,
        )
        return self._run("publish", me, args, lambda raw: Published(_text(raw)))

    def confirm(self, me: str, version: str, grant: Grant, *, lease: int) -> bool:
        """As `Store.confirm`."""
        return self._run("confirm", me, (version, grant.as_of, grant.at, lease, self.keys.channel), _flag)

    def discard(self, me: str, version: str) -> bool:
        """As `Store.discard`."""
        return self._run("discard", me, (version,), _flag)

    def fail(self, me: str, as_of: int, scope: Scope, *, status: int = 0, retry_after: int = 0) -> bool:
        """As `Store.fail`."""
        return self._run("fail", me, (as_of, scope.value, status, retry_after, self.keys.channel), _flag)

    def renew(self, me: str, lease: int) -> bool:
        """As `Store.renew`."""
        return self._run("renew", me, (lease,), _flag)

    def release(self, me: str, *, idle: bool) -> bool:
        """As `Store.release`."""
        return self._run("release", me, (self.keys.channel, int(idle)), _flag)

    def inspect(self) -> Snapshot:
        """As `Store.inspect`."""
        return self._run("inspect", "", (), _read_snapshot)

    def clear(self) -> int:
        """As `Store.clear`."""
        return self._run("clear", "", (self.keys.channel,), _whole)

    def close(self) -> None:
        """As `Store.close`; a client that was handed in stays open."""
        self._link.close()

    def subscribe(self) -> Subscription:
        """As `Subscribable.subscribe`."""
        return _RedisSubscription(self._link.subscribe(self.keys.channel))

    def _may_do_without_lease(self, ask: Ask, failure: StoreError) -> bool:
        """Whether a poll may read without the lease, which lies on another node than the definitions, or nowhere.

        In a cluster's slot that is left migrating the lease cannot be taken. A reader needs none, and a process without
        definitions needs these first. A worker that has some goes on with its next store, where it can fetch.
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
            raw = self._link.run(SCRIPTS[verb], keys, [me, *args])
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


def _words_of(ask: Ask) -> tuple[str | int, ...]:
    """Return what `poll.lua` calls ARGV[2] and up."""
    held = ask.held
    return (
        *(ask.interval, ask.lease, ask.cold_lease, ask.challenge, int(ask.may_lead), int(ask.idle)),
        *(ask.last_grant, ask.grant_age),
        *((held.epoch, held.as_of) if held else (-1, 0)),
        *(ask.held_age, ask.held_version, ask.backoff),
        ask.reports + 2 * ask.watches + 4 * ask.listens + 8 * ask.starts,
        ask.leader,
    )


@only_store_errors
class _RedisSubscription:
    def __init__(self, raw: _redis_link.Subscription) -> None:
        self._raw = raw

    def get(self, timeout: float) -> Notice | None:
        message = self._raw.get(timeout)
        return None if message is None else _read_notice(message)

    def close(self) -> None:
        self._raw.close()


def _read_notice(message: bytes) -> Notice:
    """Read a notice; whatever else came on the channel still says: ask."""
    kind, _, rest = message[:200].decode("utf-8", "replace").partition(" ")
    epoch, _, version = rest.partition(" ")
    return Notice(kind, int(epoch) if epoch.isdecimal() else 0, version)


def _read_reply(raw: object) -> Reply:
    clock, leads, lease_left, granted_at, bits, grant, note, meta, payload, leader = _list(raw)
    status, note_left = (_whole(n) for n in _list(note)) if note else (0, 0)
    return Reply(
        clock=_whole(clock),
        leads=bool(leads),
        lease_left=_whole(lease_left),
        granted_at=_whole(granted_at),
        grant=Grant(*(_whole(n) for n in _list(grant))) if grant else None,
        unchanged=bool(_whole(bits) & 1),
        meta=_read_meta(meta) if meta else None,
        payload=payload if isinstance(payload, bytes) else None,
        republish=bool(_whole(bits) & 2),
        note_status=status,
        note_left=note_left,
        deputy=bool(_whole(bits) & 4),
        fetching=bool(_whole(bits) & 8),
        exhausted=bool(_whole(bits) & 16),
        leader=None if leader == 0 else _text(leader),
    )


def _read_meta(raw: object) -> Meta:
    version, etag, writer, project, epoch, as_of, changed_at, confirmed_at = _list(raw)
    return Meta(
        version=_text(version),
        etag=_text(etag),
        writer=_text(writer),
        project=_text(project),
        epoch=_whole(epoch),
        as_of=_whole(as_of),
        changed_at=_whole(changed_at),
        confirmed_at=_whole(confirmed_at),
    )


def _read_snapshot(raw: object) -> Snapshot:
    clock, epoch, meta, size, leader, lease_left, granted_at, holder, status, note_left = _list(raw)
    return Snapshot(
        clock=_whole(clock),
        epoch=_whole(epoch),
        meta=_read_meta(meta) if meta else None,
        payload_size=_whole(size),
        leader=_text(leader),
        lease_left=_whole(lease_left),
        granted_at=_whole(granted_at),
        grant_holder=_text(holder),
        note_status=_whole(status),
        note_left=_whole(note_left),
    )


def _list(raw: object) -> list[object]:
    if not isinstance(raw, list):
        raise TypeError
    return cast("list[object]", raw)


def _whole(raw: object) -> int:
    if not isinstance(raw, int):
        raise TypeError
    return raw


def _flag(raw: object) -> bool:
    return bool(_whole(raw))


def _text(raw: object) -> str:
    if not isinstance(raw, bytes):
        raise TypeError
    return raw.decode("utf-8", "replace")
