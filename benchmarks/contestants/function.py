"""One serverless function, from the start of its process to its first flag; prints the time.

    python -m benchmarks.contestants.function benchmarks.contestants.sharing READER '{"posthog": ...}'

It imports only what its contestant needs.
"""

from __future__ import annotations

import time

_STARTED = time.perf_counter()

import importlib  # noqa: E402 - the time of these imports is measured
import json  # noqa: E402
import sys  # noqa: E402

__all__ = ["main"]


def main() -> None:
    """Import the SDK and redis-py, then the contestant; load flags and evaluate one."""
    module, name, config_text = sys.argv[1:]
    importlib.import_module("posthog")
    importlib.import_module("redis")
    libraries = time.perf_counter()
    from benchmarks.contestants.contestant import WorkerConfig, evaluated_revision  # noqa: PLC0415

    contestant = getattr(importlib.import_module(module), name)
    imported = time.perf_counter()
    client = contestant.make(WorkerConfig(**json.loads(config_text)), 99)
    client.load_feature_flags()
    if evaluated_revision(client) is None:
        raise SystemExit("loaded, but no flag can be evaluated")
    done = time.perf_counter()
    print(
        json.dumps({"on_top": done - libraries, "after_imports": done - imported, "whole_process": done - _STARTED}),
        flush=True,
    )


if __name__ == "__main__":
    main()
