"""`python -m flagcache_posthog.testing`: the stand-in in its own process.

It prints one line of JSON with its `url` and `pid`, and ends when its standard input closes or on SIGTERM. Other
processes control it by `POST <url>/_standin/<command>`, as `RemoteStandIn` does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .certificates import Certificate
from .definitions import make_definitions
from .standin import PostHogStandIn


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until standard input closes, or SIGTERM."""
    options = _parser().parse_args(argv)
    definitions = (
        json.loads(options.definitions.read_text()) if options.definitions else make_definitions(options.flags)
    )
    certificate = Certificate(options.certfile, options.keyfile, "") if options.certfile else None
    signal.signal(signal.SIGTERM, _end)
    standin = PostHogStandIn(definitions, port=options.port, delay=options.delay, certificate=certificate)
    with contextlib.suppress(KeyboardInterrupt), standin:
        sys.stdout.write(json.dumps({"url": standin.url, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        sys.stdin.buffer.read()


def _end(signum: int, frame: object) -> None:  # noqa: ARG001 - a signal handler's arguments
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flagcache_posthog.testing", description="A PostHog for tests.")
    parser.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1; 0, the default, takes a free one")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer with definitions")
    parser.add_argument("--flags", type=int, default=20, help="how many made-up flags to serve (default 20)")
    parser.add_argument("--definitions", type=Path, help="a JSON file to serve instead of made-up flags")
    parser.add_argument("--certfile", help="serve https with this certificate (PEM)")
    parser.add_argument("--keyfile", help="its private key (PEM)")
    return parser


if __name__ == "__main__":
    main()
