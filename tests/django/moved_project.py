"""A project that reads flags by the names of mitol-django-olposthog: `python moved_project.py FEATURES_MODULE`.

`python moved_project.py createcachetable` prepares its database, once, as a deployment does before any process starts.

It doesn't depend on the implementation, so it runs on that package too. It reads calls as lines of JSON, each a
function's name and arguments, and answers with the result and the number of SQL statements.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command

ENV = os.environ


def set_up(database: str) -> None:
    """Configure the settings of such a project."""
    durable = {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "durable_cache"}
    settings.configure(
        SECRET_KEY="x" * 50,
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}, "durable": durable},
        HOSTNAME="web-1",
        ENVIRONMENT="prod",
        FEATURES={"in-settings": True},
        POSTHOG_ENABLED=True,
        POSTHOG_PROJECT_API_KEY="phc_test",
        POSTHOG_PERSONAL_API_KEY=ENV.get("PERSONAL_API_KEY", ""),
        POSTHOG_API_HOST=ENV["POSTHOG_HOST"],
        POSTHOG_FEATURE_FLAG_REQUEST_TIMEOUT_MS=3000,
        POSTHOG_MAX_RETRIES=3,
        POSTHOG_POLL_INTERVAL=int(ENV.get("POLL_INTERVAL", "300")),
        POSTHOG_CIRCUIT_BREAKER_COOLDOWN_SECONDS=60,
        POSTHOG_CIRCUIT_BREAKER_TRIP_THRESHOLD_SECONDS=6,
        FLAGCACHE={"STORE": ENV.get("STORE"), "NAMESPACE": ENV.get("NAMESPACE", "moved")},
    )
    django.setup()


def main(module: str) -> None:
    """Run the commands until they end."""
    set_up(ENV["DATABASE"])
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    features: Any = importlib.import_module(module)
    features.configure()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        statements: Any = CaptureQueriesContext(connection)
        with statements:
            answer = getattr(features, name)(*arguments)
        sys.stdout.write(json.dumps({"answer": answer, "sql": len(statements)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1] == "createcachetable":
        set_up(ENV["DATABASE"])
        call_command("createcachetable", verbosity=0)
    else:
        main(sys.argv[1])
