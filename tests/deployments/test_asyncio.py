from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tests.support.servers import MakeRedis, until
from tests.support.snippets import snippet
from tests.support.web_applications import EVERY, FLAG, ServedApplication, start_posthog, with_times

APP = snippet("docs/asyncio.md", "app.py: with asyncio's client of Redis")


def test_an_application_with_an_asyncio_client_is_one_fleet(tmp_path: Path, make_redis: MakeRedis) -> None:
    """Flags come before the first request, changes are pushed, each interval has one request; nothing is left."""
    server = make_redis()
    with start_posthog() as posthog:
        application = ServedApplication(tmp_path, posthog, server, {"app.py": with_times(APP, refresh_interval=EVERY)})
        with application.run("uvicorn", "--workers", "2", "--host", "127.0.0.1", "--port", "PORT", "app:app"):
            until(lambda: application.program.log.count("Application startup complete") == 2, 30.0, what="two workers")
            application.wait_for_value("True", at_once=True)
            posthog.set_flag(FLAG, active=False)
            application.wait_for_value("False")
            with closing(server.client()) as theirs:
                assert int(theirs.get("visits") or 0) >= len(application.seen) == 2
            application.check_requests(changes=1)
            assert application.program.end() == 0
            application.check_nothing_left()
