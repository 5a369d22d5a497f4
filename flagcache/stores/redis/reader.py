"""The Redis store of a process that only reads, whose server may be a replica and at the other end of a slow link."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from flagcache.errors import StoreError
from flagcache.stores.base import Published
from flagcache.stores.redis.store import RedisStore
from flagcache.stores.unexpected import only_store_errors

if TYPE_CHECKING:
    import redis

    from flagcache.stores.redis.address import RedisTarget

__all__ = ["RedisReaderStore"]

_T = TypeVar("_T")

_PATIENCE = 30.0
"""How many timeouts a poll may take in all while its reply comes."""

_REFUSALS = ("read_only", "rights", "full")
"""Kinds of `StoreError` with which a server that answers refuses a write."""

_UNWRITTEN: Mapping[str, object] = {"publish": Published.UNSETTLED, "discard": False, "report": False}
"""What verbs that do nothing but write come to where nothing can be written."""


@only_store_errors
class RedisReaderStore(RedisStore):
    """One namespace on one Redis, for a reader. It writes only to repair what is stored, and never to a replica.

    A process of its own that can fetch has no use for definitions that come slowly; a reader has no others. So a reply
    may take thirty timeouts as long as it comes, and `timeout` bounds a silence.

    Args:
        source: as of `RedisStore`; this and all below.
        namespace: what keeps fleets apart.
        timeout: seconds without a word of the server.
        format_and_protection: of the envelopes.
        forget_after: of what it repairs.
    """

    proves = ()

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
        self._refused = False
        """The server refused a write: it gets no further one."""

    def _run(
        self,
        verb: str,
        me: str,
        args: Sequence[str | bytes | int],
        read: Callable[[object], _T],
        *,
        lease: bool = True,
    ) -> _T:
        if self._refused and verb in _UNWRITTEN:
            return cast("_T", _UNWRITTEN[verb])
        try:
            manner = [] if verb == "inspect" else [self._manner(verb)]  # that one changes nothing anyway
            return super()._run(verb, me, [*args, *manner], read, lease=lease)
        except StoreError as exc:
            if exc.kind not in _REFUSALS or self._refused:
                raise
        self._refused = True
        return self._run(verb, me, args, read, lease=lease)

    def _manner(self, verb: str) -> str:
        """Return the last argument of a reader's script."""
        return f"\0reader{' skips' if verb == 'poll' else ''}{' refused' if self._refused else ''}"
