"""What the end of a fetch means. Pure."""

from __future__ import annotations

from flagcache.core.knowledge import Knowledge
from flagcache.core.notes import Note
from flagcache.core.order import Held
from flagcache.stores.base import Grant, Scope
from flagcache.vendor import Refused, Unchanged

__all__ = ["apply_success", "confirmed", "failed_silently", "failure_of", "fetched", "without_note"]

_UNASKED = Refused("304 to an unconditional request", Scope.MINE, 304)


def failure_of(result: Refused | Unchanged, held: Held | None, etag: str) -> Refused | None:
    """Return the failure with which a fetch ended that brought no definitions; None: what is held is confirmed.

    Args:
        result: of the fetch.
        held: what this process held before the request.
        etag: the entity tag in the request; empty if it was unconditional.
    """
    if isinstance(result, Refused):
        return result
    return None if held is not None and etag else _UNASKED


def fetched(brought: Held, held: Held | None) -> Held:
    """Return what is held after a fetch brought definitions.

    The same version keeps the objects that the clients already use, so nothing is hashed or copied again.

    Args:
        brought: what the fetch brought.
        held: what this process held before the request.
    """
    if held is None or held.meta.version != brought.meta.version:
        return brought
    meta = brought.meta._replace(changed_at=held.meta.changed_at)
    return brought._replace(meta=meta, definitions=held.definitions)


def confirmed(held: Held, store_name: str, grant: Grant, asked_at: float) -> Held:
    """Return what is held after the vendor answered "unchanged".

    Args:
        held: what this process held before the request.
        store_name: the store that granted the fetch.
        grant: its grant.
        asked_at: own clock before the poll that brought the grant.
    """
    meta = held.meta._replace(epoch=grant.epoch, as_of=grant.as_of, confirmed_at=grant.at)
    return Held(meta, held.definitions, store_name, asked_at, accepted=False)


def failed_silently(know: Knowledge, grant: Grant) -> bool:
    """Whether a fetch of the vendor's SDK failed that ended without definitions: the SDK doesn't report why.

    A process that never received definitions sends no entity tag, so the vendor can't have answered "unchanged". If
    people cleared the store since, that answer would not help either.
    """
    return not know.received or (know.held is not None and know.held.meta.epoch < grant.epoch)


def apply_success(know: Knowledge, *, brought: bool) -> Knowledge:
    """Apply a successful fetch: earlier failures of this process don't count any more.

    Args:
        know: what was known before.
        brought: it brought definitions. Otherwise the vendor answered "unchanged".
    """
    return know._replace(failures=0, stay_out_until=0.0, received=know.received or brought)


def without_note(know: Knowledge, store_name: str, now: float) -> Knowledge:
    """Drop the note of an earlier failure, now that a store was offered what a fetch brought.

    Not before: a poll that began before the offer may still return that note, and an older reply doesn't count.
    """
    return know._replace(backoff=Note(store_name=store_name, at=now))
