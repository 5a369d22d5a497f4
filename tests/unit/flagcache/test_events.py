"""Each transition is reported once, to every subscriber, in plain words."""

from __future__ import annotations

import json
import logging

import pytest

from flagcache import events
from flagcache.event_log import log_events
from flagcache.events import (
    ColdStartExpired,
    ColdStartRecovered,
    DefinitionsChanged,
    DefinitionsFresh,
    DefinitionsRepaired,
    DefinitionsStale,
    Event,
    Events,
    FetchFailed,
    FetchRecovered,
    FlagsRestored,
    ForeignKey,
    ForeignKeyGone,
    ForeignProject,
    ForeignProjectGone,
    LateFetchRefused,
    LeadershipLost,
    LeadershipTaken,
    PayloadAccepted,
    PayloadRefused,
    PublicationAccepted,
    PublicationRefused,
    PushLost,
    PushRecovered,
    QuotaLimited,
    QuotaRestored,
    Recovery,
    StoreLost,
    StoreRecovered,
)
from flagcache.runtime.log_prefix import process_name
from flagcache.stores.base import Scope
from flagcache.vendor import Difference

VERSION, STORE = "0123456789abcdef0123", "redis://db:6379/0"
SOME = Difference(("new",), ("old", "older"), ("a",), ("12",), ("company",), ("more",))
MANY = tuple(f"flag-{number}" for number in range(12))

INFO, WARNING, ERROR, DEBUG = logging.INFO, logging.WARNING, logging.ERROR, logging.DEBUG

EXAMPLES = {
    LeadershipTaken("team", STORE): (
        INFO,
        "this process leads the fleet on redis://db:6379/0",
    ),
    LeadershipLost("team", STORE): (
        INFO,
        "this process no longer leads the fleet on redis://db:6379/0",
    ),
    LeadershipLost("team", STORE, quiet=True): (
        DEBUG,
        "this process no longer leads the fleet on redis://db:6379/0",
    ),
    DefinitionsChanged("team", VERSION, "", fetched=True, flags=201): (
        INFO,
        "definitions 01234567 fetched: 201 flags",
    ),
    DefinitionsChanged("team", VERSION, VERSION, fetched=False, difference=Difference(changed=("flag-7",)), flags=3): (
        DEBUG,
        "definitions 01234567 taken from the store, 3 flags: changed flag-7",
    ),
    DefinitionsChanged("team", VERSION, VERSION, fetched=True, difference=SOME, flags=3): (
        INFO,
        (
            "definitions 01234567 fetched, 3 flags: added new; removed old, older; changed a; cohorts "
            "changed: 12; group types changed: company; other keys changed: more"
        ),
    ),
    DefinitionsChanged("team", VERSION, VERSION, fetched=True, difference=Difference(removed=MANY), flags=9): (
        WARNING,
        (
            "12 of 21 flags are gone: definitions 01234567 fetched, 9 flags: removed flag-0, flag-1, flag-2,"
            " flag-3, flag-4, flag-5, flag-6, flag-7, flag-8, flag-9 and 2 more"
        ),
    ),
    DefinitionsChanged("team", VERSION, VERSION, fetched=True, difference=Difference(removed=MANY), flags=13): (
        INFO,
        (
            "definitions 01234567 fetched, 13 flags: removed flag-0, flag-1, flag-2, flag-3, flag-4, flag-5,"
            " flag-6, flag-7, flag-8, flag-9 and 2 more"
        ),
    ),
    DefinitionsChanged("team", VERSION, VERSION, fetched=True, difference=Difference(removed=("a",)), flags=0): (
        ERROR,
        (
            "all flags are gone (1), each is off from now on: definitions 01234567 fetched (removed a); if "
            "that is a mistake, restore them in PostHog"
        ),
    ),
    FlagsRestored("team", 9.0, "flags_gone", ERROR, back=20, gone=21): (
        ERROR,
        "20 of the 21 flags that were gone are back after 9.0 s",
    ),
    DefinitionsRepaired("team", VERSION, STORE): (
        WARNING,
        (
            "redis://db:6379/0 had lost the definitions, and this process stored 01234567 again; if that "
            "happens often, Redis evicts keys or was emptied"
        ),
    ),
    DefinitionsRepaired("team", VERSION, STORE, known=False): (
        INFO,
        "redis://db:6379/0 had no definitions, and this process stored 01234567",
    ),
    DefinitionsRepaired("team", VERSION, STORE, times=7, policy="allkeys-lru"): (
        WARNING,
        (
            "redis://db:6379/0 keeps losing the definitions, and this process stored them again 7 times: its"
            " maxmemory-policy is allkeys-lru; let Redis evict only keys with a time to live (volatile-...), or raise"
            " its maxmemory"
        ),
    ),
    DefinitionsRepaired("team", VERSION, STORE, quiet=True): (
        DEBUG,
        (
            "redis://db:6379/0 had lost the definitions, and this process stored 01234567 again; if that "
            "happens often, Redis evicts keys or was emptied"
        ),
    ),
    DefinitionsRepaired("team", VERSION, STORE, behind=True): (
        INFO,
        "redis://db:6379/0 had older definitions, from before its outage, and this process stored 01234567",
    ),
    DefinitionsRepaired("team", VERSION, STORE, unread=True): (
        WARNING,
        (
            "redis://db:6379/0 had definitions that are protected with a key that this process does not have, and this"
            " process stored 01234567 in their place; give all workers a common key"
        ),
    ),
    DefinitionsRepaired("team", VERSION, STORE, times=7, policy="volatile-lru"): (
        WARNING,
        (
            "redis://db:6379/0 keeps losing the definitions, and this process stored them again 7 times: its"
            " maxmemory-policy is volatile-lru, under which keys with a time to live are evicted first: leave out"
            " forget_after, or raise its maxmemory"
        ),
    ),
    DefinitionsRepaired("team", VERSION, STORE, times=7, policy="noeviction"): (
        WARNING,
        (
            "redis://db:6379/0 keeps losing the definitions, and this process stored them again 7 times: its"
            " maxmemory-policy is noeviction, so it was emptied"
        ),
    ),
    DefinitionsRepaired("team", VERSION, "sqlite:///flags.db", evicts=False): (
        WARNING,
        "sqlite:///flags.db had lost the definitions, and this process stored 01234567 again: it was emptied",
    ),
    DefinitionsRepaired("team", VERSION, "sqlite:///flags.db", times=7, evicts=False): (
        WARNING,
        ("sqlite:///flags.db keeps losing the definitions, and this process stored them again 7 times: it was emptied"),
    ),
    PayloadRefused("team", VERSION, STORE, "truncated"): (
        ERROR,
        (
            "definitions 01234567 in redis://db:6379/0 are unreadable and were deleted: truncated; clients "
            "keep what they have, and a worker stores readable ones"
        ),
    ),
    PayloadRefused("team", VERSION, STORE, "truncated", empty=True): (
        ERROR,
        (
            "definitions 01234567 in redis://db:6379/0 are unreadable and were deleted: truncated; clients have no"
            " flags, and a worker stores readable ones"
        ),
    ),
    PayloadRefused("team", VERSION, STORE, "too large", kept=True): (
        ERROR,
        (
            "definitions 01234567 in redis://db:6379/0 cannot be read by this process: too large; it leaves them to the"
            " others, and fetches for itself"
        ),
    ),
    PayloadRefused("team", VERSION, STORE, "too large", empty=True, kept=True): (
        ERROR,
        (
            "definitions 01234567 in redis://db:6379/0 cannot be read by this process: too large; it leaves them to the"
            " others, and has no flags, so it fetches for itself"
        ),
    ),
    PayloadRefused("team", VERSION, STORE, "too large", kept=True, fetches=False): (
        ERROR,
        (
            "definitions 01234567 in redis://db:6379/0 cannot be read by this process: too large; it leaves them to the"
            " others, and keeps what it has"
        ),
    ),
    PayloadRefused("team", VERSION, STORE, "too large", empty=True, kept=True, fetches=False): (
        ERROR,
        (
            "definitions 01234567 in redis://db:6379/0 cannot be read by this process: too large; it leaves them to the"
            " others, and has no flags"
        ),
    ),
    PayloadRefused("team", VERSION, STORE, "truncated", deleted=False): (
        ERROR,
        (
            "definitions 01234567 in redis://db:6379/0 are unreadable: truncated; this process could not delete them;"
            " clients keep what they have, until a worker stores readable ones"
        ),
    ),
    PayloadAccepted("team", 0.44, "unreadable", ERROR, STORE): (
        ERROR,
        "definitions in redis://db:6379/0 are readable again after 0.4 s",
    ),
    PublicationRefused("team", VERSION, "too large"): (
        ERROR,
        (
            "definitions 01234567 cannot be shared: too large; this process uses them, and every other "
            "process fetches for itself"
        ),
    ),
    PublicationAccepted("team", 38, "unshareable", ERROR, VERSION): (
        ERROR,
        "definitions 01234567 can be shared; for 38 s earlier ones could not",
    ),
    LateFetchRefused("team", VERSION, STORE): (
        WARNING,
        ("a fetch that ended late brought definitions 01234567; redis://db:6379/0 has newer ones, so they are dropped"),
    ),
    LateFetchRefused("team", VERSION, STORE, kept=True): (
        WARNING,
        (
            "a fetch that ended late brought definitions 01234567; redis://db:6379/0 waits for a later "
            "fetch, and until then only this process uses them"
        ),
    ),
    FetchFailed("team", "PostHog answered 401", 401, Scope.MINE, 29.6, "posthog_401"): (
        ERROR,
        (
            "fetch failed: PostHog answered 401; clients keep what they have, another process may fetch, "
            "this one tries again in 30 s at the earliest; check the project key and the secret key: PostHog"
            " refuses one of them"
        ),
    ),
    FetchFailed("team", "PostHog answered 503", 503, Scope.EVERYBODY, 29.6, "posthog_503", 7440): (
        WARNING,
        (
            "fetch failed: PostHog answered 503 (failing for 2 h); clients keep what they have, the fleet "
            "tries again in 30 s"
        ),
    ),
    FetchFailed("team", "PostHog answered 402", 402, Scope.EVERYBODY, 3.0, "quota"): (
        DEBUG,
        "fetch failed: PostHog answered 402; clients keep what they have, the fleet tries again in 3.0 s",
    ),
    FetchFailed("team", "PostHog answered 503", 503, Scope.EVERYBODY, 0.4, "posthog_503", empty=True): (
        WARNING,
        "fetch failed: PostHog answered 503; clients have no flags, the fleet tries again in 0.4 s",
    ),
    FetchRecovered("team", 38, "posthog_401", ERROR): (
        ERROR,
        "fetches succeed again after 38 s",
    ),
    FetchRecovered("team", 480, "posthog_timeout", WARNING, own=False): (
        WARNING,
        "another process fetches for the fleet again after 8 min; this one has not succeeded since",
    ),
    QuotaLimited("team", cleared=True): (
        ERROR,
        (
            "PostHog's quota is used up (402): all flags are off until it is restored; raise the limit in "
            'PostHog\'s billing, or deploy on_quota_limited="keep"'
        ),
    ),
    QuotaLimited("team", cleared=False, lasted=3720): (
        WARNING,
        ("PostHog's quota is used up (402, for 62 min): clients keep the last known flags; raise the limit"),
    ),
    QuotaLimited("team", cleared=False, empty=True): (
        WARNING,
        "PostHog's quota is used up (402): clients have no flags; raise the limit",
    ),
    QuotaRestored("team", 42, "quota", WARNING, 503, empty=True): (
        WARNING,
        "PostHog answers 503; before, its quota was used up for 42 s; clients have no flags",
    ),
    QuotaRestored("team", 42, "quota", ERROR): (
        ERROR,
        "PostHog's quota is restored after 42 s; clients use all flags again",
    ),
    QuotaRestored("team", 42, "quota", ERROR, 503): (
        ERROR,
        ("PostHog answers 503; before, its quota was used up for 42 s; clients use the last known flags again"),
    ),
    DefinitionsStale("team", 161.2, quota=True): (
        DEBUG,
        "PostHog last confirmed the definitions 3 min ago: its quota is used up",
    ),
    DefinitionsStale("team", 161.2): (
        WARNING,
        "PostHog last confirmed the definitions 3 min ago; clients keep them, and changes do not arrive",
    ),
    DefinitionsFresh("team", 600, "stale", WARNING): (
        WARNING,
        "PostHog confirms the definitions again; they were stale for 10 min",
    ),
    ColdStartExpired("team", 10.04): (
        ERROR,
        "no definitions after 10 s: all flags are off until some arrive; each poll asks for them",
    ),
    ColdStartExpired("team", 0.0, declined=True): (
        INFO,
        (
            "no definitions yet, and cold_start_wait=0 means no wait: all flags are off until some arrive; each poll"
            " asks for them"
        ),
    ),
    ColdStartRecovered("team", 3.0, "no_definitions", ERROR): (
        ERROR,
        "the first definitions have arrived; clients had no flags for 3.0 s",
    ),
    ForeignKey("team", STORE): (
        ERROR,
        (
            "the definitions in redis://db:6379/0 are protected with a key that this process does not have: "
            "it does not use them and fetches for itself; give all workers a common key"
        ),
    ),
    ForeignKey("team", STORE, empty=True): (
        ERROR,
        (
            "the definitions in redis://db:6379/0 are protected with a key that this process does not have: it does not"
            " use them and has no flags, so it fetches for itself; give all workers a common key"
        ),
    ),
    ForeignKey("team", STORE, fetches=False): (
        ERROR,
        (
            "the definitions in redis://db:6379/0 are protected with a key that this process does not have: it does not"
            " use them and keeps what it has; give all workers a common key"
        ),
    ),
    ForeignKey("team", STORE, empty=True, fetches=False): (
        ERROR,
        (
            "the definitions in redis://db:6379/0 are protected with a key that this process does not have: it does not"
            " use them and has no flags; give all workers a common key"
        ),
    ),
    ForeignKeyGone("team", 3.0, "foreign_key", ERROR, STORE): (
        ERROR,
        "the definitions in redis://db:6379/0 can be read again after 3.0 s",
    ),
    ForeignProject("team", STORE, "team=1", "team=2"): (
        ERROR,
        (
            "the namespace belongs to another project in redis://db:6379/0 (team=2; this process: team=1): "
            "it does not use those definitions and fetches for itself; give each project its own "
            "namespace, or if theirs are no longer needed, run `flagcache clear STORE_URL team`"
        ),
    ),
    ForeignProject("team", STORE, "team=1", "team=2", fetches=False): (
        ERROR,
        (
            "the namespace belongs to another project in redis://db:6379/0 (team=2; this process: team=1): it does not"
            " use those definitions and keeps what it has; give each project its own namespace, or if theirs are"
            " no longer needed, run `flagcache clear STORE_URL team`"
        ),
    ),
    ForeignProject("team", STORE, "team=1", "team=2", empty=True, fetches=False): (
        ERROR,
        (
            "the namespace belongs to another project in redis://db:6379/0 (team=2; this process: team=1): it does not"
            " use those definitions and has no flags; give each project its own namespace, or if theirs are no"
            " longer needed, run `flagcache clear STORE_URL team`"
        ),
    ),
    ForeignProjectGone("team", 3.0, "foreign_project", ERROR, STORE): (
        ERROR,
        "the namespace no longer belongs to another project in redis://db:6379/0, after 3.0 s",
    ),
    PushLost("team", f"{STORE}: NOPERM", "push_refused"): (
        WARNING,
        (
            "no notices (redis://db:6379/0: NOPERM): this process takes changes with its polls, and retries the"
            " subscription at least every 300 s"
        ),
    ),
    PushLost("team", "can't start new thread", "push_no_thread", 7500): (
        WARNING,
        (
            "no thread to listen for changes (can't start new thread, for 2 h): this process takes them with its polls,"
            " and retries at each poll"
        ),
    ),
    PushLost("team", "gevent has patched threads after this cache was made", "push_patched_late"): (
        WARNING,
        (
            "gevent has patched threads after this cache was made: this process takes changes with its polls, without"
            " push. Patch first; with gunicorn's --preload, begin gunicorn.conf.py with `from gevent import"
            " monkey; monkey.patch_all()`"
        ),
    ),
    PushLost("team", f"{STORE}: NOPERM; its user needs +publish", "push_not_allowed"): (
        WARNING,
        (
            "changes are not pushed (redis://db:6379/0: NOPERM; its user needs +publish): each process takes them with"
            " its polls"
        ),
    ),
    PushRecovered("team", 38, "push_refused", WARNING): (WARNING, "changes are pushed again after 38 s"),
    PushRecovered("team", 38, "push_no_thread", WARNING): (WARNING, "listening for changes again after 38 s"),
    StoreLost("team", STORE, "timed out", "store_timeout", "meanwhile each process goes on alone", 8000): (
        WARNING,
        "redis://db:6379/0 does not answer (for 2 h): timed out; meanwhile each process goes on alone",
    ),
    StoreLost("team", STORE, "WRONGPASS", "store_password", "meanwhile each process goes on alone"): (
        ERROR,
        (
            "redis://db:6379/0 refuses the user or the password: WRONGPASS; meanwhile each process goes on "
            "alone; check user and password in its URL"
        ),
    ),
    StoreLost("team", "sqlite:///flags.db", "permission denied", "store_rights"): (
        ERROR,
        (
            "sqlite:///flags.db may not be used by this process: permission denied; let its user read and write the"
            " file and its directory"
        ),
    ),
    StoreLost("team", STORE, "NOPERM", "store_rights"): (
        ERROR,
        (
            "redis://db:6379/0 refuses a command to this user: NOPERM; give its user the rights that "
            "docs/security.md lists"
        ),
    ),
    StoreLost("team", STORE, "READONLY", "store_read_only"): (
        ERROR,
        (
            "redis://db:6379/0 refuses to write: READONLY; use the address of the primary, or fix what "
            "makes it read-only"
        ),
    ),
    StoreLost("team", STORE, "OOM", "store_full"): (
        ERROR,
        "redis://db:6379/0 is full: OOM; free memory there, or raise its limit",
    ),
    StoreLost("team", STORE, "disk full", "fallback_full", f"{STORE} answers, and nothing else changes"): (
        WARNING,
        "redis://db:6379/0 is full: disk full; redis://db:6379/0 answers, and nothing else changes",
    ),
    StoreRecovered("team", 38, "store_timeout", WARNING, STORE): (
        WARNING,
        "redis://db:6379/0 answers again after 38 s",
    ),
}


BACK = StoreRecovered("team", 38, "store_timeout", WARNING, STORE)

ENDS: dict[type[Event], type[Recovery]] = {
    ColdStartExpired: ColdStartRecovered,
    DefinitionsStale: DefinitionsFresh,
    FetchFailed: FetchRecovered,
    ForeignKey: ForeignKeyGone,
    ForeignProject: ForeignProjectGone,
    PayloadRefused: PayloadAccepted,
    PublicationRefused: PublicationAccepted,
    PushLost: PushRecovered,
    QuotaLimited: QuotaRestored,
    StoreLost: StoreRecovered,
}
"""The end of each failure; `FlagsRestored` follows a change. `LateFetchRefused` and `DefinitionsRepaired`
happen once and do not last."""


def test_every_failure_that_lasts_has_an_end() -> None:
    """A failure has its duration so far and its end has the duration; each end belongs to a failure."""
    kinds, ends = {type(event) for event in EXAMPLES}, {*ENDS.values(), FlagsRestored}
    assert {kind for kind in kinds if "lasted" in kind.__match_args__} == set(ENDS) | ends
    assert {kind for kind in kinds if issubclass(kind, Recovery)} == ends


def test_every_event_has_an_example_here() -> None:
    """Each kind of event is in EXAMPLES, with its text and level."""
    kinds = {getattr(events, name) for name in events.__all__} - {Event, Events, Recovery}
    assert kinds == {type(event) for event in EXAMPLES}


@pytest.mark.parametrize(("event", "line"), EXAMPLES.items(), ids=[type(event).__name__ for event in EXAMPLES])
def test_the_log_line_tells_it(event: Event, line: tuple[int, str], caplog: pytest.LogCaptureFixture) -> None:
    """One line of the logger `flagcache`, at its level: which cache, which process, what, where and what to do."""
    caplog.set_level(logging.DEBUG)
    log_events(event)
    level, text = line
    assert caplog.record_tuples == [("flagcache", level, f"flagcache[team] {process_name()}: {text}")]


@pytest.mark.parametrize("event", EXAMPLES, ids=[type(event).__name__ for event in EXAMPLES])
def test_a_record_carries_its_event_as_plain_values(event: Event, caplog: pytest.LogCaptureFixture) -> None:
    """For structured logging the record has one attribute that JSON can represent."""
    caplog.set_level(logging.DEBUG)
    log_events(event)
    values = vars(caplog.records[0])["flagcache"]
    assert json.loads(json.dumps(values)) == values
    assert values.pop("process") == process_name()
    assert values.pop("event") == type(event).__name__
    assert set(values) == set(vars(event))
    assert values["namespace"] == "team"


@pytest.mark.parametrize("text", [str(event) for event in EXAMPLES])
def test_no_line_names_an_address_twice(text: str) -> None:
    """A line has the address of a store once; that of its replacement may follow."""
    assert text.count(STORE) <= 1 + text.count(f"; {STORE} answers")


@pytest.mark.parametrize("event", EXAMPLES, ids=[type(event).__name__ for event in EXAMPLES])
def test_an_event_is_a_value(event: Event) -> None:
    """Its namespace is its first field, and a subscriber cannot change it for the next one."""
    assert next(iter(vars(event))) == "namespace"
    with pytest.raises(AttributeError, match="cannot be changed"):
        event.namespace = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  # on purpose


def test_all_subscribers_hear_all_events_in_order() -> None:
    """A subscriber gets every event from the moment when it subscribes."""
    first: list[Event] = []
    second: list[Event] = []
    stream = Events()
    stream.subscribe(first.append)
    stream.emit(BACK)
    stream.subscribe(second.append)
    stream.emit(LeadershipTaken("team", STORE))
    assert first == [BACK, LeadershipTaken("team", STORE)]
    assert second == first[1:]


def test_a_subscriber_that_raises_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Its exception is logged with a traceback; the others get the event, and the emitter continues."""
    heard: list[Event] = []
    stream = Events()

    def fail(event: Event) -> None:
        raise ValueError("in the subscriber")

    stream.subscribe(fail)
    stream.subscribe(heard.append)
    stream.emit(BACK)
    assert heard == [BACK]
    (record,) = caplog.records
    assert record.getMessage() == f"flagcache[team] {process_name()}: on_event failed on StoreRecovered"
    assert record.exc_info is not None


def test_a_subscriber_may_subscribe_another_meanwhile() -> None:
    """The new subscriber gets events from the next one on."""
    late: list[Event] = []
    stream = Events()
    stream.subscribe(lambda _event: stream.subscribe(late.append))
    stream.emit(BACK)
    assert late == []
    stream.emit(BACK)
    assert late == [BACK]
