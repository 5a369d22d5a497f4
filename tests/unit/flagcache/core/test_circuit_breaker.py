"""A failing store is not called for a while, and then called again."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagcache.core.circuit_breaker import CircuitBreaker, in_charge, longest_pause


def test_a_store_without_trouble_may_always_be_asked() -> None:
    """The breaker is closed."""
    breaker = CircuitBreaker()
    assert not breaker.open
    assert breaker.probe_at == math.inf
    assert breaker.admitted(0.0, longest=24) == breaker


def test_after_a_failure_it_is_left_alone_for_a_moment() -> None:
    """The first pause is at most half a second; then one caller may probe."""
    breaker = CircuitBreaker().failed(100.0, longest=24, jitter=1.0)
    assert breaker.open
    assert breaker.probe_at == 100.5
    assert breaker.admitted(100.49, longest=24) is None
    assert breaker.admitted(100.5, longest=24) is not None


def test_only_one_caller_probes() -> None:
    """Until it reports, no other caller does, for at most the longest pause."""
    probing = CircuitBreaker().failed(100.0, longest=24, jitter=1.0).admitted(101.0, longest=24)
    assert probing is not None
    assert probing.open
    assert probing.admitted(124.9, longest=24) is None
    assert probing.admitted(125.0, longest=24) is not None


@pytest.mark.parametrize(("failed", "coordinates"), [("", 0), ("0", 1), ("1", 0), ("01", 2), ("02", 1), ("012", 2)])
def test_the_first_store_that_answers_coordinates(failed: str, coordinates: int) -> None:
    """If none does, it is the last, which is the process's own memory."""
    after_failure = CircuitBreaker().failed(100.0, longest=24, jitter=1.0)
    breakers = [after_failure if str(i) in failed else CircuitBreaker() for i in range(3)]
    assert in_charge(breakers) == coordinates


def test_a_failed_store_is_probed_with_each_poll() -> None:
    """So the longest pause is shorter than a poll interval."""
    assert longest_pause(30.0) == 24.0


def test_each_failure_doubles_the_pause() -> None:
    """Each failure doubles the pause, up to the longest."""
    breaker, pauses = CircuitBreaker(), []
    for _ in range(9):
        breaker = breaker.failed(100.0, longest=24, jitter=1.0)
        pauses.append(breaker.retry_at - 100.0)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 24, 24, 24]


def test_jitter_spreads_the_probes() -> None:
    """Over half of the pause, so that a fleet does not probe in step."""
    assert CircuitBreaker().failed(0.0, longest=24, jitter=0.0).retry_at == 0.25
    assert CircuitBreaker().failed(0.0, longest=24, jitter=1.0).retry_at == 0.5


@given(failures=st.integers(0, 10**6), longest=st.floats(0.01, 1e6), jitter=st.floats(0, 1))
def test_a_probe_is_always_due_in_time(failures: int, longest: float, jitter: float) -> None:
    """A store is probed within the longest pause, however many failures there were."""
    breaker = CircuitBreaker(failures).failed(0.0, longest=longest, jitter=jitter)
    assert 0 < breaker.retry_at <= longest
