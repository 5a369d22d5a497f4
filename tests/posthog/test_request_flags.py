"""The flags of a request: evaluated locally, once, by the SDK; PostHog is asked only on request."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import posthog as posthog_module
import pytest
from posthog import Posthog
from posthog.contexts import identify_context, new_context

from flagcache.errors import ConfigurationError
from flagcache_posthog import _remote_calls, _user_flags
from flagcache_posthog.request_flags import RemoteStatus, RequestFlags, remote_status
from flagcache_posthog.testing import (
    Definitions,
    Drop,
    Hang,
    StandInControl,
    UnknownFlagError,
    make_definitions,
    make_flag,
    override_flags,
)
from tests.support.servers import until

STICKY = ("sticky-0", "sticky-1", "sticky-2")
"""Flags that the SDK cannot decide locally."""


def _definitions(count: int = 5, *, price: str = "b") -> Definitions:
    made = make_definitions(count)
    made["flags"] += [make_flag("price", variants={price: 100}, payload={"amount": 9}), make_flag("off", active=False)]
    for key in STICKY:
        sticky = make_flag(key, variants={"s": 100}, payload=key)
        sticky["ensure_experience_continuity"] = True
        made["flags"].append(sticky)
    return made


@pytest.fixture
def sent() -> list[dict[str, Any]]:
    """The events that clients sent."""
    return []


@pytest.fixture
def client(posthog: StandInControl, sent: list[dict[str, Any]]) -> Iterator[Posthog]:
    """A client with its definitions."""
    posthog.serve(_definitions())
    made = _client(posthog, sent)
    _load(made)
    posthog.reset_counts()
    yield made
    made.shutdown()


def _client(posthog: StandInControl, sent: list[dict[str, Any]], **options: Any) -> Posthog:  # noqa: ANN401 - the SDK's
    return Posthog(
        "phc_test",
        secret_key="phs_test",
        host=posthog.url,
        poll_interval=60,
        send=False,
        before_send=partial(_keep, sent),
        feature_flags_request_max_retries=0,
        **options,
    )


def _keep(sent: list[dict[str, Any]], event: dict[str, Any]) -> dict[str, Any]:
    sent.append(event)
    return event


def _load(client: Posthog) -> None:
    client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped


def _summaries(sent: list[dict[str, Any]]) -> list[tuple[str, str, dict[str, object]]]:
    """Return events without what differs each time."""
    summary = [(event["event"], event["distinct_id"], event["properties"]) for event in sent]
    sent.clear()
    left_out = {"$feature_flag_request_id", "$feature_flag_evaluated_at", "$session_id"}
    return [(name, who, {k: v for k, v in each.items() if k not in left_out}) for name, who, each in summary]


def test_values_and_payloads(client: Posthog, posthog: StandInControl) -> None:
    """Values are the SDK's, with a default only if there is no value. No request is made."""
    flags = RequestFlags(client, "user")
    assert (flags.get("price"), flags.is_enabled("price"), flags.payload("price")) == ("b", True, {"amount": 9})
    assert (flags.get("off", default=True), flags.is_enabled("off", default=True)) == (False, False)
    assert (flags.get("flag-0"), flags.payload("off"), flags.payload("off", default=7)) == (True, None, 7)
    for unknown in ("sticky-0", "no-such-flag"):
        assert (flags.get(unknown), flags.get(unknown, default="x")) == (None, "x")
        assert (flags.is_enabled(unknown), flags.is_enabled(unknown, default=True)) == (False, True)
        assert (flags.payload(unknown), flags.payload(unknown, default=7)) == (None, 7)
    assert flags.snapshot("flag-1").get_flag("price") == "b"
    assert posthog.counts().flags_calls == 0
    assert remote_status(client) == RemoteStatus()


@pytest.mark.parametrize("remote", ["never", "needed"])
def test_a_flag_keeps_its_value(client: Posthog, posthog: StandInControl, remote: Any) -> None:  # noqa: ANN401
    """A flag keeps its value for the request and for each user; only flags that are read are evaluated, and once."""
    user = "user"
    flags = RequestFlags(client, lambda: user, remote=remote)
    assert flags.get("price") == "b"
    posthog.serve(_definitions(price="c"))
    _load(client)
    evaluated = _count_evaluations(client)
    assert [flags.get("price") for _ in range(3)] == ["b"] * 3
    assert flags.payload("price") == {"amount": 9}
    assert evaluated == []
    user = "another"
    assert [flags.get("price") for _ in range(3)] == ["c"] * 3
    assert evaluated == [("price", "another")]
    user = "user"
    assert flags.get("price") == "b"
    assert RequestFlags(client, "user").get("price") == "c"


def _count_evaluations(client: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - an attribute is put on it
    evaluated: list[tuple[str, str]] = []
    own = client.get_feature_flag_result

    def counted(key: str, distinct_id: str, **options: object) -> object:
        evaluated.append((key, distinct_id))
        return own(key, distinct_id, **options)

    client.get_feature_flag_result = counted
    return evaluated


def test_without_a_user_there_are_no_values(client: Posthog, sent: list[dict[str, Any]]) -> None:
    """No events are sent either. If the application gives no id, the SDK's context does."""
    flags = RequestFlags(client, lambda: None)
    assert (flags.get("price"), flags.is_enabled("price", default=True), flags.payload("price")) == (None, True, None)
    assert flags.snapshot("price").keys == []
    with new_context():
        identify_context("of-the-context")
        assert (flags.get("price"), RequestFlags(client).get("price")) == ("b", "b")
        assert RequestFlags(client, "given").get("price") == "b"
    assert {event["distinct_id"] for event in sent} == {"of-the-context", "given"}


@pytest.mark.parametrize("remote", ["never", "needed"])
@pytest.mark.parametrize("key", ["price", "off", "flag-0", "flag-3", "sticky-0", "no-such-flag"])
def test_events_are_the_sdks(key: str, remote: Any, posthog: StandInControl, sent: list[dict[str, Any]]) -> None:  # noqa: ANN401
    """Events are the same, and as many, as if the application had asked the SDK; none for a payload."""
    posthog.serve(_definitions())
    options: dict[str, Any] = {
        "groups": {"company": "acme"},
        "person_properties": {"plan": "scale", "email": "a@team-1.example"},
        "group_properties": {"company": {"size": 3}},
        "device_id": "device",
    }
    plain, ours = _client(posthog, sent), _client(posthog, sent)
    _load(plain)
    locally = remote == "never" or key == "no-such-flag"
    expected = plain.get_feature_flag_result(key, "user", only_evaluate_locally=locally, **options)
    of_the_sdk = _summaries(sent)
    flags = RequestFlags(ours, "user", remote=remote, **options)
    payload = flags.payload(key)
    assert sent == []
    value = [flags.get(key), flags.get(key)][1]
    flags.payload(key)
    assert _summaries(sent) == of_the_sdk
    assert (value, payload) == ((None, None) if expected is None else (expected.get_value(), expected.payload))
    plain.shutdown()
    ours.shutdown()


def test_a_snapshot_goes_with_a_capture(client: Posthog, sent: list[dict[str, Any]]) -> None:
    """A snapshot has the flags that were read and those that are named, and no others; making it sends nothing."""
    flags = RequestFlags(client, "user")
    assert flags.snapshot().keys == []
    flags.get("price")
    flags.payload("flag-0")
    sent.clear()
    taken = flags.snapshot("off")
    assert sent == []
    client.capture("bought", distinct_id="user", flags=taken)
    properties = sent[0]["properties"]
    assert {name: value for name, value in properties.items() if name.startswith("$feature/")} == {
        "$feature/price": "b",
        "$feature/flag-0": True,
        "$feature/off": False,
    }
    assert flags.get("off") is False


# --- asking PostHog --------------------------------------------------------------------------------------------------


def test_posthog_is_asked_if_that_is_needed(client: Posthog, posthog: StandInControl) -> None:
    """PostHog is asked once for each flag that cannot be decided locally; a payload and a value are one request."""
    flags = RequestFlags(client, "user", remote="needed")
    for key in ("price", "off", "flag-0", "no-such-flag"):
        flags.get(key)
        flags.payload(key)
    assert posthog.counts().flags_calls == 0
    for _ in range(2):
        assert (flags.get("sticky-0"), flags.payload("sticky-0")) == ("s", "sticky-0")
        assert (flags.payload("sticky-1"), flags.get("sticky-1")) == ("sticky-1", "s")
    assert posthog.counts().flags_calls == 2
    assert remote_status(client) == RemoteStatus(requests=2)


def test_a_snapshot_first_is_one_request(client: Posthog, posthog: StandInControl, sent: list[dict[str, Any]]) -> None:
    """A first snapshot is one request for all flags that it names; reads use its values, with the SDK's event."""
    flags = RequestFlags(client, "user", remote="needed")
    taken = flags.snapshot("price", "no-such-flag", *STICKY)
    assert sent == []
    assert set(taken.keys) == {"price", *STICKY}
    assert flags.payload("sticky-0") == "sticky-0"
    assert sent == []
    assert [flags.get(key) for key in ("price", *STICKY)] == ["b", "s", "s", "s"]
    assert flags.payload("sticky-1") == "sticky-1"
    assert posthog.counts().flags_calls == 1
    assert [event["properties"]["$feature_flag"] for event in sent] == ["price", *STICKY]


def test_a_cold_client_loads_first(posthog: StandInControl, sent: list[dict[str, Any]]) -> None:
    """A cold client loads once, and then knows which flags exist. If the load fails, it tries once at each read."""
    posthog.serve(_definitions())
    cold = _client(posthog, sent)
    assert RequestFlags(cold, "user", remote="needed").get("sticky-0") == "s"
    assert (posthog.counts().requests, posthog.counts().flags_calls) == (1, 1)
    cold.shutdown()
    posthog.fail(Drop())
    failing = _client(posthog, sent)
    flags = RequestFlags(failing, "user", remote="needed")
    assert (flags.get("sticky-0"), flags.get("sticky-0")) == (None, None)
    assert (posthog.counts().requests, posthog.counts().flags_calls) == (2, 1)
    failing.shutdown()


def test_never_on_an_event_loop(client: Posthog, posthog: StandInControl) -> None:
    """A request would block the event loop; on another thread there may be one."""

    async def view() -> list[object]:
        flags = RequestFlags(client, "user", remote="needed")
        here = [flags.get("sticky-0"), flags.payload("sticky-1"), flags.snapshot("sticky-2").get_flag("sticky-2")]
        return [*here, await asyncio.to_thread(RequestFlags(client, "user", remote="needed").get, "sticky-0")]

    assert asyncio.run(view()) == [None, None, None, "s"]
    assert posthog.counts().flags_calls == 1
    assert remote_status(client) == RemoteStatus(requests=1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow is what takes a fifth of a second, and a pause is short."""
    monkeypatch.setattr(_remote_calls, "SLOW", 0.2)
    monkeypatch.setattr(_user_flags, "SLOW", 0.2)
    monkeypatch.setattr(_remote_calls, "PAUSE", 0.5)


def _refuses(posthog: StandInControl) -> None:
    posthog.fail(Drop(), path="flags")


def _is_slow(posthog: StandInControl) -> None:
    posthog.set_delay(0.25, path="flags")


@pytest.mark.parametrize(("trouble", "failed", "slow"), [(_refuses, 3, 0), (_is_slow, 0, 3)])
@pytest.mark.usefixtures("quick")
def test_requests_pause_while_posthog_is_in_trouble(
    trouble: Callable[[StandInControl], None],
    failed: int,
    slow: int,
    client: Posthog,
    posthog: StandInControl,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After three that failed or were slow none is made, and no request of the application waits for a probe.

    When PostHog is well again, one probe finds that out.
    """
    trouble(posthog)
    values = [RequestFlags(client, f"user-{number}", remote="needed").get("sticky-0") for number in range(5)]
    assert values == [*([None] * 3 if failed else ["s"] * 3), None, None]
    assert remote_status(client) == RemoteStatus(requests=3, failed=failed, slow=slow, skipped=2, paused=True)
    posthog.recover()
    posthog.set_delay(0, path="flags")

    asked_by = _note_probes(client)
    until(lambda: RequestFlags(client, "user", remote="needed").get("sticky-0") == "s")
    assert asked_by == ["flagcache-probe"]
    assert (remote_status(client).requests, remote_status(client).paused) == (5, False)
    lines = [record.getMessage() for record in caplog.records if record.name == "flagcache"]
    assert ["failed or took over" in line for line in lines] == [True, False]
    assert "again" in lines[1]


def _note_probes(client: Any) -> list[str]:  # noqa: ANN401 - an attribute is put on it
    """The names of the threads that ask PostHog and use nothing of its answer."""
    asked_by: list[str] = []
    own = client.get_flags_decision

    def noted(*args: object, **options: object) -> object:
        asked_by.append(threading.current_thread().name)
        return own(*args, **options)

    client.get_flags_decision = noted
    return asked_by


def test_a_request_that_hangs_ends_in_the_default(posthog: StandInControl, sent: list[dict[str, Any]]) -> None:
    """A slow request ends with the client's timeout and counts as failed; local decisions continue."""
    posthog.serve(_definitions())
    hasty = _client(posthog, sent, feature_flags_request_timeout_seconds=1)
    _load(hasty)
    posthog.fail(Hang(), path="flags")
    flags, began = RequestFlags(hasty, "user", remote="needed"), time.monotonic()
    assert (flags.get("sticky-0", default="x"), flags.is_enabled("price")) == ("x", True)
    assert time.monotonic() - began < 3.0
    assert remote_status(hasty) == RemoteStatus(requests=1, failed=1)
    posthog.recover()
    hasty.shutdown()


@pytest.mark.usefixtures("quick")
def test_snapshots_pause_too(client: Posthog, posthog: StandInControl) -> None:
    """Snapshots pause too, and then have what can be decided locally."""
    posthog.fail(Drop(), path="flags")
    taken = [RequestFlags(client, "user", remote="needed").snapshot("price", "sticky-0") for _ in range(4)]
    assert [each.keys for each in taken] == [["price"]] * 4
    assert remote_status(client)[:4] == (3, 3, 0, 1)


@pytest.mark.usefixtures("quick")
def test_the_sdks_own_cache_answers_when_posthog_does_not(posthog: StandInControl, sent: list[dict[str, Any]]) -> None:
    """`flag_fallback_cache_url` answers as with the SDK alone."""
    posthog.serve(_definitions())
    cached = _client(posthog, sent, flag_fallback_cache_url="memory://local/?ttl=300")
    assert RequestFlags(cached, "user", remote="needed").get("sticky-0") == "s"
    posthog.fail(Drop(), path="flags")
    assert RequestFlags(cached, "user", remote="needed").get("sticky-0") == "s"
    assert RequestFlags(cached, "another", remote="needed").get("sticky-0") is None
    cached.shutdown()


def test_overrides_reach_it(client: Posthog, posthog: StandInControl) -> None:
    """With and without remote evaluation, also flags that PostHog has no definition of."""
    with override_flags({"sticky-0": "x", "new": True}, payloads={"sticky-0": 7}):
        for remote in ("never", "needed"):
            flags = RequestFlags(client, "user", remote=cast("Any", remote))
            assert (flags.get("sticky-0"), flags.payload("sticky-0"), flags.is_enabled("new")) == ("x", 7, True)
            assert set(flags.snapshot("new").keys) == {"sticky-0", "new"}
    with pytest.raises(UnknownFlagError), override_flags({}):
        RequestFlags(client, "user", remote="needed").get("price")
    assert posthog.counts().flags_calls == 0


def test_an_override_leaves_no_trace(client: Posthog, posthog: StandInControl, sent: list[dict[str, Any]]) -> None:
    """Flags that it allows and does not know read as their defaults, and count as no request that failed."""
    with override_flags({"price": "x"}, allow_unknown=True):
        for number in range(4):
            flags = RequestFlags(client, f"user-{number}", remote="needed")
            assert [flags.get(key) for key in ("price", *STICKY)] == ["x", None, None, None]
            assert flags.payload("sticky-0", default=7) == 7
            assert flags.snapshot(*STICKY).keys == ["price"]
    assert (remote_status(client), posthog.counts().flags_calls, sent) == (RemoteStatus(), 0, [])
    assert RequestFlags(client, "user", remote="needed").get("sticky-0") == "s"


def test_groups_and_properties_may_wait(client: Posthog, posthog: StandInControl) -> None:
    """Functions are called when a user's first flag is read, once for each user."""
    served, team = _definitions(), make_flag("team")
    team["filters"]["groups"][0]["properties"] = [
        {"key": "plan", "value": ["team"], "operator": "exact", "type": "person"}
    ]
    served["flags"].append(team)
    posthog.serve(served)
    _load(client)
    asked: list[str] = []
    user = "a"

    def properties() -> dict[str, object]:
        asked.append(user)
        return {"plan": "team" if user == "a" else "free"}

    flags = RequestFlags(client, lambda: user, person_properties=properties, groups=lambda: {"company": "acme"})
    assert asked == []
    assert [flags.get("team"), flags.get("team"), flags.get("price")] == [True, True, "b"]
    user = "b"
    assert flags.get("team") is False
    assert asked == ["a", "b"]
    assert RequestFlags(client, "a", person_properties=lambda: None).get("team") is None


def test_a_mistake_is_refused(client: Posthog) -> None:
    """A mistake raises at once."""
    with pytest.raises(ConfigurationError, match="'never' or 'needed', not 'always'"):
        RequestFlags(client, "user", remote=cast("Any", "always"))
    with pytest.raises(ConfigurationError, match=r"not of 'module'; the client of the module `posthog` is what"):
        RequestFlags(cast("Any", posthog_module), "user")
