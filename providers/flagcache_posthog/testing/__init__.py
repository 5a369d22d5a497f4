"""What tests need: flags with fixed values, a stand-in for PostHog, definitions to serve, the contract of a provider.

`override_flags` says which flags are on, through the real SDK and without a network.
`PostHogStandIn` serves from this process, `PostHogStandIn.spawn()` from one of its own; both are asked and told the
same things, those of `StandInControl`. pytest users find a fixture in `flagcache_posthog.testing.pytest_plugin`.
`ProviderContract` is what every provider does, as tests to subclass (see `provider_contract`). Only these, that fixture
and `make_certificate` need the extra `flagcache[testing]`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .certificates import Certificate, make_certificate
from .control import StandInControl
from .definitions import REVISION_FLAG, Definitions, Flag, make_definitions, make_flag, revision_of
from .faults import MALFORMED, QUOTA_LIMITED, Drip, Drop, Fault, Garble, Hang, Refuse
from .override import FlagValue, UnknownFlagError, override_flags
from .records import Counts, Path, Served, Truth, key_digest
from .standin import PostHogStandIn, RemoteStandIn

if TYPE_CHECKING:
    from .provider_contract import MakeProvider, Outage, OutageContract, ProviderContract

__all__ = [
    "MALFORMED",
    "QUOTA_LIMITED",
    "REVISION_FLAG",
    "Certificate",
    "Counts",
    "Definitions",
    "Drip",
    "Drop",
    "Fault",
    "Flag",
    "FlagValue",
    "Garble",
    "Hang",
    "MakeProvider",
    "Outage",
    "OutageContract",
    "Path",
    "PostHogStandIn",
    "ProviderContract",
    "Refuse",
    "RemoteStandIn",
    "Served",
    "StandInControl",
    "Truth",
    "UnknownFlagError",
    "key_digest",
    "make_certificate",
    "make_definitions",
    "make_flag",
    "override_flags",
    "revision_of",
]

_CONTRACT = frozenset({"MakeProvider", "Outage", "OutageContract", "ProviderContract"})


if not TYPE_CHECKING:  # a type checker would take it for a promise that there is any name

    def __getattr__(name: str) -> object:
        """Load the contract when it is first used: it needs pytest, and the stand-in does not."""
        if name not in _CONTRACT:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.provider_contract"), name)
