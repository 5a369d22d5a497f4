"""The command `flagcache`.

Each sub-command loads what it needs when it is run, so that `flagcache --version` needs nothing but this package.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from flagcache._version import __version__
from flagcache.errors import ConfigurationError, FlagcacheError, MissingExtraError

__all__ = ["main"]

_FAILED = 1
_MISUSED = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The arguments after the command's name; None takes the process's own.

    Returns:
        The exit status: 0 if all went as promised, 1 if not, 2 if it was called wrongly or an extra is missing,
        128 and the signal's number after Ctrl-C or SIGTERM.
    """
    options = _parser().parse_args(argv)
    try:
        return _demo(options)
    except (ConfigurationError, MissingExtraError) as exc:
        return _refuse(str(exc), _MISUSED)
    except FlagcacheError as exc:
        return _refuse(str(exc), _FAILED)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # whoever read the output, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes stdout once more
        return 128 + signal.SIGPIPE


def _refuse(message: str, status: int) -> int:
    print(f"flagcache: {message}", file=sys.stderr)
    return status


def _demo(options: argparse.Namespace) -> int:
    from flagcache.cli.demo import DemoOptions, run_demo  # noqa: PLC0415 - its own extra, which may not be installed

    return run_demo(
        DemoOptions(
            workers=options.workers,
            preload=options.preload,
            store=options.store,
            refresh=options.refresh,
            seconds=options.seconds,
            plain=options.plain,
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="flagcache", description="PostHog feature flags for a fleet, on one fetch.")
    parser.add_argument("--version", action="version", version=f"flagcache {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    demo = commands.add_parser(
        "demo",
        help="watch a fleet of web workers share one fetch",
        description="Start a fleet of gunicorn workers that share one fetch of the flags, change a flag, kill the"
        " leader and count what PostHog saw. It needs no account and ends by itself.",
        epilog="With POSTHOG_PROJECT_API_KEY, POSTHOG_SECRET_KEY and POSTHOG_HOST set it asks that project instead of"
        " the stand-in, and changes nothing there.",
    )
    demo.add_argument("--workers", type=int, default=4, metavar="N", help="how many workers, 2 to 64 (default 4)")
    demo.add_argument("--preload", action="store_true", help="make the client before the workers are forked")
    demo.add_argument("--store", metavar="URL", help="share by redis://... instead of an SQLite file of its own")
    demo.add_argument(
        "--refresh", type=float, default=1.0, metavar="SECONDS", help="how often the fleet asks PostHog (default 1)"
    )
    demo.add_argument(
        "--seconds", type=float, default=20.0, metavar="SECONDS", help="about how long it all takes (default 20)"
    )
    demo.add_argument("--plain", action="store_true", help="lines instead of a live table, as when piped")
    return parser
