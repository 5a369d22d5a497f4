"""The log lines of an incident: one for each affected worker, and one for its end, at the same level."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import redis

from flagcache.events import DefinitionsChanged
from flagcache_posthog.testing import Refuse, StandInControl, make_definitions
from tests.support.attached_clients import attached, events_of, flag_counts
from tests.support.fleet_tasks import all_hold, key_of, leader, load, logs, next_request, status
from tests.support.real_fleet import Fleet, LogLine, Member
from tests.support.servers import MakeRedis, until

EVERY = 0.4


def lines(members: Iterable[Member]) -> list[LogLine]:
    """Return what the caches of these members have logged from WARNING on."""
    return [line for member in members for line in member.call(logs) if line.logger == "flagcache"]


def about(members: Iterable[Member], words: str) -> list[int]:
    """Return the levels of the lines with these words."""
    return [line.level for line in lines(members) if words in line.text]


def test_a_used_up_quota_is_an_error_for_each_worker_and_so_is_its_end(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """All flags are off in each worker, which logs two lines, with cause, remedy and duration."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 3) as fleet:
        fleet.call(load)
        posthog.fail(402)
        until(lambda: flag_counts(fleet) == {0}, 20 * EVERY, what="all to be without flags")
        next_request(posthog)
        posthog.recover()
        all_hold(fleet, 1, within=20 * EVERY)
        until(lambda: len(about(fleet, "quota is restored after")) == 3, what="the ends")
        assert about(fleet, "PostHog's quota is used up (402): all flags are off") == [logging.ERROR] * 3
        assert about(fleet, "quota is restored after") == [logging.ERROR] * 3
        assert len(lines(fleet)) == 6
        for member in fleet:
            assert all(line.text.startswith(f"flagcache[{namespace}] ") for line in lines([member]))
            assert all(f":{member.pid}: " in line.text for line in lines([member]))


def test_refused_keys_are_an_error_of_one_worker(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """The ERROR has the remedy and ends when another worker fetches; the others log nothing."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 3) as fleet:
        fleet.call(load)
        first = leader(fleet)
        posthog.fail(Refuse(401), secret_key=key_of(first.index))
        until(lambda: about([first], "another process fetches"), 20 * EVERY, what="the end")
        assert about([first], "401; clients keep what they have") == [logging.ERROR]
        assert about([first], "check the project key and the secret key") == [logging.ERROR]
        assert about([first], "another process fetches") == [logging.ERROR]
        assert len(lines(fleet)) == 2


def test_a_change_names_what_changed_once_a_fleet(posthog: StandInControl, redis_url: str, namespace: str) -> None:
    """If all flags are gone it is an error, if most are, a warning; a cohort is named too.

    Followers log it at DEBUG.
    """
    posthog.serve(make_definitions(20, revision=1))
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 3) as fleet:
        fleet.call(load)
        few = make_definitions(5, revision=2)
        posthog.serve(few)
        all_hold(fleet, 2, within=20 * EVERY)
        until(lambda: lines(fleet), what="the line, which follows the clients")
        [warning] = lines(fleet)
        assert warning.level == logging.WARNING
        assert "15 of 21 flags are gone" in warning.text
        assert "flag-5, flag-6" in warning.text
        assert "and 5 more" in warning.text
        few["cohorts"] = {**few["cohorts"], "12": {"type": "AND", "values": []}}
        few["group_type_mapping"] = {**few["group_type_mapping"], "4": "company"}
        posthog.serve(few)
        until(lambda: len(events_of(fleet, DefinitionsChanged)) == 9, 20 * EVERY, what="the change")
        difference = events_of(fleet, DefinitionsChanged)[-1].difference
        assert (difference.cohorts, difference.group_types) == (("12",), ("company",))
        assert str(difference) == "cohorts changed: 12; group types changed: company"
        posthog.serve(make_definitions(0, revision=None))
        until(lambda: flag_counts(fleet) == {0} and len(lines(fleet)) == 2, 20 * EVERY, what="no flags, and a line")
        [_, error] = lines(fleet)
        assert error.level == logging.ERROR
        assert "all flags are gone (6)" in error.text
        levels = {(event.fetched, event.level) for event in events_of(fleet, DefinitionsChanged) if not event.fetched}
        assert levels == {(False, logging.DEBUG)}


def test_a_refused_password_is_an_error_and_a_redis_that_is_gone_a_warning(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str
) -> None:
    """Each line says what happens meanwhile and, if people have to act, what to do; the ends are logged too."""
    server = make_redis(tcp=True)
    with Fleet(attached(posthog, server.tcp_url, namespace, every=EVERY), 1) as fleet:
        fleet.call(load)
        admin = redis.Redis.from_url(server.tcp_url)
        admin.config_set("requirepass", "changed")
        admin.client_kill_filter(_type="normal", skipme=True)
        until(lambda: about(fleet, "refuses the user or the password"), 20 * EVERY, what="the loss")
        admin.config_set("requirepass", "")
        admin.close()
        until(lambda: about(fleet, "answers again after"), 20 * EVERY, what="its end")
        assert about(fleet, "; meanwhile the processes of this machine share sqlite://") == [logging.ERROR]
        assert about(fleet, "; check user and password in its URL") == [logging.ERROR]
        server.stop()
        until(lambda: about(fleet, "does not answer: "), 20 * EVERY, what="the loss")
        server.start()
        until(lambda: len(about(fleet, "answers again after")) == 2, 20 * EVERY, what="its end")
        assert about(fleet, "answers again after") == [logging.ERROR, logging.WARNING]
        assert set(about(fleet, "does not answer")) == {logging.WARNING}
        assert all(line.text.count(f":{server.port}") == 1 for line in lines(fleet))


def test_a_read_only_redis_is_one_error_for_each_worker_until_it_writes_again(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str
) -> None:
    """Redis answers polls all the time, also those of a worker that has nothing to write."""
    server = make_redis(tcp=True)
    admin = server.client()
    with Fleet(attached(posthog, server.tcp_url, namespace, every=1.0), 2) as fleet:
        fleet.call(load)
        leader(fleet)
        admin.execute_command("REPLICAOF", "127.0.0.1", 1)  # type: ignore[no-untyped-call]  # redis-py leaves it so
        until(lambda: len(about(fleet, "refuses to write")) >= 2, 20.0, what="the loss")
        for _ in range(3):
            next_request(posthog, timeout=10.0)
        assert about(fleet, "answers again") == []
        assert about(fleet, "; use the address of the primary") == [logging.ERROR] * 2
        admin.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
        until(lambda: len(about(fleet, "answers again")) == 2, 30.0, what="the ends")
        assert about(fleet, "refuses to write") == [logging.ERROR] * 2
        assert {each.trouble for each in fleet.call(status)} == {""}


def test_flags_that_are_back_are_logged_at_the_level_of_their_loss(
    posthog: StandInControl, redis_url: str, namespace: str
) -> None:
    """The line of the return has the number of flags and the duration."""
    with Fleet(attached(posthog, redis_url, namespace, every=EVERY), 2) as fleet:
        fleet.call(load)
        posthog.serve(make_definitions(0, revision=None))
        until(lambda: about(fleet, "all flags are gone"), 20 * EVERY, what="the loss")
        posthog.serve(make_definitions(5))
        until(lambda: about(fleet, "6 of the 6 flags that were gone are back after"), 20 * EVERY, what="the end")
        assert [line.level for line in lines(fleet)] == [logging.ERROR] * 2


def test_a_flushed_redis_does_not_end_a_used_up_quota(
    posthog: StandInControl, make_redis: MakeRedis, namespace: str
) -> None:
    """The flush loses the note, but the quota is still used up: flags stay off, and no line reports an end."""
    server = make_redis()
    with Fleet(attached(posthog, server.url, namespace, every=EVERY), 3) as fleet:
        fleet.call(load)
        posthog.fail(402)
        until(lambda: flag_counts(fleet) == {0}, 20 * EVERY, what="all to be without flags")
        server.client().flushall()
        for _ in range(3):
            next_request(posthog)
        assert about(fleet, "quota is restored") == []
        assert flag_counts(fleet) == {0}
        posthog.recover()
        all_hold(fleet, 1, within=20 * EVERY)
        until(lambda: len(about(fleet, "quota is restored after")) == 3, what="the ends")
        assert len(about(fleet, "quota is used up")) == 3
