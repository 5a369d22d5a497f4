"""The command `flagcache`.

Each sub-command imports what it needs when it runs, so `flagcache --version` needs only this package.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from flagcache._version import __version__
from flagcache.errors import ConfigurationError, FlagcacheError, MissingExtraError

if TYPE_CHECKING:
    from flagcache.cli.store import StoreLocation

__all__ = ["add_commands", "main", "run"]

_AddParser: TypeAlias = Callable[..., argparse.ArgumentParser]
"""Adds a sub-command."""

_FAILED = 1
_MISUSED = 2
_SIGPIPE = 13
"""As a number, because Windows has no name for it."""

_PROTECTIONS = ("plain", "signed", "sealed", "sealed-signed")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The arguments after the command's name; None takes the process's own.

    Returns:
        The exit status: 0 for success, 1 for failure, 2 for invalid arguments or a missing extra, 75 if a single
        refresh may succeed later, 128 plus the signal's number after Ctrl-C or SIGTERM; a refresher that ends by
        SIGTERM returns 0.
    """
    return run(_parser().parse_args(argv))


def run(options: argparse.Namespace) -> int:
    """Run a command whose arguments `add_commands` has parsed. `options.environ` is its environment.

    Returns:
        As `main`.
    """
    try:
        return _COMMANDS[options.command](options)
    except (ConfigurationError, MissingExtraError) as exc:
        return _refuse(str(exc), _MISUSED)
    except FlagcacheError as exc:
        return _refuse(str(exc), _FAILED)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of the output, for example `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes stdout once more
        return 128 + _SIGPIPE


def _refuse(message: str, status: int) -> int:
    print(f"flagcache: {message}", file=sys.stderr)
    return status


def _demo(options: argparse.Namespace) -> int:
    from flagcache.cli.demo import DemoOptions, run_demo  # noqa: PLC0415 - needs an extra that may not be installed

    return run_demo(
        DemoOptions(
            workers=options.workers,
            preload=options.preload,
            store=options.store,
            refresh=options.refresh,
            seconds=options.seconds,
            plain=options.plain,
        ),
        options.environ,
    )


def _inspect(options: argparse.Namespace) -> int:
    from flagcache.cli.store import run_inspect  # noqa: PLC0415 - the other commands don't need it

    return run_inspect(_target(options), as_json=options.json)


def _clear(options: argparse.Namespace) -> int:
    from flagcache.cli.store import run_clear  # noqa: PLC0415 - likewise

    return run_clear(_target(options), sure=options.yes, forget=options.forget)


def _target(options: argparse.Namespace) -> StoreLocation:
    from flagcache.cli.store import Target  # noqa: PLC0415 - likewise

    if _names_app(options):
        from flagcache.cli.app import app_cache  # noqa: PLC0415 - likewise

        if options.protection is not None:
            raise ConfigurationError("--app says how envelopes are protected: leave out --protection")
        return app_cache(options.app)
    return Target(options.store, options.namespace, options.protection or "plain")


def _names_app(options: argparse.Namespace) -> bool:
    """Whether `--app` names the store; otherwise URL and namespace do."""
    if options.app is not None and options.store is not None:
        raise ConfigurationError("--app says where the store is: leave out STORE_URL and NAMESPACE")
    if options.app is None and options.namespace is None:
        raise ConfigurationError("which store? Give STORE_URL and NAMESPACE, or --app MODULE:ATTRIBUTE")
    return options.app is not None


def _refresh(options: argparse.Namespace) -> int:
    from flagcache.cli.refresh import RefreshOptions, run_refresh  # noqa: PLC0415 - likewise

    app = options.app if _names_app(options) else None
    return run_refresh(
        RefreshOptions(
            store=options.store or "",
            namespace=options.namespace or "",
            app=app,
            interval=options.interval,
            forget_after=options.forget_after,
            once=options.once,
            health=options.health,
            json=options.json,
            protection=options.protection,
        ),
        options.environ,
    )


_COMMANDS = {"clear": _clear, "demo": _demo, "inspect": _inspect, "refresh": _refresh}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="flagcache", description="PostHog feature flags for a fleet, with one fetch.")
    parser.add_argument("--version", action="version", version=f"flagcache {__version__}")
    add_commands(parser)
    return parser


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Give a parser all commands and their options, for `run`."""
    parser.set_defaults(environ=os.environ)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_demo(commands.add_parser)
    inspect = _add_store_command(
        commands.add_parser,
        "inspect",
        "show what a store holds of one namespace",
        "Show everything except the definitions themselves.",
    )
    inspect.add_argument("--json", action="store_true", help="JSON, with all times and durations in milliseconds")
    clear = _add_store_command(
        commands.add_parser,
        "clear",
        "delete the stored definitions of one namespace permanently",
        "Delete definitions, grants and failures. Workers keep the flags in memory until the leader's next fetch, which"
        " it makes at once if it listens; they never store the old definitions again.",
    )
    clear.add_argument("--yes", action="store_true", help="do it")
    clear.add_argument(
        "--forget",
        action="store_true",
        help="delete all keys, or rows, of a namespace that no worker uses any more; a worker that still runs stores"
        " what it holds again",
    )
    _add_refresh(commands.add_parser)


def _add_store_command(add_parser: _AddParser, name: str, purpose: str, description: str) -> argparse.ArgumentParser:
    parser = add_parser(name, help=purpose, description=description)
    _add_store(parser)
    parser.add_argument(
        "--protection",
        choices=_PROTECTIONS,
        help="how the envelopes are protected: signed with a signing_key, sealed with an encryption_key; the key itself"
        " is not needed (default plain)",
    )
    return parser


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "store",
        metavar="STORE_URL",
        nargs="?",
        help="redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// or sqlite:///; or env:NAME for a URL in"
        " that environment variable, which keeps a password out of the list of processes",
    )
    parser.add_argument("namespace", metavar="NAMESPACE", nargs="?", help="the namespace of your caches")
    parser.add_argument(
        "--app",
        metavar="MODULE:ATTRIBUTE",
        help="instead of both: your application's cache, or a function that returns it, such as shop.flags:cache; its"
        " store, namespace and keys are used",
    )


def _add_refresh(add_parser: _AddParser) -> None:
    refresh = add_parser(
        "refresh",
        help="fetch for a fleet, so that its workers only read",
        description="Fetch flag definitions from PostHog and publish them, until SIGTERM, or once. Several may run.",
        epilog="The environment must hold POSTHOG_PROJECT_API_KEY, POSTHOG_SECRET_KEY (or POSTHOG_PERSONAL_API_KEY) and"
        " POSTHOG_HOST, and, if your caches have such keys, FLAGCACHE_SIGNING_KEY and FLAGCACHE_ENCRYPTION_KEY."
        " Exit status: 0 done, 1 refused, 2 invalid arguments, 75 try again later.",
    )
    _add_store(refresh)
    refresh.add_argument(
        "--interval",
        type=float,
        metavar="SECONDS",
        help="how often to ask PostHog (default 30; with --app, the cache's refresh_interval)",
    )
    refresh.add_argument(
        "--forget-after",
        type=float,
        metavar="SECONDS",
        help="the caches' forget_after, which every writer needs (default never; with --app, the cache's value)",
    )
    refresh.add_argument("--once", action="store_true", help="fetch if a fetch is due, publish, and exit: for cron")
    refresh.add_argument(
        "--health",
        metavar="[HOST:]PORT",
        help="answer /healthz and /readyz over HTTP; without a host on 127.0.0.1 only",
    )
    refresh.add_argument("--json", action="store_true", help="write each log line as a JSON object")
    refresh.add_argument(
        "--protection", choices=_PROTECTIONS, help="exit at once if the keys in the environment don't match this"
    )


def _add_demo(add_parser: _AddParser) -> None:
    demo = add_parser(
        "demo",
        help="watch a fleet of web workers share one fetch",
        description="Start a fleet of gunicorn workers that share one fetch of the flags, change a flag, kill the"
        " leader and count the requests to PostHog. It needs no account and ends by itself.",
        epilog="If POSTHOG_PROJECT_API_KEY, POSTHOG_SECRET_KEY and POSTHOG_HOST are set, it uses that project instead"
        " of the stand-in, and changes nothing in it.",
    )
    demo.add_argument("--workers", type=int, default=4, metavar="N", help="number of workers, 2 to 64 (default 4)")
    demo.add_argument("--preload", action="store_true", help="create the client before the workers are forked")
    demo.add_argument("--store", metavar="URL", help="use redis://... instead of a temporary SQLite file")
    demo.add_argument(
        "--refresh", type=float, default=1.0, metavar="SECONDS", help="how often the fleet asks PostHog (default 1)"
    )
    demo.add_argument(
        "--seconds", type=float, default=20.0, metavar="SECONDS", help="approximate duration of the demo (default 20)"
    )
    demo.add_argument("--plain", action="store_true", help="print lines instead of a live table, as in a pipe")
