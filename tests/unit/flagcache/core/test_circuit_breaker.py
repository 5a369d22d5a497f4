"""A failing store is not called for a while, and then called again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flagcache.core.circuit_breaker import CircuitBreaker


def test_a_store_without_trouble_may_always_be_asked() -> None:
    """The breaker is closed."""
    assert not CircuitBreaker().open
    assert CircuitBreaker().allows(0.0)


def test_after_a_failure_it_is_left_alone_for_a_moment() -> None:
    """The first pause is at most half a second; then one caller may probe."""
    breaker = CircuitBreaker().failed(100.0, longest=24, jitter=1.0)
    assert breaker.open
    assert not breaker.allows(100.49)
    assert breaker.allows(100.5)


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
