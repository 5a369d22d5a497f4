"""What a process writes to a store, and what follows from the store's verdict: pure."""

from __future__ import annotations

from typing import NamedTuple

from flagcache.core.order import Held, superseded
from flagcache.core.projects import join_projects
from flagcache.stores.base import Meta, Published
from flagcache.stores.rules.fields import is_text

__all__ = ["Offer", "RepairKind", "after_offer", "after_repair", "kind_of_repair", "plan_offer"]


class Offer(NamedTuple):
    """How to give a store what was just fetched."""

    meta: Meta
    confirm_first: bool = False
    """The store has this version: a confirmation is enough, unless it has another version by now."""
    confirm_if_late: bool = False
    """Publish the version that the store has, because this process knows more of its project. If the store refuses that
    as late, confirm it."""


def plan_offer(meta: Meta, stored: Meta | None) -> Offer:
    """Return how to give a store what was just fetched.

    If this process knows of the project what the store doesn't, such as its new token, it publishes the same version
    again. Otherwise processes that know only the new token would treat what is stored as another project's.

    Args:
        meta: of what was fetched.
        stored: of what the store has, as far as this process knows.
    """
    if stored is None or stored.version != meta.version or meta.etag not in ("", stored.etag):
        return Offer(meta)
    joined = join_projects(meta.project, stored.project)
    meta = meta._replace(project=joined if is_text(joined) else meta.project)  # else longer than any store accepts
    news = meta.project != join_projects(stored.project, "")
    return Offer(meta, confirm_first=not news, confirm_if_late=news)


def after_offer(held: Held, published: Published | None, *, late: bool, now: float) -> Held | None:
    """Return what to hold of what was just fetched; None: the store has newer definitions.

    Args:
        held: what was fetched.
        published: the store's verdict; None: every reader would refuse it.
        late: what the store has is certainly newer.
        now: own clock.
    """
    if published not in (Published.STALE, Published.UNSETTLED):
        return held._replace(accepted=True)
    if published is Published.STALE and late:
        return None
    return held._replace(unsettled=now)  # the vendor has just sent it, and what the store has is older


def after_repair(
    held: Held, meta: Meta, store_name: str, published: Published | None, *, replacing: bool, signs: bool
) -> Held:
    """Return what is held after it was offered to a store that lacked it.

    Args:
        held: what was offered.
        meta: the metadata with which it was offered.
        store_name: the store.
        published: its verdict; None: every reader would refuse it.
        replacing: it was only to replace a version whose key this process lacks.
        signs: this process has a key. Then the store's order proves nothing, and the next poll shows more.
    """
    if published in (Published.STORED, Published.CONFIRMED):
        return held._replace(meta=meta, store_name=store_name, accepted=True, unsettled=None)
    # What a store accepted before is kept: another process was quicker, and the next poll brings its definitions.
    if published is not Published.STALE or held.accepted or replacing or signs:
        return held
    return superseded(held)


class RepairKind(NamedTuple):
    """How a repair is reported."""

    behind: bool
    """The store only had an older version, because it was down."""
    known: bool
    """As far as this process knows, the store had definitions before."""


def kind_of_repair(had: Held | None, store_name: str, newest: str, *, empty: bool) -> RepairKind:
    """Return how to report that a store got what this process holds.

    Args:
        had: what the process held when it polled.
        store_name: the store.
        newest: the newest version that the store is known to have had; empty: none.
        empty: the store had no definitions.
    """
    had_it = had is None or (had.accepted and had.store_name == store_name) or newest == had.meta.version
    return RepairKind(behind=not empty and not had_it, known=had_it or bool(newest))
