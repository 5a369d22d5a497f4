from __future__ import annotations

import subprocess
import sys

import pytest

PATCH = """
from gevent import monkey

monkey.patch_all()
"""
CACHE = """
import os

from flagcache_posthog import MemoryFlagDefinitionCache
from posthog import Posthog

cache = MemoryFlagDefinitionCache("n")
"""
CAPTURE = """
client = Posthog("phc_test", host="http://127.0.0.1:9", flag_definition_cache_provider=cache, max_retries=0)
os.register_at_fork(after_in_child=lambda: os.write(1, b"forked\\n"))
client.capture("event", distinct_id="user")
print("captured", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("start", [PATCH + CACHE, CACHE + PATCH], ids=["patched first", "patched later"])
def test_no_event_of_the_sdk_forks_under_gevent(start: str) -> None:
    """The SDK's first event asks for the system's name, which is already known, so no process is forked."""
    done = subprocess.run([sys.executable, "-c", start + CAPTURE], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["captured"], done.stderr
