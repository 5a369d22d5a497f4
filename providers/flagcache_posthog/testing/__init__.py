"""What tests need: a stand-in for PostHog, and flag definitions to serve.

`PostHogStandIn` serves from this process, `PostHogStandIn.spawn()` from one of its own; both are asked and told the
same things, those of `StandInControl`. pytest users find a fixture in `flagcache_posthog.testing.pytest_plugin`.
Only that fixture and `make_certificate` need the extra `flagcache[testing]`.
"""

from __future__ import annotations

from .certificates import Certificate, make_certificate
from .control import StandInControl
from .definitions import REVISION_FLAG, Definitions, Flag, make_definitions, make_flag, revision_of
from .faults import MALFORMED, QUOTA_LIMITED, Drip, Drop, Fault, Garble, Hang, Refuse
from .records import Counts, Path, Served, Truth, key_digest
from .standin import PostHogStandIn, RemoteStandIn

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
    "Garble",
    "Hang",
    "Path",
    "PostHogStandIn",
    "Refuse",
    "RemoteStandIn",
    "Served",
    "StandInControl",
    "Truth",
    "key_digest",
    "make_certificate",
    "make_definitions",
    "make_flag",
    "revision_of",
]
