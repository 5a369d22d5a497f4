"""The settings of a Django project: what is accepted, what is refused and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import posthog as sdk
import pytest
from django.core.checks import Error, run_checks

from flagcache.errors import ConfigurationError
from flagcache_posthog._base import config_of
from flagcache_posthog.django import cache, client, olposthog
from flagcache_posthog.django._defaults import use_defaults_from
from flagcache_posthog.django.middleware import FlagsMiddleware
from flagcache_posthog.django.project import prepare
from tests.django.conftest import Configure


def _found() -> dict[str, str]:
    """The system checks' messages, with their hints, by their ids."""
    return {str(each.id): f"{each.msg} {each.hint or ''}" for each in run_checks(tags=["flagcache"])}


def on_event(event: object) -> None:
    """A setting by its dotted path."""


def test_what_works_is_not_refused(configure: Configure) -> None:
    """Valid settings of every kind are accepted."""
    configure(
        flagcache={
            "REFRESH_INTERVAL": 5,
            "ON_EVENT": f"{__name__}.on_event",
            "CLIENT": {"feature_flags_request_timeout_seconds": 1, "flag_fallback_cache_url": "memory://local/?ttl=60"},
            "REMOTE": "needed",
            "IDENTIFY": f"{__name__}.on_event",
        },
        POSTHOG_MW_CAPTURE_EXCEPTIONS=False,
        POSTHOG_MAX_RETRIES=3,
        POSTHOG_OF_THE_PROJECT=1,
    )
    assert _found() == {}
    assert client().feature_flags_request_timeout_seconds == 1
    assert config_of(cache()).settings.refresh_interval == 5


def test_plain_settings(configure: Configure, flags: object, tmp_path: Path) -> None:
    """Each setting may be a plain one, also under its usual names; `FLAGCACHE` takes precedence."""
    plain = {
        "POSTHOG_STORE": f"sqlite:///{tmp_path / 'plain.db'}",
        "POSTHOG_NAMESPACE": "plain",
        "POSTHOG_PROJECT_API_KEY": "phc_plain",
        "POSTHOG_PERSONAL_API_KEY": "phs_plain",
        "POSTHOG_API_HOST": "https://plain.example",
    }
    absent = ("STORE", "NAMESPACE", "PROJECT_API_KEY", "SECRET_KEY", "HOST")
    configure(flagcache=dict.fromkeys(absent, ...), **plain)
    assert _found() == {}
    assert (client().api_key, client().personal_api_key, client().host) == (
        "phc_plain",
        "phs_plain",
        "https://plain.example",
    )
    assert "plain" in repr(cache())
    configure(**plain)
    assert client().api_key == "phc_test"


@pytest.mark.parametrize(
    ("flagcache", "plain", "code", "said"),
    [
        ({"REFRESH_INTERVALL": 5}, {}, "E001", "Did you mean REFRESH_INTERVAL?"),
        ({"refresh_interval": 5}, {}, "E001", "Did you mean REFRESH_INTERVAL?"),
        ({"XYZ": 5}, {}, "E001", "There are: AUTO_ATTACH"),
        ({}, {"POSTHOG_SECRT_KEY": "x"}, "E002", "Did you mean POSTHOG_SECRET_KEY?"),
        ({"STORE": ...}, {}, "E003", "FLAGCACHE has no STORE: the URL of a Redis"),
        ({"NAMESPACE": ...}, {}, "E003", "Set it, or POSTHOG_NAMESPACE."),
        ({"PROJECT_API_KEY": ""}, {}, "E003", "phc_..."),
        ({"HOST": ...}, {}, "E003", "https://eu.i.posthog.com"),
        ({"CLIENT": {"flush_a": 5}}, {}, "E004", "Did you mean flush_at?"),
        ({"CLIENT": {"secret_key": "x"}}, {}, "E004", "secret_key"),
        ({"HOST": "us.i.posthog.com"}, {}, "E005", "must begin with https:// or http://, not 'us.i.posthog.com'"),
        ({"PROJECT_API_KEY": "phs_x"}, {}, "E005", "PROJECT_API_KEY is a secret key of PostHog. Set it to the phc_..."),
        ({"PROJECT_API_KEY": "phx_x"}, {}, "E005", "PROJECT_API_KEY is a secret key of PostHog."),
        ({"SECRET_KEY": "phc_x"}, {}, "E005", "SECRET_KEY is a project API key of PostHog. Set it to the phs_... key"),
        ({"CLIENT": 7}, {}, "E005", "CLIENT must be a dictionary"),
        ({"REMOTE": "always"}, {}, "E005", "REMOTE is 'never' or 'needed', not 'always'"),
        ({"REFRESH_INTERVAL": -1}, {}, "E005", "refresh_interval must be from 0.01 to"),
        ({"STORE": "mysql://db"}, {}, "E005", "unknown scheme 'mysql'"),
        ({"STORE": "shop.nowhere"}, {}, "E005", "STORE: 'shop.nowhere' cannot be imported"),
        ({"ON_EVENT": "shop.nowhere"}, {}, "E005", "ON_EVENT: 'shop.nowhere' cannot be imported"),
        ({"IDENTIFY": "shop.nowhere"}, {}, "E005", "IDENTIFY: 'shop.nowhere' cannot be imported"),
        ({"GROUPS": 7}, {}, "E005", "GROUPS must be a function"),
        ({"SECRET_KEY": ""}, {}, "W001", "FLAGCACHE has no SECRET_KEY"),
    ],
)
def test_what_cannot_be_right_is_refused(
    configure: Configure, flagcache: dict[str, Any], plain: dict[str, Any], code: str, said: str
) -> None:
    """A system check refuses invalid settings with the remedy, and opens no connection."""
    configure(flagcache=flagcache, **plain)
    found = _found()
    assert list(found) == [f"flagcache.{code}"]
    assert said in found[f"flagcache.{code}"]
    assert "phs_test" not in str(found)


def test_flagcache_must_be_a_dictionary(configure: Configure) -> None:
    """`FLAGCACHE` must be a dictionary; if not, nothing else is checked."""
    configure()
    configure(FLAGCACHE="redis://")
    assert _found() == {"flagcache.E001": "FLAGCACHE must be a dictionary, not a str. "}


def test_a_moved_project_without_keys_starts_silently(configure: Configure, caplog: pytest.LogCaptureFixture) -> None:
    """With PostHog switched off the start is silent; `olposthog.configure()`, which runs later, checks the settings."""
    configure(flagcache={"PROJECT_API_KEY": ..., "HOST": ..., "SECRET_KEY": ...}, POSTHOG_ENABLED=False)
    caplog.clear()
    prepare()
    assert caplog.text == ""
    olposthog.configure()
    try:
        assert _found() == {}
        assert olposthog.is_enabled("new-checkout", default=True, opt_unique_id="7") is True
    finally:
        use_defaults_from(None)


def test_a_server_does_not_start_with_what_is_refused(configure: Configure, caplog: pytest.LogCaptureFixture) -> None:
    """A server runs no check, so the middleware raises the same message, which is also logged."""
    configure(flagcache={"NAMESPAC": "shop"})
    prepare()
    assert "Did you mean NAMESPACE?" in caplog.text
    with pytest.raises(ConfigurationError, match=r"FLAGCACHE\['NAMESPAC'\] is no setting.*Did you mean NAMESPACE"):
        FlagsMiddleware(lambda request: pytest.fail("it was called"))
    with pytest.raises(ConfigurationError):
        client()


def test_disabled(configure: Configure) -> None:
    """With `DISABLED` no other setting is needed, no client loads, and there may be no cache."""
    configure(FLAGCACHE={"DISABLED": True})
    assert [each for each in run_checks(tags=["flagcache"]) if isinstance(each, Error)] == []
    assert client().disabled
    assert sdk.capture("event", distinct_id="a") is None
    with pytest.raises(ConfigurationError, match="no STORE"):
        cache()


def test_the_client_is_the_sdks_global_one(configure: Configure, flags: object) -> None:
    """`client()` and the functions of the module `posthog` use the same client, whichever is called first."""
    configure()
    assert client() is sdk.setup() is client()
    configure()
    sdk.capture("event", distinct_id="a")
    assert sdk.default_client is client()
    assert client().api_key == "phc_test"


def test_a_global_client_that_knows_no_cache_is_refused(configure: Configure) -> None:
    """A global client without the cache is refused, because it would ask PostHog by itself."""
    configure()
    sdk.default_client = sdk.Posthog("phc_test", send=False)
    with pytest.raises(ConfigurationError, match="uses no cache"):
        client()
