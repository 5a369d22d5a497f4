"""One worker of a fleet, as a program: it prints in JSON what its client holds, and ends with its input.

Its arguments: the store's URL, the namespace, PostHog's address, how it is attached (`attached` by a line, `automatic`,
or `unknown`, so that its SDK fetches), and `challenge_after`.
"""

from __future__ import annotations

import json
import sys
import threading
from importlib import metadata
from typing import cast

from posthog import Posthog
from posthog.flag_definition_cache import FlagDefinitionCacheProvider

from flagcache import from_url
from tests.support.other_thread_provider import OtherThreadProvider

EVERY = 0.5
LOOK = 0.02
ANSWER = {"answer": "maybe"}


def ended() -> threading.Event:
    """Set when the input ends."""
    event = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        event.set()

    threading.Thread(target=wait, daemon=True).start()
    return event


def main() -> None:
    """Work, and report each change."""
    store, namespace, host, mode, challenge_after = sys.argv[1:]
    auto = mode == "automatic"
    cache = from_url(store, namespace, refresh_interval=EVERY, challenge_after=float(challenge_after), auto_attach=auto)
    provider = cast("FlagDefinitionCacheProvider", OtherThreadProvider(cache)) if mode == "unknown" else cache
    client = Posthog(
        "phc_test",
        secret_key="phs_test",
        host=host,
        poll_interval=EVERY,  # pyright: ignore[reportArgumentType] - said to be an int, and taken as it is
        flag_definition_cache_provider=provider,
        flush_at=1,
    )
    if mode == "attached":
        cache.attach(client)
    end, last = ended(), ""
    while not end.wait(LOOK):
        values = client.get_all_flags("someone", person_properties=ANSWER, only_evaluate_locally=True) or {}
        status = cache.status()
        seen = {"revision": values.get("revision"), "strict": values.get("strict"), "role": status.role.value}
        line = json.dumps({**seen, "writer": status.writer, "sdk": metadata.version("posthog")})
        if line != last:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        last = line
    client.shutdown()


main()
