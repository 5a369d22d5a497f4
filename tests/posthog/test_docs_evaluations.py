"""The evaluations in README and docs send no request, whatever flags the project has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from posthog import Posthog

from flagcache_posthog.testing import PostHogStandIn, make_definitions, make_flag

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
DEPRECATED = {
    "feature_enabled",
    "get_feature_flag",
    "get_feature_flag_payload",
    "get_all_flags",
    "get_feature_variants",
}
"""Methods that the SDK deprecates (posthog 7.91) in favour of `evaluate_flags`."""


def _calls() -> Iterator[tuple[str, ast.Call]]:
    for page in PAGES:
        for block in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.Call):
                    yield page.name, node


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


SHOWN = [(page, call) for page, call in _calls() if _name(call) == "evaluate_flags"]


def test_the_docs_show_evaluations() -> None:
    """Each page with a whole application shows an evaluation, and none that the SDK deprecates."""
    assert {page for page, _call in SHOWN} >= {"asgi.md", "asyncio.md", "celery.md", "gunicorn.md", "serverless.md"}
    assert not [page for page, call in _calls() if _name(call) in DEPRECATED]


def test_every_client_in_the_docs_names_its_host() -> None:
    """Each client names its host, because the SDK's default is PostHog's US cloud, which knows no EU projects."""
    clients = [(page, {word.arg for word in call.keywords}) for page, call in _calls() if _name(call) == "Posthog"]
    assert clients
    assert not [page for page, words in clients if "host" not in words]


@pytest.mark.parametrize(("page", "call"), SHOWN, ids=[f"{page}-{n}" for n, (page, _call) in enumerate(SHOWN)])
def test_what_the_docs_show_asks_posthog_nothing(page: str, call: ast.Call) -> None:
    """A flag that cannot be decided locally costs the plain SDK a request a call, unless the flags are named."""
    words = {word.arg or "": word.value for word in call.keywords if word.arg in ("flag_keys", "only_evaluate_locally")}
    shown = {name: ast.literal_eval(value) for name, value in words.items()}
    undecided = make_flag("undecided")
    undecided["ensure_experience_continuity"] = True
    definitions = make_definitions(2)
    definitions["flags"] = [*definitions["flags"], undecided, *map(make_flag, shown.get("flag_keys", ()))]
    with PostHogStandIn() as standin:
        standin.serve(definitions)
        client = Posthog("phc_test", secret_key="phs_test", host=standin.url, flush_at=1)
        try:
            client.evaluate_flags("a-user")
            assert standin.counts().flags_calls == 1, "the trap is gone from the SDK"
            for _ in range(3):
                client.evaluate_flags("a-user", **shown)
            assert standin.counts().flags_calls == 1, page
        finally:
            client.shutdown()
