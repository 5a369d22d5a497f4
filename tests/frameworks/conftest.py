"""The examples of docs/frameworks.md, loaded in this process on a real Redis, and a PostHog whose flags fit them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from flagcache_posthog.testing import RemoteStandIn, StandInControl, make_definitions, make_flag
from tests.support.servers import RedisServer
from tests.support.snippets import snippet
from tests.support.user_programs import posthog_environment

PAGE = "docs/frameworks.md"

LoadExample = Callable[..., dict[str, Any]]


def serve_flags(posthog: StandInControl, *, price: str = "b") -> None:
    """Serve `new-checkout`, on for all users; `price` and `team`, for user-7 and for plan team; and six sticky ones."""
    served = make_definitions(0)
    priced, team = make_flag("price", variants={price: 100}, payload={"amount": 9}), make_flag("team")
    for flag, key, value in ((priced, "distinct_id", "user-7"), (team, "plan", "team")):
        flag["filters"]["groups"][0]["properties"] = [
            {"key": key, "value": [value], "operator": "exact", "type": "person"}
        ]
    sticky = [make_flag(f"sticky-{number}", variants={"s": 100}) for number in range(6)]
    for flag in sticky:
        flag["ensure_experience_continuity"] = True
    served["flags"] += [make_flag("new-checkout"), priced, team, *sticky]
    posthog.serve(served)


@pytest.fixture
def posthog(posthog: RemoteStandIn) -> RemoteStandIn:
    """A PostHog for one test, with the examples' flags."""
    serve_flags(posthog)
    posthog.reset_counts()
    return posthog


@pytest.fixture
def load_example(
    posthog: RemoteStandIn, redis_server: RedisServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LoadExample]:
    """A function that runs an example's text and returns its names; `cache` and `client` are more keywords for each."""
    environ = posthog_environment(posthog.url, REDIS_URL=redis_server.url, FLASK_SECRET_KEY="secret")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as ends:

        def load(name: str, *, cache: str = "", client: str = "send=False") -> dict[str, Any]:
            text = snippet(PAGE, name).replace('"shop"', f"{namespace!r}, {cache}".rstrip(", "))
            text = text.replace(
                "flag_definition_cache_provider=cache", f"{client}, flag_definition_cache_provider=cache"
            )
            names: dict[str, Any] = {"__name__": name.removesuffix(".py")}
            exec(compile(text, name, "exec"), names)
            ends.callback(names["posthog"].shutdown)
            return names

        yield load
