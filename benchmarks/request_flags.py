"""The cost of three flags of a request, read by `RequestFlags` and by the SDK's own local evaluations, in turns.

    python -m benchmarks.request_flags            2,000 definitions, 500 turns

Prints the median of the ratios of the turns, because a machine that is slow for a while slows both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Literal

from posthog import Posthog

from flagcache_posthog.request_flags import RequestFlags
from flagcache_posthog.testing import PostHogStandIn, make_definitions

__all__ = ["main", "ratio"]

_KEYS = ("flag-0", "flag-1", "flag-2")


def ratio(client: Posthog, remote: Literal["never", "needed"], turns: int) -> float:
    """Return the median ratio of `RequestFlags` to the SDK alone, by the thread's processor time.

    Args:
        client: a client that has loaded its definitions.
        remote: as in `RequestFlags`.
        turns: how often to measure each.
    """

    def of_the_sdk() -> None:
        for key in _KEYS:
            client.get_feature_flag_result(key, "user", only_evaluate_locally=True)

    def ours() -> None:
        flags = RequestFlags(client, "user", remote=remote)
        for key in _KEYS:
            flags.get(key)

    times = [(_seconds(of_the_sdk), _seconds(ours)) for _ in range(turns)]
    return statistics.median(mine / theirs for theirs, mine in times)


def _seconds(call: Callable[[], None]) -> float:
    began = time.thread_time()
    call()
    return time.thread_time() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both ratios."""
    parser = argparse.ArgumentParser(description="RequestFlags compared with the SDK's own evaluations.")
    parser.add_argument("--flags", type=int, default=2000, help="definitions")
    parser.add_argument("--turns", type=int, default=500, help="how often to measure each")
    options = parser.parse_args(arguments)
    with PostHogStandIn(make_definitions(options.flags)) as posthog:
        client = Posthog("phc_test", secret_key="phs_test", host=posthog.url, poll_interval=3600, send=False)
        client.load_feature_flags()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
        print(f"remote='never': {ratio(client, 'never', options.turns):.2f} times the SDK's own evaluations")
        print(f"remote='needed': {ratio(client, 'needed', options.turns):.2f} times")
        client.shutdown()


if __name__ == "__main__":
    main()
