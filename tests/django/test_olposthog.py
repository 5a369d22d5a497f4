"""The names and settings of mitol-django-olposthog on shared definitions: what its tests ask for, and its faults."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import posthog as sdk
import pytest
from django.conf import settings
from django.core.cache import caches
from django.test import override_settings

from flagcache.errors import ConfigurationError
from flagcache.status import State
from flagcache_posthog import _lifecycle, _remote_calls
from flagcache_posthog.django import olposthog, project
from flagcache_posthog.django._config import given
from flagcache_posthog.django._defaults import use_defaults_from
from flagcache_posthog.request_flags import remote_status
from flagcache_posthog.testing import Drop, StandInControl, UnknownFlagError, make_flag, override_flags
from tests.django.conftest import set_up_django
from tests.support.servers import until

Change: TypeAlias = Callable[..., None]

PUBLISHED = {
    "CIRCUIT_BREAKER_CACHE_KEY",
    "Features",
    "User",
    "configure",
    "default_unique_id",
    "durable_cache",
    "get_all_feature_flags",
    "is_enabled",
    "log",
}
"""The public names of `mitol.olposthog.features` 2026.4.2, without its imports."""

DEFAULTS = {
    "POSTHOG_API_HOST": "https://us.posthog.com",
    "POSTHOG_CIRCUIT_BREAKER_COOLDOWN_SECONDS": 60,
    "POSTHOG_CIRCUIT_BREAKER_TRIP_THRESHOLD_SECONDS": 6,
    "POSTHOG_ENABLED": False,
    "POSTHOG_FEATURE_FLAG_REQUEST_TIMEOUT_MS": 3000,
    "POSTHOG_MAX_RETRIES": 3,
    "POSTHOG_PERSONAL_API_KEY": "",
    "POSTHOG_POLL_INTERVAL": 300,
    "POSTHOG_PROJECT_API_KEY": "",
}
"""Of `mitol.olposthog.settings.olposthog` 2026.4.2."""

KEYLESS = {"POSTHOG_PERSONAL_API_KEY": ""}
_MODULE_OPTIONS = (
    *("api_key", "default_client", "disabled", "feature_flags_request_timeout_seconds", "host", "poll_interval"),
    *("flag_definition_cache_provider", "secret_key", "send"),
)


@pytest.fixture
def change(
    posthog: StandInControl, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Change]:
    """Sets settings for the rest of the test, with valid ones for all others, and configures as `ready()` does."""
    set_up_django()
    for name in _MODULE_OPTIONS:
        monkeypatch.setattr(sdk, name, getattr(sdk, name))
    monkeypatch.setattr(_lifecycle, "_client_factories", [])
    sticky = make_flag("sticky", variants={"s": 100})
    sticky["ensure_experience_continuity"] = True
    flags = [make_flag("on"), make_flag("off", active=False), make_flag("price", variants={"b": 100}), sticky]
    posthog.serve({"flags": flags, "group_type_mapping": {}, "cohorts": {}})
    works: dict[str, Any] = {
        "HOSTNAME": "web-1",
        "ENVIRONMENT": "prod",
        "FEATURES": {"in-settings": True, "sticky": "of the settings"},
        "CACHES": {
            name: {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": f"{namespace}-{name}"}
            for name in ("default", "durable")
        },
        "FLAGCACHE": {"STORE": f"sqlite:///{tmp_path / 'flags.db'}", "NAMESPACE": namespace},
        "POSTHOG_ENABLED": True,
        "POSTHOG_PROJECT_API_KEY": "phc_test",
        "POSTHOG_PERSONAL_API_KEY": "phx_test",
        "POSTHOG_API_HOST": posthog.url,
    }
    active: list[override_settings] = []

    def set_to(**more: object) -> None:
        active.append(override_settings(**{**(works if not active else {}), **more}))
        active[-1].enable()
        use_defaults_from(None)
        olposthog.configure()

    yield set_to
    client = sdk.default_client
    if client is not None:
        client.shutdown()
    use_defaults_from(None)
    while active:
        active.pop().disable()
    project.forget()


def _client() -> Any:  # noqa: ANN401 - the SDK's
    assert sdk.default_client is not None
    return sdk.default_client


# --- names and settings ----------------------------------------------------------------------------------------------


def test_every_published_name_is_there(change: Change) -> None:
    """Each name has its arguments; some need applications or a cache when they are first used."""
    change(INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"])
    assert all(hasattr(olposthog, name) for name in PUBLISHED)
    assert not hasattr(olposthog, "no_such_name")
    assert olposthog.durable_cache is caches["durable"]
    assert list(inspect.signature(olposthog.is_enabled).parameters) == ["name", "default", "opt_unique_id"]
    assert list(inspect.signature(olposthog.get_all_feature_flags).parameters) == ["opt_unique_id"]
    assert isinstance(olposthog.Features, type)
    assert olposthog.default_unique_id() == "web-1"


def test_the_nine_settings_and_their_defaults() -> None:
    """The settings and defaults are those of the published settings module."""
    assert olposthog.DEFAULTS == DEFAULTS


@pytest.mark.parametrize("key", ["phx_test", ""])
def test_settings_reach_the_client(change: Change, key: str) -> None:
    """The client has the settings, with or without definitions. It sends no events unless the project says so."""
    change(
        POSTHOG_PERSONAL_API_KEY=key,
        POSTHOG_FEATURE_FLAG_REQUEST_TIMEOUT_MS=1500,
        POSTHOG_MAX_RETRIES=7,
        POSTHOG_POLL_INTERVAL=120,
    )
    olposthog.is_enabled("on")
    client = _client()
    assert (client.api_key, client.personal_api_key or "") == ("phc_test", key)
    assert client.feature_flags_request_timeout_seconds == 1.5
    assert client.send is False
    if key:
        assert client.poll_interval == 120
        assert (given("REFRESH_INTERVAL"), project.cache().status().state) == (120, State.FRESH)
    change(POSTHOG_PERSONAL_API_KEY=key, FLAGCACHE={**settings.FLAGCACHE, "CLIENT": {"send": True}})
    olposthog.is_enabled("on")
    assert {consumer.retries for consumer in _client().consumers} == {7}


@pytest.mark.parametrize(
    "wrong",
    [
        {"POSTHOG_ENABLED": "False"},
        {"POSTHOG_POLL_INTERVAL": "300"},
        {"POSTHOG_FEATURE_FLAG_REQUEST_TIMEOUT_MS": -1},
        {"POSTHOG_CIRCUIT_BREAKER_COOLDOWN_SECONDS": None},
        {"ENVIRONMENT": None},
        {"FLAGCACHE": {}},
    ],
)
def test_a_setting_that_cannot_be_right_is_refused(change: Change, wrong: dict[str, Any]) -> None:
    """It is refused by name at the start. With a personal API key but no store, each process would fetch."""
    name = "STORE" if "FLAGCACHE" in wrong else next(iter(wrong))
    with pytest.raises(ConfigurationError, match=name):
        change(**wrong)


def test_switched_off_everything_is_of_the_settings(change: Change, posthog: StandInControl) -> None:
    """Switched off, all values come from the settings, whatever `durable` has; no store, key or request is needed."""
    change(**KEYLESS)
    assert olposthog.is_enabled("on")
    asked = posthog.counts().flags_calls
    without: dict[str, object] = {"FLAGCACHE": {}, "POSTHOG_PROJECT_API_KEY": ""}
    for less in (dict[str, object](), without):
        change(POSTHOG_ENABLED=False, **less)
        assert [olposthog.is_enabled(name) for name in ("on", "in-settings", "no-such")] == [False, True, False]
        assert olposthog.get_all_feature_flags() == {}
    assert posthog.counts().flags_calls == asked


def test_configure_makes_no_client_and_replaces_a_foreign_one(change: Change) -> None:
    """`configure` makes no client, because a preloading server runs it in the parent; an earlier client is dropped."""
    threads = threading.active_count()
    foreign = sdk.Posthog("phc_other", host="http://127.0.0.1:9", send=False)
    for options in ({}, KEYLESS):
        sdk.default_client = foreign
        change(**options)
        assert getattr(sdk, "default_client", foreign) is None
    assert threading.active_count() == threads
    assert olposthog.is_enabled("on")
    assert _client().api_key == "phc_test"


@pytest.mark.parametrize("key", ["phx_test", ""])
def test_the_module_makes_the_same_client(change: Change, key: str) -> None:
    """`posthog.capture` before the first flag makes the same client."""
    store = _flagcache() if key else {}
    change(POSTHOG_PERSONAL_API_KEY=key, POSTHOG_FEATURE_FLAG_REQUEST_TIMEOUT_MS=1500, FLAGCACHE=store)
    made = sdk.setup()
    assert olposthog.is_enabled("on")
    assert _client() is made
    assert (made.api_key, made.send, made.feature_flags_request_timeout_seconds) == ("phc_test", False, 1.5)


def test_settings_that_were_read_before_are_read_again(change: Change) -> None:
    """The Django application reads them in its own `ready()`, which may come first."""
    change()
    use_defaults_from(None)
    project.forget()
    assert project.config().client_options == {}
    olposthog.configure()
    assert olposthog.is_enabled("on")
    assert (_client().poll_interval, _client().send) == (300, False)


def test_without_a_personal_key_no_store_is_needed(change: Change, caplog: pytest.LogCaptureFixture) -> None:
    """Without a personal key no store is used, because there is nothing to share, and nothing is logged."""
    for store in ({}, _flagcache()):
        change(**KEYLESS, FLAGCACHE=store)
        if store:
            project.config()  # as the Django application does
            olposthog.configure()
        assert olposthog.is_enabled("on")
        assert sdk.flag_definition_cache_provider is None
    assert not [record for record in caplog.records if record.name.startswith("flagcache")]


def test_without_configure(change: Change) -> None:
    """Without `configure()` the first read configures."""
    change()
    use_defaults_from(None)
    assert olposthog.is_enabled("on")


# --- values ----------------------------------------------------------------------------------------------------------


def test_a_kill_switch_wins(change: Change, posthog: StandInControl) -> None:
    """A flag is off as soon as the definitions say so, even if `durable` has a value."""
    change(POSTHOG_POLL_INTERVAL=1)
    assert (olposthog.is_enabled("on"), olposthog.is_enabled("sticky")) == (True, "s")
    posthog.set_flag("on", active=False)
    posthog.set_flag("sticky", active=False)
    until(lambda: olposthog.is_enabled("sticky") is False)
    assert olposthog.is_enabled("on") is False
    assert olposthog.get_all_feature_flags() == {"on": False, "off": False, "price": "b", "sticky": False}


def test_all_flags_cost_one_request_while_durable_has_none(change: Change, posthog: StandInControl) -> None:
    """One request brings the flags that cannot be decided locally; then `is_enabled` has them too."""
    change()
    expected = {"on": True, "off": False, "price": "b", "sticky": "s"}
    assert [olposthog.get_all_feature_flags("user-7") for _ in range(3)] == [expected] * 3
    assert olposthog.is_enabled("sticky", opt_unique_id="user-7") == "s"
    assert posthog.counts().flags_calls == 1


def test_without_a_personal_key_all_flags_fill_durable(change: Change, posthog: StandInControl) -> None:
    """All flags fill `durable`, so single flags need no request until the cache's `TIMEOUT` is over."""
    change(**KEYLESS)
    expected = {"on": True, "off": False, "price": "b", "sticky": "s"}
    assert olposthog.get_all_feature_flags() == expected
    assert {key: olposthog.is_enabled(key) for key in expected} == expected
    assert posthog.counts().flags_calls == 1
    caches["durable"].clear()
    _client().load_feature_flags()  # only logs
    assert olposthog.is_enabled("on")
    assert posthog.counts().flags_calls == 2


def test_users_and_environments_are_apart(change: Change, posthog: StandInControl) -> None:
    """`durable` keeps users and environments apart."""
    change()
    for number, environment in enumerate(("prod", "rc"), 1):
        change(ENVIRONMENT=environment)
        for user in ("a", "b"):
            assert [olposthog.is_enabled("sticky", opt_unique_id=user) for _ in range(2)] == ["s", "s"]
        assert posthog.counts().flags_calls == 2 * number


@pytest.mark.parametrize("personal_key", ["phx_test", ""])
def test_durable_may_fail_or_be_missing(
    change: Change, posthog: StandInControl, caplog: pytest.LogCaptureFixture, personal_key: str
) -> None:
    """If `durable` fails, each read asks PostHog; one log line reports that, and one its end."""
    missing = {"default": settings.CACHES["default"]}
    broken = {**missing, "durable": {"BACKEND": f"{__name__}.Broken"}}
    works = {**missing, "durable": missing["default"]}
    for caches_now, failed, back, requests in ((missing, 0, 0, 2), (broken, 1, 0, 2), (works, 1, 1, 1)):
        change(CACHES=caches_now, POSTHOG_PERSONAL_API_KEY=personal_key)
        asked = posthog.counts().flags_calls
        assert [olposthog.is_enabled("sticky") for _ in range(2)] == ["s", "s"]
        assert posthog.counts().flags_calls == asked + requests
        lines = [record.getMessage() for record in caplog.records]
        assert sum("CACHES['durable'] failed" in line for line in lines) == failed
        assert sum("CACHES['durable'] works again" in line for line in lines) == back


class Broken:
    """A cache whose server is away."""

    def __init__(self, *_: object) -> None:
        pass

    def get_many(self, names: list[str]) -> dict[str, object]:
        """Fail."""
        raise ConnectionError("no server")

    def set_many(self, values: dict[str, object]) -> list[str]:
        """Fail."""
        raise ConnectionError("no server")

    def close(self, **_: object) -> None:
        """Django calls it when a request ends."""


def test_on_an_event_loop_posthog_is_not_asked(change: Change, posthog: StandInControl) -> None:
    """On an event loop neither PostHog nor a database is used; flags that are decided locally are read."""
    change()

    async def view() -> list[object]:
        everything = olposthog.get_all_feature_flags()
        return [olposthog.is_enabled("on"), olposthog.is_enabled("sticky"), everything]

    olposthog.is_enabled("on")  # a load would block the loop
    assert asyncio.run(view()) == [True, "of the settings", {"on": True, "off": False, "price": "b"}]
    change(**KEYLESS)
    assert asyncio.run(view()) == [False, "of the settings", {}]
    assert posthog.counts().flags_calls == 0


@pytest.mark.parametrize("personal_key", ["phx_test", ""])
def test_overridden_flags(change: Change, personal_key: str) -> None:
    """`override_flags` takes precedence over `durable`, and leaves nothing in it."""
    change(POSTHOG_PERSONAL_API_KEY=personal_key)
    for _ in range(2):
        assert olposthog.is_enabled("sticky") == "s"
        with override_flags({"sticky": False, "new": "x"}):
            assert (olposthog.is_enabled("sticky"), olposthog.is_enabled("new")) == (False, "x")
            assert olposthog.get_all_feature_flags() == {"sticky": False, "new": "x"}
        with pytest.raises(UnknownFlagError), override_flags({"sticky": False}):
            olposthog.is_enabled("another")
        assert olposthog.is_enabled("new") is False


def test_events_are_sent_once_if_the_project_wants_them(change: Change) -> None:
    """The SDK's events are sent once, for flags that are decided locally and for PostHog's answers."""
    received: list[tuple[str, object]] = []

    def keep(event: dict[str, Any]) -> None:
        received.append((event["properties"]["$feature_flag"], event["properties"]["$feature_flag_response"]))

    change(FLAGCACHE={**_flagcache(), "CLIENT": {"send": True, "before_send": keep}})
    for _ in range(2):
        for key in ("on", "price", "sticky"):
            olposthog.is_enabled(key)
    assert received == [("on", True), ("price", "b"), ("sticky", "s")]


def _flagcache() -> dict[str, object]:
    return {"STORE": "memory://", "NAMESPACE": "of-this-test"}


# --- the breaker -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("personal_key", ["phx_test", ""])
def test_one_slow_answer_pauses_requests(change: Change, posthog: StandInControl, personal_key: str) -> None:
    """An answer slower than `POSTHOG_CIRCUIT_BREAKER_TRIP_THRESHOLD_SECONDS` is used; later reads do not wait."""
    change(POSTHOG_PERSONAL_API_KEY=personal_key, POSTHOG_CIRCUIT_BREAKER_TRIP_THRESHOLD_SECONDS=0.2)
    posthog.set_delay(0.25, path="flags")
    assert [olposthog.is_enabled("sticky", opt_unique_id=user) for user in "abb"] == ["s", *["of the settings"] * 2]
    assert olposthog.is_enabled("sticky", opt_unique_id="a") == "s"
    assert posthog.counts().flags_calls == 1
    assert remote_status(_client()).paused
    assert olposthog.is_enabled("on") is bool(personal_key)


@pytest.mark.parametrize("personal_key", ["phx_test", ""])
def test_errors_pause_requests_too(change: Change, posthog: StandInControl, personal_key: str) -> None:
    """Three errors in a row pause requests, however fast. Before, only slow ones did, and each read waited."""
    change(POSTHOG_PERSONAL_API_KEY=personal_key)
    posthog.fail(Drop(), path="flags")
    assert [olposthog.is_enabled("sticky", opt_unique_id=user) for user in "abcdef"] == ["of the settings"] * 6
    status = remote_status(_client())
    assert (status.requests, status.failed, status.skipped, status.paused) == (3, 3, 3, True)
    assert olposthog.get_all_feature_flags() == ({"on": True, "off": False, "price": "b"} if personal_key else {})


def test_a_slow_load_of_definitions_pauses_nothing(change: Change, posthog: StandInControl) -> None:
    """A slow load of definitions pauses no requests; before, it did."""
    change(POSTHOG_CIRCUIT_BREAKER_TRIP_THRESHOLD_SECONDS=0.2)
    posthog.set_delay(0.3)
    assert olposthog.is_enabled("on")
    assert olposthog.is_enabled("sticky") == "s"
    assert not remote_status(_client()).paused


@pytest.mark.parametrize("personal_key", ["phx_test", ""])
def test_after_the_cooldown_one_probe_decides(
    change: Change, posthog: StandInControl, monkeypatch: pytest.MonkeyPatch, personal_key: str
) -> None:
    """The probe runs on its own thread while reads continue; before, every process asked again at once."""
    now = [100.0]
    change(POSTHOG_PERSONAL_API_KEY=personal_key, POSTHOG_CIRCUIT_BREAKER_COOLDOWN_SECONDS=60)
    assert olposthog.is_enabled("sticky") == "s"
    monkeypatch.setattr(_remote_calls.calls_of(_client()), "_clock", lambda: now[0])
    posthog.fail(Drop(), path="flags")
    for user in "abc":
        olposthog.is_enabled("sticky", opt_unique_id=user)
    posthog.recover()
    now[0] += 59
    asked = posthog.counts().flags_calls
    assert olposthog.is_enabled("sticky", opt_unique_id="d") == "of the settings"
    assert posthog.counts().flags_calls == asked
    now[0] += 17  # a pause is up to a quarter longer, so that processes don't ask in step
    assert olposthog.is_enabled("sticky", opt_unique_id="d") == "of the settings"
    until(lambda: not remote_status(_client()).paused)
    assert posthog.counts().flags_calls == asked + 1
    assert olposthog.is_enabled("sticky", opt_unique_id="d") == "s"
