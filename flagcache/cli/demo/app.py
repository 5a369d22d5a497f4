"""The web application that the workers of the demo run: a client, a cache, and a page that evaluates a flag.

gunicorn loads it in each worker or, with `--preload`, once before it forks them. The code is the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from posthog import Posthog

from flagcache import from_url
from flagcache.cli.demo.messages import WorkerConfig
from flagcache.cli.demo.reporter import CallCounts, Reporter, evaluate

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["application", "reporter"]

_config = WorkerConfig.from_environ()

_cache = from_url(
    _config.store,
    _config.namespace,
    refresh_interval=_config.refresh,
    lease=_config.lease,
    challenge_after=600,  # longer than the demo, so that the leader changes only once
)
_calls = CallCounts(_cache)
_client = Posthog(
    os.environ["POSTHOG_PROJECT_API_KEY"],
    secret_key=os.environ["POSTHOG_SECRET_KEY"],
    host=os.environ["POSTHOG_HOST"],
    poll_interval=_config.refresh,  # pyright: ignore[reportArgumentType] - int by its default; the SDK takes floats
    flag_definition_cache_provider=_cache,
)

reporter = Reporter(_config, _client, _cache, _calls)
"""Started in each worker by `gunicorn_conf`."""


def application(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer every request with the flag's value in this worker."""
    value = evaluate(_client, reporter.flag)
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{reporter.flag} is {value!r} in worker {os.getpid()}\n".encode()]
