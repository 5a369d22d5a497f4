"""How long a provider waits for the first definitions of its fleet."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from flagcache_posthog.testing.standin import PostHogStandIn

from .access import Direct, evaluate, load, sdk, until
from .cases import Cases, MakeProvider

__all__ = ["WaitingCases"]


@contextmanager
def _asking(provider: Direct) -> Generator[None, None, None]:
    """Let one thread after the other ask the provider, as in a busy process. None delivers anything."""
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.01):
            thread = threading.Thread(target=provider.should_fetch)
            thread.start()
            thread.join()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        done.set()
        asking.join()


class WaitingCases(Cases):
    """A provider on an empty store, while another's fetch hangs."""

    def test_waits_are_bounded(self, make_impatient: MakeProvider, namespace: str) -> None:
        """While another provider's first fetch hangs, asking and reading return in time."""
        writer, reader = (Direct(make_impatient(namespace)) for _ in range(2))
        assert writer.should_fetch() is True
        with _asking(writer):  # so that it remains the one that fetches
            began = time.monotonic()
            reader.should_fetch()
            asked = time.monotonic()
            reader.get()
            assert asked - began < self.longest_wait
            assert time.monotonic() - asked < self.longest_wait
        writer.close()
        reader.close()

    def test_a_client_waits_no_longer_than_it_must(
        self, make_impatient: MakeProvider, namespace: str, standin: PostHogStandIn
    ) -> None:
        """While the first client's fetch hangs, the second one's poll returns in time; afterwards both have flags."""
        standin.hold(times=1)
        with sdk(standin, make_impatient(namespace)) as first, sdk(standin, make_impatient(namespace)) as second:
            fetching = threading.Thread(target=load, args=(first,), daemon=True)
            fetching.start()
            standin.wait_for_held(1, timeout=self.longest_wait)
            began = time.monotonic()
            load(second)
            assert time.monotonic() - began < self.longest_wait
            standin.release()
            fetching.join(10)

            def loaded() -> bool:
                load(second)
                return evaluate(second, "flag-0") is True

            until(loaded, self.next_fetch, "the second client to have flags")
            # The client's own load may have ended just before they came. Then the provider hands them over later.
            until(lambda: evaluate(first, "flag-0") is True, self.next_fetch, "the first client to have flags")
