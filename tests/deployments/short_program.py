"""A program that lives shorter than a fetch: it loads, evaluates, prints a line of JSON, and ends.

Its arguments: the store's URL, the namespace, PostHog's address, `plain`, `attached` or `protocol`, how it ends
(`exit`, `shutdown` or `_exit`), and the cache's options as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time

from posthog import Posthog

from flagcache import from_url


def main() -> None:
    """Run the program."""
    store, namespace, host, mode, end, options = sys.argv[1:]
    cache = None if mode == "plain" else from_url(store, namespace, **json.loads(options))
    client = Posthog("phc_test", secret_key="phs_test", host=host, flag_definition_cache_provider=cache, flush_at=1)
    if cache is not None and mode == "attached":
        cache.attach(client)
    began = time.monotonic()
    value = client.evaluate_flags("user", only_evaluate_locally=True).get_flag("revision")
    first = time.monotonic() - began
    client.evaluate_flags("user", only_evaluate_locally=True).get_flag("revision")
    sys.stdout.write(json.dumps({"revision": value, "first": first, "both": time.monotonic() - began}) + "\n")
    sys.stdout.flush()
    if end == "_exit":
        os._exit(0)
    if end == "shutdown":
        client.shutdown()


main()
