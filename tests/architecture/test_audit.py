"""`make audit` looks up every pinned version, and prints its advisories, or that the look-up failed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.audit import Pin, main, parts, pins
from tests.pins import FOLDER

PROGRAM = """#!{python}
import json, re, sys
names = re.findall(r"^(\\S+)==(\\S+) ", open(sys.argv[sys.argv.index("--requirement") + 1]).read(), re.MULTILINE)
assert len({{name for name, _ in names}}) == len(names)
open({log!r}, "a").writelines(f"{{name}}=={{version}}\\n" for name, version in names)
answers = json.loads({answers!r})
if answers is None:
    sys.exit("Traceback\\nConnectionError: no route")
found = [{{"name": n, "version": v, "vulns": answers.get(f"{{n}}=={{v}}", [])}} for n, v in names if n != {missing!r}]
print(json.dumps({{"dependencies": found, "fixes": []}}))
"""


def make_program(folder: Path, answers: object, missing: str = "") -> tuple[str, Path]:
    """Make a replacement for pip-audit; return it, and the file in which it records the requested versions."""
    program, log = folder / "pip-audit", folder / "log"
    text = PROGRAM.format(python=sys.executable, log=str(log), answers=json.dumps(answers), missing=missing)
    program.write_text(text)
    program.chmod(0o700)
    return str(program), log


def test_every_version_is_looked_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each version is looked up once, whichever Python and system it is for; without advisories the status is 0."""
    program, log = make_program(tmp_path, {})
    assert main([program]) == 0
    lines = [line for path in FOLDER.iterdir() for line in path.read_text().splitlines() if "==" in line.split(" ")[0]]
    pinned = {f"{one.name}{one.specifier}" for one in (Requirement(line.rstrip("\\ ")) for line in lines)}
    assert sorted(log.read_text().splitlines()) == sorted(pinned)
    assert capsys.readouterr().out == f"no known vulnerability in {len(pinned)} pinned versions\n"


def test_an_advisory_is_named_with_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The output has the version, the advisory's names, the fix and the files that pin it; the exit status is 1."""
    pin = next(iter(pins((FOLDER / "pins.txt").read_text())))
    known = {"id": "GHSA-1", "aliases": ["CVE-1"], "fix_versions": ["99"], "description": ""}
    program, _ = make_program(tmp_path, {f"{pin.name}=={pin.version}": [known]})
    assert main([program]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first == f"{pin.name} {pin.version}: GHSA-1, CVE-1; fixed in 99; pinned in pins.txt"
    assert last.startswith("1 known vulnerability in ")


@pytest.mark.parametrize(
    ("answers", "missing", "reason"), [(None, "", "ConnectionError: no route"), ({}, "redis", "left out redis ")]
)
def test_what_was_not_looked_up_is_no_good_news(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answers: object, missing: str, reason: str
) -> None:
    """Without a connection, or with an answer that is not complete, the exit status is 2, and one line says why."""
    program, _ = make_program(tmp_path, answers, missing)
    assert main([program]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("cannot look up the pinned versions at https://api.osv.dev/v1/query (")
    assert reason in line


def test_two_versions_of_one_package_are_in_two_parts() -> None:
    """Markers and comments are left out; equal hashes of one version in several entries are kept once."""
    text = (
        "# a\na==1 ; python_full_version < '3.11' \\\n    --hash=sha256:0\n    # via b\na==2 \\\n    --hash=sha256:1\n"
    )
    found = pins(text + "b==1 \\\n    --hash=sha256:2 \\\n    --hash=sha256:3\n" + text)
    assert found == {
        Pin("a", "1"): ["--hash=sha256:0"],
        Pin("a", "2"): ["--hash=sha256:1"],
        Pin("b", "1"): ["--hash=sha256:2", "--hash=sha256:3"],
    }
    assert parts(found) == [[Pin("a", "1"), Pin("b", "1")], [Pin("a", "2")]]
