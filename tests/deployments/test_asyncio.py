from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tests.support.servers import MakeRedis, until
from tests.support.snippets import snippet
from tests.support.web_applications import EVERY, FLAG, Shop, hasten, serve_shop

APP = snippet("docs/asyncio.md", "app.py: with asyncio's client of Redis")


def test_an_application_with_an_asyncio_client_is_one_fleet(tmp_path: Path, make_redis: MakeRedis) -> None:
    """Flags before the first request, a change pushed to all, one request an interval, and nothing left at the end."""
    server = make_redis()
    with serve_shop() as posthog:
        shop = Shop(tmp_path, posthog, server, {"app.py": hasten(APP, refresh_interval=EVERY)})
        with shop.run("uvicorn", "--workers", "2", "--host", "127.0.0.1", "--port", "PORT", "app:app"):
            until(lambda: shop.program.log.count("Application startup complete") == 2, 30.0, what="two workers")
            shop.all_say("True", at_once=True)
            posthog.set_flag(FLAG, active=False)
            shop.all_say("False")
            with closing(server.client()) as theirs:
                assert int(theirs.get("visits") or 0) >= len(shop.seen) == 2
            shop.asked_as_one(changes=1)
            assert shop.program.end() == 0
            shop.leaves_nothing()
