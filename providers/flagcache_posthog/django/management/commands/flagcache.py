"""`manage.py flagcache`: every command of `flagcache`, with the project's settings.

manage.py flagcache inspect
manage.py flagcache refresh --once
"""

from __future__ import annotations

import os
from argparse import Namespace
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from flagcache.cli import add_commands, run
from flagcache_posthog.django.checks import TAG
from flagcache_posthog.django.project import config

__all__ = ["Command"]

_CACHE = "flagcache_posthog.django:cache"


class Command(BaseCommand):
    """Runs a command of flagcache with the project's store, namespace, and keys."""

    help = "Inspect, clear or refresh the flag definitions that the project's processes share."
    requires_system_checks = [TAG]  # noqa: RUF012 - as Django has it

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the arguments of `flagcache`; without STORE_URL and NAMESPACE the project's are meant."""
        add_commands(parser)

    def handle(self, *_: object, **options: Any) -> None:  # noqa: ANN401 - as Django has it
        """Run the command, and exit with its status if that is not 0."""
        options["environ"] = {**os.environ, **_environment()}
        if "store" in options and options["command"] != "demo" and not (options["store"] or options["app"]):
            options["app"] = _CACHE
        status = run(Namespace(**options))
        if status:
            raise SystemExit(status)


def _environment() -> dict[str, str]:
    """Return the project, as the commands read it from the environment."""
    found = config()
    if found.disabled:
        return {}
    values = {
        "POSTHOG_PROJECT_API_KEY": found.project_api_key,
        "POSTHOG_SECRET_KEY": found.secret_key,
        "POSTHOG_HOST": found.host or "",
    }
    return {name: value for name, value in values.items() if value}
