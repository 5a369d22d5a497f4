"""What each verb does to what is stored, in small. The contract suite plays them on every store."""

from __future__ import annotations

from flagcache.stores.base import Ask, Envelope, Grant, Meta, Notice, Order, Published, Scope
from flagcache.stores.rules.state import Outcome, State
from flagcache.stores.rules.verbs import (
    REPUBLISH_EVERY,
    confirm,
    discard,
    fail,
    poll,
    publish,
    release,
    renew,
    snapshot,
)

CLOCK = 1_700_000_000_000
EVERY = 30_000
ASK = Ask("me", interval=EVERY, lease=60_000, cold_lease=4_000, challenge=4 * EVERY)


def meta(as_of: int, version: str = "v1", *, epoch: int = 0) -> Meta:
    """Of definitions whose fetch was granted then."""
    return Meta(version, epoch, as_of, changed_at=as_of, confirmed_at=as_of)


def put(state: State, what: Meta, *, fresh: bool = True, me: str = "me") -> tuple[State, Published, Notice | None]:
    """Publish definitions."""
    return publish(state, me, Envelope(what, b"payload"), CLOCK, fresh=fresh, lease=60_000)


def test_the_first_poll_leads_and_fetches() -> None:
    """The first poll of an empty store leads and fetches; the next follows, and sees that a fetch is under way."""
    state, reply = poll(State(), ASK, CLOCK)
    assert reply.leads
    assert reply.grant == Grant(0, CLOCK, CLOCK)
    assert (reply.meta, reply.unchanged) == (None, False)
    _, second = poll(state, ASK._replace(me="second"), CLOCK + 1)
    assert (second.leads, second.grant, second.leader, second.fetching) == (False, None, "me", True)


def test_a_poll_sends_the_payload_only_to_those_that_lack_it() -> None:
    """A holder gets neither payload nor metadata; a holder of the same version with an older time no payload."""
    stored = State(meta=meta(70), highest=70)
    lacking = poll(stored, ASK, CLOCK)[1]
    assert (lacking.meta, lacking.payload) == (meta(70), b"")
    holding = poll(stored, ASK._replace(held=Order(0, 70), held_version="v1"), CLOCK)[1]
    assert (holding.unchanged, holding.meta, holding.payload) == (True, None, None)
    earlier = poll(stored, ASK._replace(held=Order(0, 60), held_version="v1"), CLOCK)[1]
    assert (earlier.meta, earlier.payload) == (meta(70), None)


def test_one_asker_a_second_is_told_to_repair_the_store() -> None:
    """One that holds newer definitions than the store, in its epoch."""
    holder = ASK._replace(held=Order(0, 90), held_version="v2")
    state, reply = poll(State(meta=meta(70), highest=70), holder, CLOCK)
    assert reply.republish
    assert not poll(state, holder, CLOCK + REPUBLISH_EVERY - 1)[1].republish
    assert poll(state, holder, CLOCK + REPUBLISH_EVERY)[1].republish
    assert not poll(State(meta=meta(70, epoch=1), epoch=1), holder, CLOCK)[1].republish


def test_only_newer_definitions_are_stored() -> None:
    """Newer definitions are stored with one notice; the same ones confirm, older ones are refused."""
    state, published, notice = put(State(meta=meta(70), highest=70), meta(80, "v2"))
    assert (published, notice) == (Published.STORED, Notice("new", 0, "v2"))
    assert (state.meta, state.highest) == (meta(80, "v2"), 80)
    for as_of in (75, 80):
        assert put(state, meta(as_of, "v3"))[1:] == (Published.STALE, None)
    assert put(state, meta(75, "v2"))[1:] == (Published.CONFIRMED, None)
    assert put(state._replace(epoch=1), meta(90, "v3"))[1] is Published.STALE


def test_unchanged_content_keeps_the_time_of_its_change() -> None:
    """However often it is published again."""
    state, published, notice = put(State(meta=meta(70), highest=70), meta(80))
    assert (published, notice) == (Published.CONFIRMED, None)
    assert state.meta is not None
    assert (state.meta.as_of, state.meta.changed_at) == (80, 70)


def test_a_late_writer_waits_for_a_silent_holder() -> None:
    """A later grant, whose answer is unknown, may have found newer ones; a repair from memory may be stored."""
    silent = State(meta=meta(60), grant=90, holder="other", reporting=0, outcome=Outcome.DONE, highest=90)
    assert put(silent, meta(80, "v2"))[1] is Published.UNSETTLED
    assert put(silent, meta(80, "v2"), fresh=False)[1] is Published.STORED


def test_a_confirmation_moves_the_ages_forward() -> None:
    """A confirmation moves the ages only of the stored version, and never back."""
    stored = State(meta=meta(70), highest=70, grant=90, holder="me", outcome=Outcome.OPEN, failures=2)
    state, here, _ = confirm(stored, "me", "v1", Grant(0, 90, 95), CLOCK, lease=1)
    assert here
    assert state.meta is not None
    assert (state.meta.as_of, state.meta.confirmed_at, state.meta.changed_at) == (90, 95, 70)
    assert (state.outcome, state.failures) == (Outcome.DONE, 0)
    back, _, _ = confirm(state, "me", "v1", Grant(0, 80, 80), CLOCK, lease=1)
    assert back.meta == state.meta
    assert confirm(stored, "me", "v2", Grant(0, 90, 95), CLOCK, lease=1) == (stored, False, None)


def test_only_the_version_that_was_read_is_discarded() -> None:
    """Another one may be there by now; the grants stay."""
    stored = State(meta=meta(70), highest=70, grant=70)
    state, gone, notice = discard(stored, "v1", CLOCK)
    assert (gone, state.meta, state.grant, notice) == (True, None, 70, Notice("note", 0, ""))
    assert discard(stored, "v2", CLOCK) == (stored, False, None)


def test_a_failure_binds_one_or_all() -> None:
    """One gives up the lease, for all there is a note; of an earlier grant neither."""
    state, reply = poll(State(meta=meta(70), highest=70), ASK, CLOCK)
    assert reply.grant is not None
    as_of = reply.grant.as_of
    mine, done, notice = fail(state, "me", as_of, Scope.MINE, CLOCK, status=401, retry_after=0)
    assert (done, mine.owner, mine.failures, notice) == (True, "", 1, Notice("free", 0, "v1"))
    everybody, _, notice = fail(state, "me", as_of, Scope.EVERYBODY, CLOCK, status=503, retry_after=9_000)
    assert (everybody.owner, notice) == ("me", Notice("note", 0, "v1"))
    assert poll(everybody, ASK, CLOCK + 8_999)[1].grant is None
    assert fail(state, "me", as_of - 1, Scope.MINE, CLOCK, status=401, retry_after=0) == (state, False, None)
    assert fail(state, "other", as_of, Scope.MINE, CLOCK, status=401, retry_after=0) == (state, False, None)


def test_a_lease_is_renewed_and_given_up_by_its_holder_alone() -> None:
    """A released one is free at once, with a notice; an idle holder's grant is over."""
    state = poll(State(meta=meta(70), highest=70), ASK, CLOCK)[0]
    assert renew(state, "other", 5, CLOCK) == (state, False)
    kept, mine = renew(state, "me", 90_000, CLOCK)
    assert (mine, kept.lease_until) == (True, CLOCK + 90_000)
    assert release(state, "other", CLOCK, idle=False) == (state, False, None)
    free, given_up, notice = release(state, "me", CLOCK, idle=True)
    assert (given_up, free.owner, free.outcome, notice) == (True, "", Outcome.DONE, Notice("free", 0, "v1"))


def test_a_snapshot_shows_only_what_holds() -> None:
    """A lease that is over has no holder."""
    state = poll(State(meta=meta(70), epoch=0, highest=70), ASK, CLOCK)[0]
    shown = snapshot(state, 123, CLOCK + 10_000)
    assert (shown.leader, shown.lease_left, shown.payload_size, shown.grant_holder) == ("me", 50_000, 123, "me")
    later = snapshot(state, 123, CLOCK + 60_000)
    assert (later.leader, later.lease_left, later.granted_at) == ("", 0, CLOCK)
