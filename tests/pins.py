"""The pins: exact versions, with hashes, of every package that develops, tests or shows flagcache.

`make pins` writes them at the newest releases that pyproject.toml allows; nothing else changes them. Each file in
`.ci/requirements/` holds for every supported Python and system. The project itself is in none: it is installed in a
second step, without dependencies and without isolation, so that what it is built with is pinned too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from packaging.markers import default_environment
from packaging.requirements import Requirement

from tests.noxfile import MATRIX, NEWEST_OF_ALL, PROJECT, pins_of, requirements

__all__ = ["FOLDER", "SETS", "PinSet", "pinned", "pythons"]

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".ci" / "requirements"


class PinSet(NamedTuple):
    """One file of pins: what of pyproject.toml it covers."""

    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    further: tuple[str, ...] = ()
    """Requirements beside those of pyproject.toml."""
    python: str = ""
    """The lowest version that it holds for; empty: the project's own."""
    alone: bool = False
    """The requirements of the groups, without those of flagcache itself."""


_ALL = ("demo", "encryption", "testing")

SETS = {
    "dev": PinSet(_ALL, ("dev",)),
    "demo": PinSet(("demo",), ("build",)),
    "pins": PinSet(groups=("pins",), alone=True),
    "audit": PinSet(groups=("audit",), alone=True),
    "bench": PinSet(groups=("bench",), alone=True),
    NEWEST_OF_ALL: PinSet(_ALL, ("essentials",)),
    **{
        pins_of(name): PinSet(_ALL, ("essentials",), tuple(requirements(line)), line.python)
        for name, line in MATRIX.items()
        if pins_of(name) != NEWEST_OF_ALL
    },
}
"""Every file, by its name without `.txt`."""


def pythons() -> list[str]:
    """The supported versions of Python, oldest first, as the classifiers name them."""
    prefix = "Programming Language :: Python :: 3."
    found = [text.removeprefix(prefix) for text in PROJECT["project"]["classifiers"] if text.startswith(prefix)]
    return [f"3.{minor}" for minor in found]


def pinned(name: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the versions of one file, by the name of the distribution.

    Args:
        name: of the file, without `.txt`.
        environment: variables of markers that are not as in this interpreter.
    """
    here: dict[str, str] = {**{key: str(value) for key, value in default_environment().items()}, **(environment or {})}
    lines = (FOLDER / f"{name}.txt").read_text().splitlines()
    found = (Requirement(line.rstrip("\\ ")) for line in lines if line and line[0] not in "# ")
    valid = [one for one in found if one.marker is None or one.marker.evaluate(here)]
    versions = {one.name: str(one.specifier).removeprefix("==") for one in valid}
    assert len(versions) == len(valid), f"{name}.txt pins a distribution twice"
    return versions


def _command(wanted: PinSet, output: Path) -> Sequence[str]:
    """The command that resolves it, without this machine's configuration, which may name its own index."""
    uv = [sys.executable, "-m", "uv", "pip", "compile", "--no-config", "--quiet", "--upgrade"]
    # A version for each Python rather than one for all: else the oldest would hold the newest back.
    how = ["--universal", "--fork-strategy", "requires-python", "--generate-hashes"]
    shown = ["--annotation-style", "line", "--custom-compile-command", "make pins", "--output-file", str(output)]
    what = [option for extra in wanted.extras for option in ("--extra", extra)]
    what += [option for group in wanted.groups for option in ("--group", group)]
    sources = ([] if wanted.alone else ["pyproject.toml"]) + (["-"] if wanted.further else [])
    return [*uv, *how, *shown, "--python-version", wanted.python or pythons()[0], *what, *sources]


def _renew(name: str, folder: Path) -> None:
    wanted, output = SETS[name], folder / f"{name}.txt"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("UV_") or key == "UV_CACHE_DIR"}
    lines = "\n".join(wanted.further)
    subprocess.run(_command(wanted, output), cwd=ROOT, env=kept, input=lines, text=True, check=True)


def main() -> None:
    """Write every file again, or none."""
    with tempfile.TemporaryDirectory() as folder:
        for name in SETS:
            print(f".ci/requirements/{name}.txt", flush=True)
            _renew(name, Path(folder))
        for name in SETS:
            shutil.copyfile(Path(folder) / f"{name}.txt", FOLDER / f"{name}.txt")


if __name__ == "__main__":
    main()
