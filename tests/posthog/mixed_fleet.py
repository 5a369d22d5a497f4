"""Workers with the oldest and the newest SDK in one fleet; each is its own program (`worker_program.py`)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from typing_extensions import Self

from tests.support.user_programs import posthog_environment

__all__ = ["Member", "Sighting", "oldest_sdk"]

_MINUTES = 60


def oldest_sdk(cache: Path) -> Path:
    """A folder with the oldest SDK that flagcache supports, installed on the first run and kept.

    What else that one needs the newest needs too. Where it cannot be installed the test is skipped, and fails in CI.
    """
    requirement = next(line for line in metadata.requires("flagcache") or [] if line.startswith("posthog"))
    found = re.search(r">=([\d.]+)", requirement)
    assert found, requirement
    if metadata.version("posthog") == found[1]:
        pytest.skip("the oldest SDK is the one that is installed here")
    folder = cache / f"posthog-{found[1]}"
    if not (folder / "posthog").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        command += [f"posthog=={found[1]}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5 * _MINUTES, check=False)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            reason = f"cannot install the oldest SDK: {done.stderr.strip()[-300:]}"
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return folder


@dataclass(frozen=True)
class Sighting:
    """What a client held from one moment to the next."""

    revision: str | None
    strict: bool | None
    """Of a newer SDK: False with `property_matching_version` 2, True without."""
    role: str
    writer: str
    sdk: str


class Member:
    """One worker while a `with` block lasts, which ends it in an orderly way.

    Args:
        folder: for its output.
        arguments: of the program.
        host: of the stand-in.
        sdk: a folder with another SDK than the one installed here.
    """

    def __init__(self, folder: Path, arguments: list[str], host: str, sdk: Path | None = None) -> None:
        environ = posthog_environment(host)
        if sdk is not None:
            environ["PYTHONPATH"] = os.pathsep.join([str(sdk), environ["PYTHONPATH"]])
        self._output = folder / f"member-{len(list(folder.glob('member-*')))}"
        program = Path(__file__).with_name("worker_program.py")
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(program), *arguments], env=environ, stdin=subprocess.PIPE, stdout=output
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end()

    def end(self) -> None:
        """Shut the client down, and wait for the end of the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def history(self) -> list[Sighting]:
        """All that its client held so far."""
        text = self._output.read_text()
        return [Sighting(**json.loads(line)) for line in text[: text.rfind("\n") + 1].splitlines()]

    @property
    def now(self) -> Sighting:
        """What it holds."""
        history = self.history
        return history[-1] if history else Sighting(None, None, "", "", "")

    @property
    def never_lost_a_key(self) -> bool:
        """Whether its client always had `property_matching_version`, once it had it."""
        values = [seen.strict for seen in self.history]
        return False in values and set(values[values.index(False) :]) == {False}
