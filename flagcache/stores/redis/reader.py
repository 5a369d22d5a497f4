"""The Redis store of a process that only reads. Its server may be a replica, behind a slow link."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from flagcache.errors import StoreError
from flagcache.stores.base import Ask, Published, Reply
from flagcache.stores.redis.store import RedisStore
from flagcache.stores.unexpected import only_store_errors

if TYPE_CHECKING:
    import redis

    from flagcache.stores.redis.address import RedisTarget

__all__ = ["RedisReaderStore"]

_T = TypeVar("_T")

_PATIENCE = 30.0
"""A poll may take this many timeouts in all while its reply comes."""

_READS = ("poll", "inspect")
_UNWRITTEN: Mapping[str, object] = {"publish": Published.UNSETTLED, "discard": False, "report": False}
"""The results of verbs that only write."""


@only_store_errors
class RedisReaderStore(RedisStore):
    """One namespace on one Redis, for a reader. It never writes, so its Redis user only needs the rights to read.

    From Redis 7.0 on a user with the right to `EVALSHA_RO` instead of `EVALSHA`, or only to read its keys, is enough.

    A process that can fetch doesn't need definitions that come slowly, but a reader has no others. So a reply may take
    thirty timeouts while it keeps coming, and `timeout` limits a silence.

    Args:
        source: as for `RedisStore`, like all below.
        namespace: keeps fleets apart.
        timeout: seconds without a byte from the server.
        format_and_protection: of the envelopes.
        forget_after: unused, because a reader writes nothing.
    """

    proves = ()
    reads_only = True

    def __init__(
        self,
        source: redis.Redis | redis.RedisCluster | RedisTarget | str,
        namespace: str,
        *,
        timeout: float = 1.0,
        format_and_protection: str = "1-plain",
        forget_after: int = 0,
    ) -> None:
        super().__init__(
            source,
            namespace,
            timeout=timeout,
            format_and_protection=format_and_protection,
            in_all=_PATIENCE * timeout,
            forget_after=forget_after,
        )

    def poll(self, ask: Ask) -> Reply:
        """As `Store.poll`, of an asker that neither leads nor is deputy."""
        return super().poll(ask._replace(may_lead=False, listens=False, watches=False))

    def _run(
        self,
        verb: str,
        me: str,
        args: Sequence[str | bytes | int],
        read: Callable[[object], _T],
        *,
        lease: bool = True,
    ) -> _T:
        if verb in _UNWRITTEN:
            return cast("_T", _UNWRITTEN[verb])
        if verb not in _READS:
            raise StoreError(f"a reader writes nothing, so it cannot {verb}", "read_only", self.address)
        return super()._run(verb, me, [*args, "\0reader"], read, lease=lease)
