"""Every package that develops, tests or shows flagcache is pinned, with hashes, for every supported Python."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.newest import Release, at_fault, newer
from tests.noxfile import MATRIX, PROJECT, pins_of, requirements
from tests.pins import FOLDER, SETS, pinned, pythons

ROOT = Path(__file__).parents[2]


def _environment(python: str) -> dict[str, str]:
    return {"python_version": python, "python_full_version": f"{python}.20", "extra": ""}


def _group(name: str) -> Iterator[str]:
    """What a group asks for, the groups in it included."""
    for one in PROJECT["dependency-groups"][name]:
        if isinstance(one, str):
            yield one
        else:
            yield from _group(one["include-group"])


def _asked_for(name: str) -> list[Requirement]:
    """What one file of pins has to satisfy."""
    wanted, project = SETS[name], PROJECT["project"]
    texts: list[str] = [] if wanted.alone else project["dependencies"]
    extras = chain(*(project["optional-dependencies"][extra] for extra in wanted.extras))
    groups = chain(*(_group(group) for group in wanted.groups))
    return [Requirement(text) for text in chain(texts, extras, groups, wanted.further)]


def _unmet(name: str, python: str) -> Iterator[str]:
    environment = _environment(python)
    pins = pinned(name, environment)
    for one in _asked_for(name):
        if one.marker is not None and not one.marker.evaluate(environment):
            continue
        version = pins.get(canonicalize_name(one.name))
        if version is None or not one.specifier.contains(version):
            yield f"{name}.txt, Python {python}: {one} is pinned to {version}"


def test_each_file_is_of_a_set_that_is_renewed() -> None:
    """`make pins` writes all files of pins, and there are no others."""
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.txt" for name in SETS}


@pytest.mark.parametrize("name", SETS)
def test_what_pyproject_asks_for_is_pinned(name: str) -> None:
    """Each supported Python has a pin, at a version that pyproject.toml and a line of the matrix allow."""
    least = SETS[name].python or pythons()[0]
    unmet = chain(*(_unmet(name, python) for python in pythons()[pythons().index(least) :]))
    assert not list(unmet), "`make pins` renews them"


@pytest.mark.parametrize("name", SETS)
def test_pins_are_exact_and_hashed(name: str) -> None:
    """Each pin has one version and its hashes, and nothing from the machine on which it was written."""
    text = (FOLDER / f"{name}.txt").read_text()
    bare = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)
    for entry in re.split(r"\n(?=\S)", bare.strip()):
        first, *hashes = (line.strip(" \\") for line in entry.splitlines())
        assert re.fullmatch(r"[a-z0-9-]+==[\w.!+]+( ; .+)?", first), first
        assert hashes, f"{first} has no hash"
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), first
    assert not re.search(r"https?:|file:|/|--index|--find", text.replace("/dev", ""))


def test_each_line_of_the_matrix_has_pins() -> None:
    """A line has its own pins or the newest ones; a line with its own pins needs them."""
    for name, line in MATRIX.items():
        assert SETS[pins_of(name)].further == tuple(requirements(line))


def test_what_the_project_is_built_with_is_pinned() -> None:
    """The project is installed without isolation, so that its build requirements come from the pins."""
    assert set(PROJECT["build-system"]["requires"]) <= set(PROJECT["dependency-groups"]["build"])


@pytest.mark.parametrize("script", [".ci/run", "Makefile", "tests/noxfile.py"])
def test_nothing_else_is_installed(script: str) -> None:
    """Every `pip install` is of pins or of the project alone, except in `make newest`."""
    text = re.sub(r"^define unpinned\n.*?^endef$", "", (ROOT / script).read_text(), flags=re.MULTILINE | re.DOTALL)
    installs = re.findall(r"pip install .*|session\.install\(.*", text)
    assert installs
    assert [line for line in installs if "--no-deps" not in line] == []


# --- which release is at fault ---------------------------------------------------------------------------------------


def _releases(count: int) -> list[Release]:
    return [Release(f"lib-{number}", "2", "1") for number in range(count)]


@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_the_one_release_at_fault_is_found(count: int) -> None:
    """The release at fault is found, whichever it is."""
    releases = _releases(count)
    for fault in releases:
        assert at_fault(releases, lambda back, fault=fault: fault in back) == fault  # type: ignore[misc]


def test_two_releases_at_fault_are_found_one_after_the_other() -> None:
    """If two releases must be put back, the one that makes the difference last is named."""
    releases = _releases(9)
    assert at_fault(releases, lambda back: {releases[2], releases[6]} <= set(back)) == releases[6]


def test_no_release_is_at_fault_for_what_fails_anyway() -> None:
    """If nothing is newer than the pins, no release is named."""
    asked: list[Sequence[Release]] = []

    def passes(back: Sequence[Release]) -> bool:
        asked.append(back)
        return False

    releases = _releases(5)
    assert at_fault(releases, passes) is None
    assert asked == [releases]
    assert at_fault([], passes) is None


def test_what_is_newer_is_told_by_name() -> None:
    """Names what the project requires itself, and leaves out what is not installed, not pinned or older."""
    installed = {"a": "2", "b": "1.10", "c": "1", "old": "1", "z": "9", "new": "1"}
    pins = {"a": "1", "b": "1.9", "c": "1", "old": "2", "z": "8", "gone": "1"}
    named = [Release("z", "9", "8"), Release("a", "2", "1"), Release("b", "1.10", "1.9")]
    assert newer(installed, pins, ["z"]) == named
