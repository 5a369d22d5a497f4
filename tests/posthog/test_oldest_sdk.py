"""The provider contract on the oldest SDK that flagcache supports, in a process that has that one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ET
from importlib import metadata
from pathlib import Path

import pytest

CONTRACT = Path(__file__).with_name("test_provider_contract.py")
MINUTES = 60


def oldest() -> str:
    """The version that flagcache's own metadata name as the lowest."""
    requirement = next(line for line in metadata.requires("flagcache") or [] if line.startswith("posthog"))
    found = re.search(r">=([\d.]+)", requirement)
    assert found, requirement
    return found[1]


def installed(version: str, folder: Path) -> Path:
    """The folder with this SDK alone, installed on the first run and kept; what it needs, the newest has too."""
    if not (folder / "posthog").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        done = subprocess.run(
            [*command, f"posthog=={version}"], capture_output=True, text=True, timeout=5 * MINUTES, check=False
        )
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            reason = f"cannot install posthog {version}: {done.stderr.strip()[-300:]}"
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return folder


@pytest.mark.timeout(6 * MINUTES)
def test_the_oldest_sdk_keeps_the_contract_too(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """All that the newest passes, the oldest passes: as many tests, and it was that version."""
    version, report = oldest(), tmp_path / "report.xml"
    folder = installed(version, pytestconfig.cache.mkdir(f"posthog-{version}"))
    program = shutil.which("pytest", path=sysconfig.get_path("scripts"))
    assert program, "no pytest beside this interpreter"
    paths = os.pathsep.join(map(str, pytestconfig.getini("pythonpath")))
    done = subprocess.run(
        [program, "-q", "-o", f"pythonpath={paths}", f"--junitxml={report}", str(CONTRACT)],
        cwd=pytestconfig.rootpath,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=5 * MINUTES,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    suite = next(ET.parse(report).iter("testsuite"))  # our own report
    told = {entry.get("name"): entry.get("value") for entry in suite.iter("property")}
    assert told.get("posthog") == version
    assert int(suite.get("tests", "0")) - int(suite.get("skipped", "0")) > 100
