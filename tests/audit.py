"""`make audit`: asks the OSV database for known vulnerabilities of every pinned version.

pip-audit asks, from its own environment. It reads the pins of one Python only, and refuses two versions of one
package, so it gets them in parts: each part has one version per package, with its hashes and without markers.

Exit status: 0 if there is no advisory, 1 if there is one, 2 if not all versions could be looked up.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypedDict, cast

from tests.pins import FOLDER

__all__ = ["Advisory", "NotAskedError", "Pin", "ask", "main", "parts", "pins"]

_OSV = "https://api.osv.dev/v1/query"
_TIMEOUT = "15"
"""Seconds that pip-audit waits for each answer."""


class NotAskedError(RuntimeError):
    """Not all versions could be looked up."""


class Pin(NamedTuple):
    """One version of one package."""

    name: str
    version: str


class Advisory(NamedTuple):
    """A known vulnerability of a pinned version."""

    pin: Pin
    names: tuple[str, ...]
    fixed: tuple[str, ...]

    def text(self, files: Iterable[str]) -> str:
        """Return one line about it, with the files that pin the version."""
        fixed = f"fixed in {', '.join(self.fixed)}" if self.fixed else "no fix yet"
        return f"{self.pin.name} {self.pin.version}: {', '.join(self.names)}; {fixed}; pinned in {', '.join(files)}"


class _Vulnerability(TypedDict):
    id: str
    aliases: list[str]
    fix_versions: list[str]


class _Dependency(TypedDict):
    name: str
    version: str
    vulns: list[_Vulnerability]


def pins(text: str) -> dict[Pin, list[str]]:
    """Return every version in a file of pins, for whichever Python and system, with its hashes."""
    found: dict[Pin, list[str]] = {}
    hashes: list[str] = []
    for line in text.splitlines():
        if pin := re.match(r"([a-z0-9-]+)==(\S+)", line):
            hashes = found.setdefault(Pin(pin[1], pin[2]), [])
        hashes += (one for one in re.findall(r"--hash=\S+", line) if one not in hashes)
    return found


def parts(wanted: Iterable[Pin]) -> list[list[Pin]]:
    """Divide these so that each part has one version per package, in as few parts as possible."""
    made: list[list[Pin]] = []
    turns: dict[str, int] = {}
    for pin in sorted(set(wanted)):
        turn = turns[pin.name] = turns.get(pin.name, -1) + 1
        if turn == len(made):
            made.append([])
        made[turn].append(pin)
    return made


def ask(program: Sequence[str], hashes: Mapping[Pin, list[str]]) -> list[Advisory]:
    """Look up these versions, of which no two are of one package.

    Args:
        program: pip-audit, with options.
        hashes: by version.

    Raises:
        NotAskedError: With the last line that pip-audit wrote.
    """
    lines = [" \\\n    ".join([f"{pin.name}=={pin.version}", *given]) for pin, given in hashes.items()]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        how = ["--requirement", file.name, "--require-hashes", "--disable-pip", "--strict", "--format", "json"]
        done = subprocess.run([*program, *how], capture_output=True, text=True, check=False)
    try:
        answers = cast("list[_Dependency]", json.loads(done.stdout)["dependencies"])
        found = {Pin(one["name"], one["version"]): one["vulns"] for one in answers}
    except (ValueError, KeyError, TypeError):
        raise NotAskedError(done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}") from None
    if missing := hashes.keys() - found.keys():
        raise NotAskedError(f"pip-audit left out {', '.join(f'{pin.name} {pin.version}' for pin in sorted(missing))}")
    return [
        Advisory(pin, (vulnerability["id"], *vulnerability["aliases"]), tuple(vulnerability["fix_versions"]))
        for pin, vulnerabilities in found.items()
        for vulnerability in vulnerabilities
    ]


def main(arguments: Sequence[str]) -> int:
    """Look up all pins, and print what is known of them. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="make audit", description="Known vulnerabilities of the pinned versions.")
    parser.add_argument("program", metavar="PIP_AUDIT", help="path of pip-audit")
    parser.add_argument("--osv-url", default=_OSV, help="where an OSV database answers queries (default: %(default)s)")
    options = parser.parse_args(arguments)
    program = [options.program, "--vulnerability-service", "osv", "--osv-url", options.osv_url]
    program += ["--timeout", _TIMEOUT, "--progress-spinner", "off"]
    files = {path.name: pins(path.read_text()) for path in sorted(FOLDER.glob("*.txt"))}
    hashes = {pin: given for found in files.values() for pin, given in found.items()}
    try:
        found = [one for part in parts(hashes) for one in ask(program, {pin: hashes[pin] for pin in part})]
    except NotAskedError as failed:
        print(f"cannot look up the pinned versions at {options.osv_url} (is there a connection to it?): {failed}")
        return 2
    for one in found:
        print(one.text(name for name, of_file in files.items() if one.pin in of_file))
    count = f"{len(found) or 'no'} known {'vulnerability' if len(found) < 2 else 'vulnerabilities'}"
    print(f"{count} in {len(hashes)} pinned versions")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
