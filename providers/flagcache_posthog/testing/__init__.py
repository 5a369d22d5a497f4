"""Tools for tests: flags with fixed values, a stand-in for PostHog, made-up definitions, a provider's contract.

`override_flags` gives flags fixed values, through the real SDK and without a network.
`PostHogStandIn` serves from this process, `PostHogStandIn.spawn()` from its own process; both are controlled by the
methods of `StandInControl`. `flagcache_posthog.testing.pytest_plugin` has fixtures for pytest.
`ProviderContract` contains the tests that every provider passes (see `provider_contract`). Only these, the fixtures and
`make_certificate` need the extra `flagcache[testing]`.
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


if not TYPE_CHECKING:  # with it a type checker would accept any name

    def __getattr__(name: str) -> object:
        """Load the contract when it is first used: it needs pytest, and the stand-in does not."""
        if name not in _CONTRACT:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.provider_contract"), name)
