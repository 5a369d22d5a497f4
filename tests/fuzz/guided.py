"""Searches for bytes on which the codec fails, guided by coverage; a program, because atheris ends its process.

python -m tests.fuzz.guided -runs=20000 DIRECTORY
"""

from __future__ import annotations

import contextlib
import sys
from importlib import import_module
from pathlib import Path
from typing import cast

atheris = import_module("atheris")  # there is none for every Python, and it has no types

with atheris.instrument_imports(
    include=["flagcache.encoding.codec", "flagcache.encoding.payload", "flagcache.encoding.protection"]
):
    from flagcache.encoding.codec import Codec
    from flagcache.encoding.payload import digest
    from flagcache.encoding.protection import PLAIN, protection_of
    from flagcache.errors import EnvelopeError
    from flagcache.stores.base import Meta

from flagcache_posthog.definitions import PostHogVendor  # noqa: E402 - what comes first is watched
from flagcache_posthog.testing import make_definitions  # noqa: E402

DEFINITIONS = cast("dict[str, object]", make_definitions(2))
META = Meta(digest(DEFINITIONS), 0, 1, 1, 1)
LIMIT = 1 << 20
CODECS = (Codec("n", PLAIN, limit=LIMIT), Codec("n", protection_of("k" * 32, None), limit=LIMIT))


def attack(data: bytes) -> None:
    """Definitions come out of whatever bytes, or an `EnvelopeError`; of a signed codec only our own."""
    for codec in CODECS:
        with contextlib.suppress(EnvelopeError):
            read = PostHogVendor().check(codec.read(META.version, data))
            assert codec is CODECS[0] or read == DEFINITIONS
        with contextlib.suppress(EnvelopeError):
            codec.read_meta(Meta(META.version, 0, 1, 1, 1, etag=data.decode("utf-8", "replace")))


if __name__ == "__main__":
    seeds = Path(sys.argv[-1])
    for number, codec in enumerate(CODECS):
        (seeds / str(number)).write_bytes(codec.write(DEFINITIONS, META).payload)
    atheris.Setup(sys.argv, attack)
    atheris.Fuzz()
