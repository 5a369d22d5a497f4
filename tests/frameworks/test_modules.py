"""The integrations as modules: small, imported only by who uses them, and clear about what is not installed."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from flagcache.errors import MissingExtraError
from tests.support.user_programs import posthog_environment

FRAMEWORKS = {
    "fastapi": ("fastapi", "pip install fastapi"),
    "flask": ("flask", "pip install flask"),
    "starlette": ("starlette.requests", "pip install starlette"),
    "openfeature": ("openfeature.contrib.provider.posthog", "pip install openfeature-provider-posthog"),
}
"""What each module needs, and what its error says."""


@pytest.mark.parametrize("module", FRAMEWORKS)
def test_without_a_framework_it_says_what_to_install(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing a module without its framework raises an error with the remedy; flagcache itself imports none."""
    needed, install = FRAMEWORKS[module]
    name = f"flagcache_posthog.{module}"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, needed, None)
    with pytest.raises(MissingExtraError, match=f"{name} needs .*: {install}"):
        importlib.import_module(name)


@pytest.mark.parametrize("module", [*FRAMEWORKS, "asgi", "celery"])
def test_a_stranger_reads_each_in_a_minute(module: str) -> None:
    """Each integration has fewer than 80 lines."""
    path = Path(importlib.import_module(f"flagcache_posthog.{module}").__file__ or "")
    assert len(path.read_text().splitlines()) < 80


def test_each_needs_only_its_own_framework() -> None:
    """To import one brings no other, and the cache and `RequestFlags` bring none."""
    script = """
import subprocess
import sys
from pathlib import Path
from flagcache import RedisFlagDefinitionCache
import flagcache_posthog.request_flags, flagcache_posthog.celery, flagcache_posthog.asgi
RedisFlagDefinitionCache
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"fastapi", "starlette", "flask", "celery", "openfeature", "django"}, loaded
import flagcache_posthog.flask
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"fastapi", "starlette", "celery", "openfeature", "django"}, loaded
"""
    subprocess.run(
        [sys.executable, "-c", script], check=True, env=posthog_environment("http://127.0.0.1:1"), timeout=60
    )
