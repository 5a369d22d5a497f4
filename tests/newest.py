"""`make newest`: checks and tests with the newest release of everything; names the release that breaks them.

Runs inside an environment that was installed without the pins. Where a command fails there, but not with the pinned
releases in place of the newer ones, it looks for the one that makes the difference, by halves.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.noxfile import PROJECT
from tests.pins import pinned

__all__ = ["Release", "at_fault", "newer"]

CACHE = Path(sys.prefix, ".pytest_cache")
COMMANDS = ("check", "test")


class Release(NamedTuple):
    """A distribution whose newest release is not the pinned one."""

    name: str
    newest: str
    pinned: str

    def __str__(self) -> str:
        return f"{self.name} {self.newest} (pinned: {self.pinned})"


def newer(installed: dict[str, str], pins: dict[str, str], first: Sequence[str] = ()) -> list[Release]:
    """Return what is newer than its pin, those that the project names before those that came with them.

    Args:
        installed: versions by name.
        pins: the same.
        first: names.
    """
    found = [Release(name, installed[name], pins[name]) for name in sorted(pins) if name in installed]
    later = (one for one in found if Version(one.newest) > Version(one.pinned))
    return sorted(later, key=lambda one: one.name not in first)


def at_fault(releases: Sequence[Release], passes: Callable[[Sequence[Release]], bool]) -> Release | None:
    """Return the release without which a command that fails passes; None if it fails with all of them put back.

    Args:
        releases: what is newer than pinned; with all of it the command fails.
        passes: whether the command passes once these have been put back.
    """
    if not releases or not passes(releases):
        return None
    fails, succeeds = 0, len(releases)  # how many of the first are put back
    while succeeds - fails > 1:
        half = (fails + succeeds) // 2
        if passes(releases[:half]):
            succeeds = half
        else:
            fails = half
    return releases[succeeds - 1]


def _installed() -> dict[str, str]:
    found = importlib.metadata.distributions()
    return {canonicalize_name(one.metadata["Name"]): one.version for one in found}


def _named() -> list[str]:
    """The distributions that pyproject.toml names."""
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    texts = chain(project["dependencies"], *project["optional-dependencies"].values(), *groups.values())
    return [canonicalize_name(Requirement(text).name) for text in texts if isinstance(text, str)]


def _install(versions: dict[str, str]) -> None:
    """Put these in place, whatever others say that they need."""
    if versions:
        what = [f"{name}=={version}" for name, version in versions.items()]
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *what], check=True)


class _Command:
    """`make check` or `make test`; after it failed, what of it failed."""

    def __init__(self, make: Sequence[str], name: str) -> None:
        self._make = [*make, name]
        self.name = name

    def passes(self) -> bool:
        """Whether it passes."""
        environment = {**os.environ, "PYTEST_ADDOPTS": f"-o cache_dir={CACHE}"}
        return subprocess.run(self._make, env=environment, check=False).returncode == 0

    def only_what_failed(self) -> None:
        """Run only the tests that failed from now on; all of it, if it was no test that failed."""
        failed = CACHE / "v" / "cache" / "lastfailed"
        names: dict[str, bool] = json.loads(failed.read_text()) if self.name == "test" and failed.exists() else {}
        if names:
            listed = CACHE / "failed"
            listed.write_text("\n".join(names) + "\n")
            self._make.append(f"ARGS=@{listed}")


def _verdict(command: _Command, releases: Sequence[Release]) -> str:
    """What makes a command fail that just did."""
    print(f"--- make {command.name} failed; looking for the release that makes it fail", flush=True)
    command.only_what_failed()
    if command.passes():
        return f"make {command.name} failed once and passed at once: that is no release's fault"
    fault = at_fault(releases, lambda back: _passes_with(command, releases, back))
    _install({one.name: one.newest for one in releases})
    if fault is None:
        return f"make {command.name} fails, with the pinned releases too: no release is at fault"
    return f"make {command.name} fails with {fault.name} {fault.newest}, and passes with {fault.name} {fault.pinned}"


def _passes_with(command: _Command, releases: Sequence[Release], back: Sequence[Release]) -> bool:
    _install({one.name: one.pinned if one in back else one.newest for one in releases})
    return command.passes()


def main(make: Sequence[str]) -> int:
    """Run all, and print what fails by which release. Returns the exit status."""
    releases = newer(_installed(), pinned("dev"), _named())
    print(f"newer than pinned: {', '.join(map(str, releases)) or 'nothing'}", flush=True)
    verdicts = [_verdict(one, releases) for name in COMMANDS if not (one := _Command(make, name)).passes()]
    print("\n".join(verdicts) or "all passes with the newest of everything")
    return 1 if verdicts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
