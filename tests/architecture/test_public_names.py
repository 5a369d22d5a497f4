"""The public names: names that README, the docs and the testing packages use don't move."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import flagcache
import flagcache.testing
import flagcache_posthog.testing
from flagcache.event import Event
from flagcache_posthog import FlagDefinitionCache
from flagcache_posthog.django.flags import HttpRequestFlags

ROOT = Path(__file__).parents[2]
MAP = ROOT / "docs" / "architecture.md"
"""The page of the rooms, whose modules need not be public; `test_map` compares it with the tree."""

PAGES = ["README.md", "providers/README.md", *sorted(f"docs/{page.name}" for page in ROOT.glob("docs/*.md"))]
PACKAGES = (flagcache, flagcache.testing, flagcache_posthog.testing)
VARIABLES = {"cache": FlagDefinitionCache, "event": Event, "request.flags": HttpRequestFlags}
"""The variables of the docs' examples, with their classes."""

PUBLIC = {
    "cache": "attach ready status",
    "event": "level",
    "flagcache": """
        AsyncRedisFlagDefinitionCache ConfigurationError FlagDefinitionCache FlagcacheError
        MemoryFlagDefinitionCache RedisFlagDefinitionCache SqliteFlagDefinitionCache Status __version__ cli
        events from_url
    """,
    "flagcache.clients": "Client",
    "flagcache.coordinator": "Coordinator",
    "flagcache.testing": """
        ClockContract Damage DamageContract MakeStore PassTime ProcessContract StoreContract
        SubscriptionContract
    """,
    "flagcache.vendor": "Fetcher Vendor",
    "flagcache.worker.config": "CacheConfig",
    "flagcache_posthog": """
        asgi aws_lambda celery django fastapi flask gunicorn identity openfeature refresher request_flags
        starlette testing
    """,
    "flagcache_posthog.asgi": "flags_lifespan",
    "flagcache_posthog.aws_lambda": "fresh",
    "flagcache_posthog.django": "FlagRequiredMixin client flag_required flagged_path olposthog ready",
    "flagcache_posthog.django.jinja": "FlagsExtension",
    "flagcache_posthog.django.middleware": "FlagsMiddleware",
    "flagcache_posthog.fastapi": "flags_dependency",
    "flagcache_posthog.flask": "flags init_flags",
    "flagcache_posthog.identity": "distinct_id_of",
    "flagcache_posthog.openfeature": "FlagcacheProvider",
    "flagcache_posthog.refresher": "Project Refresher",
    "flagcache_posthog.request_flags": "RequestFlags",
    "flagcache_posthog.starlette": "FlagsMiddleware",
    "flagcache_posthog.testing": """
        Certificate Counts Definitions Drip Drop Fault Flag FlagValue Garble Hang MALFORMED MakeProvider Outage
        OutageContract Path PostHogStandIn ProviderContract QUOTA_LIMITED REVISION_FLAG Refuse RemoteStandIn
        Served StandInControl Truth UnknownFlagError key_digest make_certificate make_definitions make_flag
        override_flags pytest_plugin revision_of
    """,
    "request.flags": "distinct_id get is_enabled payload snapshot",
}
"""The public names, by package, module or variable."""

INTERNAL = {
    "flagcache.core": "knowledge",
    "flagcache.stores.rules": "verbs",
    "flagcache.worker": "compatibility malformed",
    "flagcache.worker.worker": "Worker",
}
"""Modules and classes of the engine that pages mention to explain it; nothing outside may rely on them."""

_BLOCK = re.compile(r"^```.*?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DOTTED = re.compile(r"\b(?<![/.])[a-z]\w*(?:\.[A-Za-z_]\w*)+")


def _of_code(block: str) -> set[str]:
    """The names that a Python code block imports."""
    imports = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Import | ast.ImportFrom)]
    found: set[str] = set()
    for node in imports:
        names = [alias.name for alias in node.names]
        if isinstance(node, ast.Import):
            found.update(names)
        else:
            module = node.module or ""
            found.update({module} if names == ["*"] else {f"{module}.{name}" for name in names})
    return found


def _named(page: str) -> set[str]:
    """Every dotted name of flagcache on a page: imports of its code, names in code font, modules in other blocks."""
    text = (ROOT / page).read_text()
    fonts = re.findall(r"`([^`\n]+)`", _BLOCK.sub("", text))
    found = {name for font in fonts for name in _DOTTED.findall(font)}
    found |= {name for block in _BLOCK.findall(text) for name in _DOTTED.findall(block) if name.startswith("flagcache")}
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        found |= _of_code(block)
    owners = ("flagcache", "flagcache_posthog", *VARIABLES)
    return {name for name in found if any(name.startswith(f"{owner}.") for owner in owners)}


def _documented() -> set[str]:
    return {name for page in PAGES if ROOT / page != MAP for name in _named(page)}


def _listed(names: dict[str, str]) -> set[str]:
    return {f"{owner}.{name}" for owner, listed in names.items() for name in listed.split()}


def _exported() -> set[str]:
    return {f"{package.__name__}.{name}" for package in PACKAGES for name in package.__all__}


def _find(name: str) -> object:
    """Return a module, or an attribute of a module or of an example's variable."""
    owner, _, last = name.rpartition(".")
    if owner in VARIABLES:
        return inspect.getattr_static(VARIABLES[owner], last)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name not in (name, owner):
            raise
        return getattr(importlib.import_module(owner), last)


def test_the_public_names_are_those_of_the_docs_and_the_testing_packages() -> None:
    """A name that disappears, or a new one, is a change for users: then this list changes too, and the changelog."""
    assert (_documented() | _exported()) - _listed(INTERNAL) == _listed(PUBLIC)


@pytest.mark.parametrize("name", sorted(_listed(PUBLIC) | (_documented() & _listed(INTERNAL))))
def test_each_name_exists(name: str) -> None:
    """A name that users import, or that a page shows, can be imported."""
    _find(name)
