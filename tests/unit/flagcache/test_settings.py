"""Settings are validated once, and a wrong one is named with its range."""

from __future__ import annotations

import dataclasses
import math
from typing import get_type_hints

import pytest

from flagcache.errors import ConfigurationError, FlagcacheError
from flagcache.settings import DAY, SLOW_FETCH, Options, Settings, check_namespace, milliseconds

SECONDS = ("refresh_interval", "poll_interval", "cold_start_wait", "lease", "challenge_after", "stale_after")
FOLLOWS = (*SECONDS[1:], "first_load_max_age", "fetch_total_timeout", "backoff_ceiling", "forget_after")
"""Those whose default follows from others."""


def make(name: str, value: object) -> Settings:
    """Set one of them, wrong types too."""
    return Settings(**{name: value})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # on purpose


@pytest.mark.parametrize("name", [*SECONDS, "store_timeout", "forget_after"])
@pytest.mark.parametrize(
    "value", [-1, -0.0001, 0.009, math.nan, math.inf, -math.inf, 31 * DAY, True, False, "30", "", [30], 30j]
)
def test_what_is_no_length_of_time_is_refused(name: str, value: object) -> None:
    """The error names setting and value, and for numbers the range, for others what is expected."""
    with pytest.raises(ConfigurationError) as caught:
        make(name, value)
    message = str(caught.value)
    assert name in message
    assert repr(value) in message
    number = isinstance(value, int | float) and not isinstance(value, bool)
    assert ("from 0.01 to 2592000 seconds" if number else "a number of seconds") in message


@pytest.mark.parametrize("name", ["refresh_interval", "fetch_timeout", "store_timeout"])
def test_zero_is_refused_where_it_means_nothing(name: str) -> None:
    """An interval, a wait and a timeout have a length."""
    with pytest.raises(ConfigurationError, match=f"{name} must be from 0.01"):
        make(name, 0)


@pytest.mark.parametrize("name", ["refresh_interval", "fetch_timeout", "store_timeout"])
def test_none_is_refused_where_nothing_follows(name: str) -> None:
    """These have a value of their own."""
    with pytest.raises(ConfigurationError, match=f"{name} must be a number of seconds, not None"):
        make(name, None)


@pytest.mark.parametrize(
    ("name", "said"),
    [*((name, None) for name in FOLLOWS), *((name, 0) for name in FOLLOWS if name != "cold_start_wait")],
)
def test_none_takes_the_default_and_so_does_zero(name: str, said: float | None) -> None:
    """None means the value that follows from other settings. So does zero, except for the wait that may be none."""
    assert make(name, said) == Settings()


def test_no_wait_is_no_wait() -> None:
    """With `cold_start_wait=0` a leader that dies in its first fetch is still followed as by default."""
    settings = Settings(cold_start_wait=0)
    assert settings.cold_start_wait == 0
    assert settings.cold_lease == Settings().cold_lease


@pytest.mark.parametrize("name", [*SECONDS, "store_timeout"])
@pytest.mark.parametrize("value", [0.01, 1, 12.5, 30 * DAY])
def test_what_is_in_range_is_kept(name: str, value: float) -> None:
    """The ends of the range included, whole numbers and fractions."""
    assert getattr(make(name, value), name) == value


@pytest.mark.parametrize(("silence", "total"), [(10.0, 60.0), (60.0, 60.0), (120.0, 120.0)])
def test_a_whole_fetch_has_a_minute_unless_a_silence_may_be_longer(silence: float, total: float) -> None:
    """By default `fetch_total_timeout` is sixty seconds, and never below `fetch_timeout`."""
    assert Settings(fetch_timeout=silence).fetch_total_timeout == total
    assert Settings(fetch_timeout=silence, fetch_total_timeout=0).fetch_total_timeout == total


def test_a_whole_fetch_is_not_shorter_than_a_silence_in_it() -> None:
    """The two may be the same; a shorter total is refused, and the error names both."""
    assert Settings(fetch_timeout=10, fetch_total_timeout=10).fetch_total_timeout == 10
    with pytest.raises(ConfigurationError, match=r"fetch_total_timeout .* fetch_timeout \(10 seconds\), and is 9.9"):
        Settings(fetch_timeout=10, fetch_total_timeout=9.9)
    with pytest.raises(ConfigurationError, match=r"fetch_total_timeout must be from 0\.01"):
        Settings(fetch_timeout=0.01, fetch_total_timeout=-1)


@pytest.mark.parametrize("value", [1023, 0, -1, 2**32, True, 2048.0, "2048", None])
def test_a_size_is_a_whole_number_in_range(value: object) -> None:
    """`max_decoded_bytes` is named with its value."""
    with pytest.raises(ConfigurationError, match="max_decoded_bytes must be") as caught:
        make("max_decoded_bytes", value)
    assert repr(value) in str(caught.value)


def test_sizes_in_range_are_kept() -> None:
    """Both ends included."""
    assert Settings(max_decoded_bytes=1024).max_decoded_bytes == 1024
    assert Settings(max_decoded_bytes=2**32 - 1).max_decoded_bytes == 2**32 - 1


def test_the_defaults_follow_from_the_refresh_interval() -> None:
    """A lease is renewed in the background or at each poll; if by neither, it outlives a poll and a slow fetch."""
    settings = Settings(refresh_interval=20)
    assert settings.polls_every() == 20
    assert settings.lease_for() == 20 + SLOW_FETCH
    assert settings.lease_for(known=30.0) == 60
    assert settings.lease_for(known=30.0, listening=True) == 45
    assert settings.backoff_ceiling == 20
    assert settings.challenge_after == 200
    assert settings.stale_for(known=30.0, listening=True) == 100
    assert settings.stale_for(known=30.0) == 200 + 2 * 30
    assert settings.stale_for() == 200 + 2 * 20
    assert Settings(refresh_interval=20, stale_after=7).stale_for() == 7
    assert (settings.cold_start_wait, settings.store_timeout) == (10, 1)
    assert settings.max_decoded_bytes == 16 * 1024 * 1024
    assert Settings().refresh_interval == 30


def test_the_default_lease_follows_from_the_poll_interval() -> None:
    """It is renewed by polls, and so must outlive the time between two of them."""
    assert Settings(poll_interval=300).lease_for() == 330


def test_with_attached_clients_the_lease_can_be_short() -> None:
    """It is renewed in the background, and lasts for one and a half of their polls, unless the user says otherwise."""
    assert Settings().lease_for(2.0, listening=True) == 3.0
    assert Settings(poll_interval=4).lease_for(2.0, listening=True) == 6.0
    assert Settings(lease=7).lease_for(2.0) == Settings(lease=7).lease_for() == 7


def test_the_quota_setting_is_one_of_two() -> None:
    """Any other value fails at once."""
    with pytest.raises(ConfigurationError, match="on_quota_limited"):
        Settings(on_quota_limited="empty")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # on purpose


def test_a_lease_on_an_empty_store_ends_within_half_of_the_wait() -> None:
    """So that a leader that dies in its first fetch is followed by another in time."""
    assert 0 < Settings(cold_start_wait=10).cold_lease < 5


def test_settings_cannot_be_changed() -> None:
    """They are a value."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().lease = 1.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  # on purpose


def test_the_options_are_the_settings() -> None:
    """A cache's keywords are the settings, with the same types."""
    settings = get_type_hints(Settings)
    options = get_type_hints(Options)
    keys = {"signing_key", "encryption_key"}  # no part of the settings, which are shown
    assert {name: kind for name, kind in options.items() if name not in keys} == {
        name: (kind | None if name in FOLLOWS else kind)
        for name, kind in settings.items()
        if name != "refresh_interval"
    }
    assert keys == options.keys() - settings.keys()


@pytest.mark.parametrize("seconds", [0.0001, 0.001, 0.9, 1, 30.0004, DAY])
def test_a_length_is_never_cut_to_nothing(seconds: float) -> None:
    """The one conversion rounds, and anything above zero is a millisecond at least."""
    assert milliseconds(seconds) == max(1, round(seconds * 1000)) > 0


@pytest.mark.parametrize("namespace", ["", " ", "\t\n", "x" * 201, None, 7, b"team", ["team"], "half\ud800"])
def test_what_is_no_namespace_is_refused(namespace: object) -> None:
    """A namespace that is empty, blank, too long, no string or no valid Unicode is refused."""
    with pytest.raises(ConfigurationError, match="namespace"):
        check_namespace(namespace)


@pytest.mark.parametrize("namespace", ["a", "my-team", "x" * 200, "ümläut", "{tag}:*?[]", "a b", "🎏"])
def test_any_other_string_is_a_namespace(namespace: str) -> None:
    """It is taken as it is."""
    assert check_namespace(namespace) == namespace


def test_a_configuration_error_is_a_value_error() -> None:
    """`except ValueError`, and `except FlagcacheError`, catch it."""
    with pytest.raises(ValueError, match="namespace"):
        check_namespace("")
    assert issubclass(ConfigurationError, FlagcacheError)


def test_a_reader_does_not_wait_unless_it_is_told_to() -> None:
    """A function's cold start is no time to wait for others; a worker waits ten seconds."""
    assert Settings().cold_start_wait == 10
    assert Settings(role="reader").cold_start_wait == 0
    assert Settings(role="reader", cold_start_wait=2).cold_start_wait == 2
    assert Settings(role="reader").reads_only
    assert not Settings().reads_only


@pytest.mark.parametrize("role", ["leader", "", None, 1, True])
def test_an_unknown_role_is_refused(role: object) -> None:
    """With what it may be."""
    with pytest.raises(ConfigurationError, match='role must be "worker" or "reader"'):
        make("role", role)
