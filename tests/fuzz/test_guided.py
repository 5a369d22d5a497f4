from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fuzz.damaged_caches import InputCount

RUNS = 6_000


@pytest.mark.skipif(
    find_spec("atheris") is None, reason="there is no atheris for this Python; hypothesis does its part"
)
def test_the_codec_under_guided_fuzzing(tmp_path: Path, count: InputCount) -> None:
    """Bytes that reach ever more of the codec bring out definitions or an `EnvelopeError`, and nothing else."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", f"-runs={RUNS}", "-max_len=4096", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": ".:providers", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert f"Done {RUNS} runs" in ended.stderr
    count.inputs = RUNS
