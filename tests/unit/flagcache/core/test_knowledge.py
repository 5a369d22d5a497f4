"""The pure core of a process: what it asks, what follows from the reply, and what it holds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagcache.core import knowledge, schedule
from flagcache.core.knowledge import Held, Knowledge, StoreView
from flagcache.core.notes import Note
from flagcache.core.projects import join_projects
from flagcache.settings import Settings
from flagcache.stores.base import Ask, Grant, Meta, Order, Reply, Scope
from flagcache.vendor import Definitions, Refused

HOME, ELSEWHERE = "redis://a/0", "sqlite:///b"
NOW = 5000.0
CLOCK = 1_700_000_000_000
SETTINGS = Settings(refresh_interval=30)
BASE = knowledge.template("me", SETTINGS, SETTINGS.lease_for())
FLAGS: Definitions = {"flags": [1]}


def meta(as_of: int, version: str = "v1", *, epoch: int = 0, project: str = "") -> Meta:
    """What is known of definitions whose fetch was granted then."""
    return Meta(version, epoch, as_of, changed_at=as_of - 500, confirmed_at=as_of, project=project)


def held(as_of: int, version: str = "v1", *, store_name: str = HOME, born: float = NOW) -> Held:
    """Definitions in memory."""
    return Held(meta(as_of, version), FLAGS, store_name, born)


def reply(**said: object) -> Reply:
    """An answer that says nothing but this."""
    return Reply(clock=CLOCK, leads=False, lease_left=0, granted_at=0)._replace(
        **said,  # type: ignore[arg-type]  # the fields of a Reply
    )


# --- asking -----------------------------------------------------------------------------------------------------------


def test_the_template_speaks_milliseconds() -> None:
    """The template has settings in seconds as whole milliseconds."""
    assert (BASE.interval, BASE.lease, BASE.cold_lease, BASE.challenge) == (30_000, 60_000, 4_000, 300_000)


def test_a_new_process_asks_with_empty_hands() -> None:
    """It holds nothing, knows of no grant, and may lead."""
    ask = knowledge.build_poll(BASE, Knowledge(), HOME, NOW)
    assert ask == BASE._replace(may_lead=True, last_grant=0, grant_age=-1, held=None)


def test_it_says_what_it_holds_by_the_stores_own_time() -> None:
    """What came from this store has a place in it, and an age."""
    know = Knowledge(held=held(CLOCK - 7000, born=NOW - 7))
    ask = knowledge.build_poll(BASE, know, HOME, NOW)
    assert (ask.held, ask.held_age, ask.held_version) == (Order(0, CLOCK - 7000), 7000, "v1")


def test_what_came_from_another_store_has_an_age_only() -> None:
    """Two stores' clocks are not to be compared."""
    know = Knowledge(held=held(CLOCK + 10**9, store_name=ELSEWHERE, born=NOW - 7))
    ask = knowledge.build_poll(BASE, know, HOME, NOW)
    assert (ask.held, ask.held_age) == (Order(0, 0), 7000)


@pytest.mark.parametrize(("until", "may_lead"), [(NOW + 1, False), (NOW, True), (NOW - 1, True)])
def test_whoever_failed_does_not_contend_until_its_time_is_over(until: float, *, may_lead: bool) -> None:
    """A process whose fetch failed contends again exactly when its back-off ends."""
    assert knowledge.build_poll(BASE, Knowledge(stay_out_until=until), HOME, NOW).may_lead is may_lead


def test_it_looks_at_another_projects_store_without_contending() -> None:
    """It says that it holds what is there, so that the payload is not sent at each poll."""
    theirs = meta(CLOCK, "theirs", project="2")
    know = Knowledge(held=held(CLOCK), project="1").with_view(HOME, StoreView(stored=theirs, foreign=True))
    ask = knowledge.build_poll(BASE, know, HOME, NOW)
    assert (ask.may_lead, ask.held, ask.held_version) == (False, theirs.order, "theirs")


def test_the_last_grant_is_the_stores_own() -> None:
    """A poll doesn't contain the grant of another store."""
    know = Knowledge().with_view(ELSEWHERE, StoreView(last_grant=7)).with_view(HOME, StoreView(last_grant=9))
    assert knowledge.build_poll(BASE, know, HOME, NOW).last_grant == 9


@given(
    born=st.floats(min_value=-1e12, max_value=1e12) | st.just(-math.inf),
    granted=st.none() | st.floats(min_value=-1e12, max_value=1e12),
    now=st.floats(min_value=0, max_value=1e9),
)
def test_ages_are_whole_numbers_from_zero_up(born: float, granted: float | None, now: float) -> None:
    """Whatever the clocks say, what is sent to a store fits: no negative, no infinite, nothing beyond 2**53."""
    ask = knowledge.build_poll(BASE, Knowledge(held=held(CLOCK, born=born), granted=granted), HOME, now)
    assert 0 <= ask.held_age < 2**53
    assert -1 <= ask.grant_age < 2**53
    assert isinstance(ask.held_age, int)


# --- hearing ----------------------------------------------------------------------------------------------------------


def test_who_leads_is_known_by_store() -> None:
    """Leading on one store means nothing on another."""
    know = knowledge.apply_reply(Knowledge(), HOME, reply(leads=True, lease_left=500), NOW)
    assert know.view(HOME).leads
    assert not know.view(ELSEWHERE).leads
    assert not knowledge.apply_reply(know, HOME, reply(leads=False), NOW).view(HOME).leads


def test_an_unchanged_answer_keeps_what_is_known_to_be_stored() -> None:
    """The metadata are left out of it, and are as before."""
    know = knowledge.apply_reply(Knowledge(), HOME, reply(meta=meta(5)), NOW)
    know = knowledge.apply_reply(know, HOME, reply(unchanged=True), NOW)
    assert know.view(HOME).stored == meta(5)
    assert knowledge.apply_reply(know, HOME, reply(), NOW).view(HOME).stored is None


def test_the_fleets_latest_grant_is_dated_by_the_own_clock() -> None:
    """The store says when, by its own clock; the later one counts."""
    know = knowledge.apply_reply(Knowledge(), HOME, reply(granted_at=CLOCK - 4000), NOW)
    assert know.granted == NOW - 4
    know = knowledge.apply_reply(know, HOME, reply(granted_at=CLOCK - 60_000), NOW + 1)
    assert know.granted == NOW - 4


@pytest.mark.parametrize("granted_at", [0, -5, CLOCK + 1, CLOCK + 10**9])
def test_a_grant_that_cannot_have_been_is_not_dated(granted_at: int) -> None:
    """None ever, or one ahead of a clock that was stepped back."""
    assert knowledge.apply_reply(Knowledge(), HOME, reply(granted_at=granted_at), NOW).granted is None


def test_a_grant_is_remembered_for_the_next_poll() -> None:
    """A poll names the last grant, so that a grant whose reply was lost can be recognised."""
    know = knowledge.apply_reply(Knowledge(), HOME, reply(grant=Grant(0, 7, 7)), NOW)
    assert know.view(HOME).last_grant == 7
    assert knowledge.apply_reply(know, HOME, reply(), NOW).view(HOME).last_grant == 7


def test_the_cold_start_counts_from_the_first_answer() -> None:
    """The cold start counts from the first reply only, and not for a process that holds something."""
    know = knowledge.apply_reply(Knowledge(), HOME, reply(), NOW)
    assert knowledge.apply_reply(know, HOME, reply(), NOW + 5).waiting_since == NOW
    assert knowledge.apply_reply(Knowledge(held=held(CLOCK)), HOME, reply(), NOW).waiting_since is None


def test_a_confirmation_by_another_moves_the_ages() -> None:
    """The definitions that are held: their place and their age, and not the objects."""
    before = held(CLOCK - 60_000, born=NOW - 60)
    know = knowledge.apply_reply(Knowledge(held=before), HOME, reply(meta=meta(CLOCK - 1000)), NOW)
    assert know.held is not None
    assert know.held.meta.as_of == CLOCK - 1000
    assert know.held.born == NOW - 1
    assert know.held.definitions is before.definitions


def test_a_time_ahead_of_the_stores_clock_makes_nothing_younger() -> None:
    """If the definitions are held already, their order is taken and no age, which such a time doesn't show."""
    ahead = CLOCK + 10**8
    know = Knowledge(held=held(CLOCK - 7000, born=NOW - 7))
    know = knowledge.apply_reply(know, HOME, reply(meta=meta(ahead)), NOW)
    assert know.held is not None
    assert (know.held.meta.as_of, know.held.born) == (ahead, NOW - 7)
    fetched = Held(meta(ahead + 1, "v2")._replace(confirmed_at=CLOCK - 1000), FLAGS, HOME, NOW - 1)
    assert knowledge.adopt(know, fetched).held is fetched


@pytest.mark.parametrize("signs", [False, True])
def test_a_time_ahead_of_the_stores_clock_is_no_age(signs: bool) -> None:
    """Definitions that are confirmed in the store's future count as of unknown age, although the time was signed."""
    for ahead in (1, 1000, 10**8):
        stored = meta(CLOCK + ahead)._replace(stamp="signed")
        found = knowledge.from_store(HOME, stored, FLAGS, CLOCK, NOW, signs=signs)
        assert NOW - found.born > 10**8
        stored = stored._replace(as_of=CLOCK + ahead, confirmed_at=CLOCK - 1000)
        assert knowledge.from_store(HOME, stored, FLAGS, CLOCK, NOW, signs=signs).born == NOW - 1


@pytest.mark.parametrize(
    "said",
    [reply(meta=meta(CLOCK - 1000, "v2")), reply(unchanged=True), reply(), reply(meta=meta(CLOCK - 90_000))],
    ids=["another version", "unchanged", "nothing stored", "older"],
)
def test_nothing_else_moves_them(said: Reply) -> None:
    """Ages come from the vendor's answers about this content, and never go back."""
    before = held(CLOCK - 60_000, born=NOW - 60)
    assert knowledge.apply_reply(Knowledge(held=before), HOME, said, NOW).held is before


# --- projects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "foreign"), [("1", "2", True), ("1", "1", False), ("", "2", False), ("1", "", False)]
)
def test_another_project_is_one_that_both_name(ours: str, theirs: str, *, foreign: bool) -> None:
    """A process that knows no project may belong to either."""
    assert knowledge.is_foreign(Knowledge(project=ours), meta(1, project=theirs)) is foreign
    assert knowledge.is_foreign(Knowledge(project=ours), None) is False


# --- holding ----------------------------------------------------------------------------------------------------------


def test_newer_replaces_older_and_never_the_other_way() -> None:
    """By the store's order, where both are of one store."""
    know = knowledge.adopt(Knowledge(), held(10))
    assert knowledge.adopt(know, held(9, "v0")) is know
    later = held(11, "v2")
    assert knowledge.adopt(know, later).held is later


def test_the_epoch_comes_before_the_time() -> None:
    """What people raised is newer than any fetch before."""
    raised = Held(meta(5, "v2", epoch=1), FLAGS, HOME, NOW)
    know = knowledge.adopt(knowledge.adopt(Knowledge(), held(10)), raised)
    assert know.held is raised
    assert knowledge.adopt(know, held(99)) is know


def test_of_two_stores_the_younger_one_counts() -> None:
    """Their clocks are not to be compared, the ages on the own clock are."""
    know = knowledge.adopt(Knowledge(), held(10**9, born=NOW - 30))
    younger = held(1, store_name=ELSEWHERE, born=NOW - 10)
    assert knowledge.adopt(know, younger).held is younger
    assert knowledge.adopt(knowledge.adopt(Knowledge(), younger), held(10**9, born=NOW - 30)).held is younger


def test_to_hold_ends_the_wait() -> None:
    """With definitions a process no longer counts as one that gave up; its one wait counts from its beginning."""
    know = knowledge.adopt(Knowledge(waiting_since=1.0, gave_up_waiting=True), held(1))
    assert (know.waiting_since, know.gave_up_waiting) == (1.0, False)


# --- telling ----------------------------------------------------------------------------------------------------------


def test_a_fetch_is_stamped_with_its_grant() -> None:
    """A fetch is stamped with its grant and nothing else."""
    assert knowledge.times_of_fetch(Knowledge(), HOME, Grant(3, 7, 6), 99) == Grant(3, 7, 6)


def test_a_fetch_without_a_grant_is_stamped_with_the_last_question() -> None:
    """A fetch without a grant began after the last poll; its epoch is that of what is stored."""
    know = Knowledge().with_view(HOME, StoreView(stored=meta(5, epoch=2)))
    assert knowledge.times_of_fetch(know, HOME, None, 99) == Grant(2, 99, 99)
    assert knowledge.times_of_fetch(Knowledge(), "", None, 0) == Grant(0, 0, 0)


def test_a_repair_keeps_its_own_times() -> None:
    """Nothing is re-stamped."""
    assert knowledge.meta_for_store(held(CLOCK - 9000), HOME, CLOCK, NOW) == meta(CLOCK - 9000)


@pytest.mark.parametrize("store_name", [HOME, ELSEWHERE])
def test_a_repair_in_another_time_is_as_old_as_before(store_name: str) -> None:
    """Times of another store, or ahead of the clock, are translated by the own clock's age; distances stay."""
    translated = knowledge.meta_for_store(held(CLOCK + 10**7, store_name=store_name, born=NOW - 9), HOME, CLOCK, NOW)
    assert translated.as_of == translated.confirmed_at == CLOCK - 9000
    assert translated.changed_at == CLOCK - 9500


def test_what_was_overtaken_is_older_than_all() -> None:
    """Also than what another store holds; and its age is still a number."""
    superseded = knowledge.superseded(held(CLOCK))
    assert math.isfinite(superseded.born)
    for other in (held(2, "v2", born=NOW - 10**6), held(1, "v2", store_name=ELSEWHERE, born=NOW - 10**6)):
        assert knowledge.adopt(Knowledge(held=superseded), other).held is other


@given(failures=st.integers(0, 2000), jitter=st.floats(0, 1))
def test_failures_back_off_from_a_quarter_of_an_interval_to_the_ceiling(failures: int, jitter: float) -> None:
    """The back-off doubles, and is spread over the upper half."""
    settings = Settings(refresh_interval=30, backoff_ceiling=300)
    pause = schedule.backoff(failures, settings, jitter)
    full = min(300, 7.5 * 2 ** min(failures, 20))
    assert full / 2 - 1e-6 <= pause <= full + 1e-6


def test_a_question_asked_before_a_report_knows_nothing_of_it() -> None:
    """A poll under way while this process reports its own fetch brings neither the failure back nor its end."""
    failed = knowledge.apply_failure(Knowledge(), HOME, Refused("quota", Scope.EVERYBODY, 402), NOW, 5)
    assert knowledge.apply_reply(failed, HOME, reply(backoff_status=0), NOW + 1, NOW - 0.1).backoff == failed.backoff
    later = reply(backoff_status=0, meta=meta(CLOCK))
    assert knowledge.apply_reply(failed, HOME, later, NOW + 1, NOW - 0.1).backoff == failed.backoff
    assert knowledge.apply_reply(failed, HOME, later, NOW + 1, NOW + 0.1).backoff.status == 0
    well = Knowledge(backoff=Note(store_name=HOME, at=NOW))
    assert knowledge.apply_reply(well, HOME, reply(backoff_status=402), NOW + 1, NOW - 0.1).backoff == well.backoff
    assert knowledge.apply_reply(well, HOME, reply(backoff_status=402), NOW + 1, NOW + 0.1).backoff.status == 402


def test_another_store_ends_a_failure_by_a_later_fetch_alone() -> None:
    """The one that stands in for the fleet's own has no note of what happened before; one of its own counts."""
    failed = knowledge.apply_failure(Knowledge(), HOME, Refused("quota", Scope.EVERYBODY, 402), NOW, 5)
    for said in (reply(), reply(meta=meta(CLOCK - 3000))):
        assert knowledge.apply_reply(failed, "elsewhere", said, NOW + 2).backoff == failed.backoff
    assert knowledge.apply_reply(failed, "elsewhere", reply(meta=meta(CLOCK - 1000)), NOW + 2).backoff.status == 0
    assert knowledge.apply_reply(failed, "elsewhere", reply(backoff_status=500), NOW + 2).backoff.status == 500


def test_a_store_that_was_emptied_ends_no_failure() -> None:
    """Its note is lost; the failure lasts until a fetch succeeds, as the held definitions show."""
    know = knowledge.apply_reply(
        Knowledge(held=held(CLOCK - 9000)), HOME, reply(backoff_status=402, meta=meta(CLOCK - 9000)), NOW
    )
    assert know.backoff.status == 402
    know = knowledge.apply_reply(know, HOME, reply(), NOW + 1)
    assert know.backoff.status == 402, "flushed"
    know = knowledge.apply_reply(know, HOME, reply(meta=meta(CLOCK - 9000)), NOW + 2)
    assert know.backoff.status == 402, "stored again, as old as it is"
    know = knowledge.apply_reply(know, HOME, reply(unchanged=True), NOW + 3)
    assert know.backoff.status == 402
    assert knowledge.apply_reply(know, HOME, reply(meta=meta(CLOCK - 100)), NOW + 4).backoff.status == 0, "confirmed"
    assert knowledge.apply_reply(know, HOME, reply(meta=meta(CLOCK - 100, "v2")), NOW + 4).backoff.status == 0, (
        "changed"
    )


def test_a_store_without_definitions_that_lost_its_note_ends_no_failure() -> None:
    """A cold fleet that is refused, and a Redis that is emptied then: the first definitions end the failure."""
    failed = knowledge.apply_failure(Knowledge(), HOME, Refused("quota", Scope.EVERYBODY, 402), NOW, 5)
    know = knowledge.apply_reply(failed, HOME, reply(), NOW + 1)
    assert know.backoff == failed.backoff
    assert knowledge.apply_reply(know, HOME, reply(meta=meta(CLOCK - 100)), NOW + 2).backoff.status == 0


def test_a_store_whose_clock_was_put_back_ends_a_failure_by_a_later_fetch() -> None:
    """Its order begins again after a flush; the age of what it has shows that the fetch came later."""
    stored = held(CLOCK - 9000)
    know = knowledge.apply_reply(Knowledge(held=stored), HOME, reply(backoff_status=402, meta=stored.meta), NOW)
    back = CLOCK - 10**7
    answer = reply(clock=back, meta=meta(back - 3000))
    assert knowledge.apply_reply(know, HOME, answer, NOW + 2).backoff.status == 402, "fetched before"
    assert knowledge.apply_reply(know, HOME, answer, NOW + 4).backoff.status == 0, "fetched since"


def test_a_failure_of_another_projects_fleet_is_none_of_ours() -> None:
    """Its quota may be used up: that turns no flag off here."""
    know = Knowledge(project="team=1")
    theirs = reply(meta=meta(5, project="team=2"), backoff_status=402)
    assert knowledge.apply_reply(know, HOME, theirs, NOW).backoff == Note()


def test_whoever_failed_for_reasons_of_its_own_stays_out() -> None:
    """A failure that concerns all workers makes all wait, and no worker gives up the lease."""
    mine = knowledge.apply_failure(Knowledge(failures=2), HOME, Refused("no way", Scope.MINE, 401), NOW, 5)
    assert (mine.stay_out_until, mine.backoff, mine.failures) == (NOW + 5, Note(), 3)
    all_of_us = knowledge.apply_failure(Knowledge(), HOME, Refused("busy", Scope.EVERYBODY, 429), NOW, 5)
    assert (all_of_us.stay_out_until, all_of_us.backoff) == (0, Note(429, NOW + 5, HOME, NOW))


@pytest.mark.parametrize(
    ("ours", "theirs", "foreign"),
    [
        ("1", "2", True),
        ("team=1", "team=1 key=a", False),
        ("team=1", "team=2", True),
        ("team=1", "team=2 key=a", True),
        ("team=1 key=b", "key=a team=1", False),  # the token was reset
        ("team=1 key=a", "team=2 key=a", False),  # flags show all sorts of things
        ("team=1 key=a", "team=2 key=b", True),
        ("key=b", "team=1 key=a", True),
        ("key=a", "team=1", False),
        ("", "team=1", False),
        ("team=1", "", False),
    ],
)
def test_one_equal_aspect_makes_one_project(ours: str, theirs: str, *, foreign: bool) -> None:
    """The same token is the same project, and so is the same number; who knows neither of both may belong to either."""
    assert knowledge.is_foreign(Knowledge(project=ours), meta(1, project=theirs)) is foreign
    assert knowledge.is_foreign(Knowledge(project=theirs), meta(1, project=ours)) is foreign


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ("key=b", "team=1", "team=1 key=b"),
        ("team=1", "key=b", "team=1 key=b"),
        ("key=b", "key=a team=1", "team=1 key=b"),
        ("", "key=a team=1", "team=1 key=a"),
        ("1", "2", "1"),
        ("", "", ""),
    ],
)
def test_what_two_know_of_a_project_is_joined(first: str, second: str, joined: str) -> None:
    """What two sources know is joined in one order; if they differ, the first is right."""
    assert join_projects(first, second) == joined


def test_a_process_learns_its_projects_number_from_what_is_stored() -> None:
    """If its own token is stored too: then another token with that number is the same project's new one."""

    def after(project: str) -> Knowledge:
        return knowledge.apply_reply(Knowledge(project="key=a"), HOME, reply(meta=meta(5, project=project)), NOW)

    assert after("team=1 key=a").project == "team=1 key=a"
    assert after("team=1 key=b").project == "key=a"
    assert after("team=1").project == "key=a"


def test_an_answer_that_lay_unread_is_as_old_as_its_question() -> None:
    """A process that was frozen before it read the answer must not take definitions for younger than they are."""
    before = held(CLOCK - 5000, born=NOW - 105)
    said = reply(meta=meta(CLOCK - 1000))
    know = knowledge.apply_reply(Knowledge(held=before), HOME, said, NOW, NOW - 100)
    assert know.held is not None
    assert know.held.born == pytest.approx(NOW - 101)
    assert knowledge.from_store(HOME, meta(CLOCK - 1000), FLAGS, CLOCK, NOW - 100).born == pytest.approx(NOW - 101)


def test_a_child_knows_what_its_parent_held_and_nothing_of_its_place() -> None:
    """Leases, grants and waits are the parent's."""
    parents = (
        Knowledge(held=held(5), granted=NOW, received=True, project="1")
        .with_view(HOME, StoreView(leads=True))
        ._replace(
            waiting_since=NOW,
            gave_up_waiting=True,
            failures=3,
            stay_out_until=NOW + 99,
        )
    )
    child = parents.in_child()
    assert child == Knowledge(held=parents.held, granted=NOW, received=True, project="1")
    assert not child.view(HOME).leads


def test_knowledge_is_a_value() -> None:
    """Taking something in makes another one; the old one is as it was."""
    know = Knowledge()
    knowledge.apply_reply(know, HOME, reply(leads=True), NOW)
    assert know == Knowledge()
    with pytest.raises(TypeError):
        know.views[HOME] = StoreView()  # type: ignore[index]  # pyright: ignore[reportIndexIssue]  # on purpose
    assert isinstance(BASE, Ask)
