"""New interpreters, started one after the other; each prints its measurements as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

__all__ = ["repeat"]

_PATIENCE = 120.0


def repeat(words: Sequence[str], times: int) -> dict[str, list[float]]:
    """Start the same program repeatedly. A first start is not counted: it compiles modules and fills the page cache.

    Args:
        words: the arguments of the interpreter.
        times: number of starts that are counted.

    Returns:
        All samples, by name.
    """
    # Compiled modules are kept between two starts, as in an installed application.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    kept: dict[str, list[float]] = {}
    for number in range(times + 1):
        done = subprocess.run(
            [sys.executable, *words], env=environ, check=True, stdout=subprocess.PIPE, timeout=_PATIENCE
        )
        printed: dict[str, float] = json.loads(done.stdout)
        for name, value in printed.items() if number else ():
            kept.setdefault(name, []).append(value)
    return kept
