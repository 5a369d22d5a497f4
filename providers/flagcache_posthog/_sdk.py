"""PostHog's SDK under either of its names: `posthog`, and `posthoganalytics`, under which it is published too.

Each has its own classes of the same names. A client or poller can only come from a name that is loaded.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from posthog.client import Client
    from posthog.poller import Poller

__all__ = ["CLIENT_MODULES", "client_classes", "is_client", "is_poller", "loaded"]

_NAMES = ("posthog", "posthoganalytics")

CLIENT_MODULES = tuple(f"{name}.client" for name in _NAMES)
"""Names of the modules that define clients."""


def loaded(module: str) -> list[ModuleType]:
    """Return this module of each SDK that is loaded."""
    found = (sys.modules.get(f"{name}.{module}") for name in _NAMES)
    return [each for each in found if each is not None]


def is_client(thing: object) -> TypeGuard[Client]:
    """Whether it is a client, or the global one."""
    return isinstance(thing, _classes("client", "Client"))


def client_classes() -> tuple[type, ...]:
    """Return the classes of clients."""
    return _classes("client", "Client")


def is_poller(thing: object) -> TypeGuard[Poller]:
    """Whether it is the thread that polls for a client."""
    return isinstance(thing, _classes("poller", "Poller"))


def _classes(module: str, name: str) -> tuple[type, ...]:
    found: list[type] = []
    for package in _NAMES:  # each poll passes here
        kind: object = getattr(sys.modules.get(f"{package}.{module}"), name, None)
        if isinstance(kind, type):
            found.append(kind)
    return tuple(found)
