"""A burst passes at once, then one token comes back each period."""

from __future__ import annotations

from flagcache.core.token_bucket import TokenBucket


def test_a_full_bucket_lets_a_burst_pass() -> None:
    """All its tokens are there at once, and the next one comes a period after the first was taken."""
    bucket, taken = TokenBucket(burst=3, period=10.0), 0
    for _ in range(10):
        if bucket.ready_at <= 100.0:
            bucket, taken = bucket.taken(100.0), taken + 1
    assert taken == 3
    assert bucket.ready_at == 110.0


def test_in_the_long_run_one_passes_each_period() -> None:
    """However often someone asks."""
    bucket, taken = TokenBucket(burst=3, period=10.0), 0
    for tenth in range(10_000):
        now = tenth / 10
        if bucket.ready_at <= now:
            bucket, taken = bucket.taken(now), taken + 1
    assert taken == 3 + 99


def test_a_bucket_that_is_left_alone_fills_up_and_no_further() -> None:
    """After a long pause there is one burst, not one for each period of the pause."""
    bucket = TokenBucket(burst=2, period=10.0).taken(0.0).taken(0.0)
    for _ in range(2):
        assert bucket.ready_at <= 1000.0
        bucket = bucket.taken(1000.0)
    assert bucket.ready_at == 1010.0
