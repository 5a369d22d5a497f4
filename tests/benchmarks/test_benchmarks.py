"""The benchmark runs, and its counts are right; its times mean nothing in a test."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contestants.registry import CONTESTANTS, EVERYBODY
from benchmarks.questions import QUESTIONS
from benchmarks.runner import report, results
from benchmarks.runner.headline import SHOWN, embedded
from benchmarks.runner.model import Question, Scale
from benchmarks.runner.targets import Figures
from benchmarks.statistics import percentile, ratios, summarize
from tests.support.user_programs import posthog_environment

ROOT = Path(__file__).parents[2]
WORKERS = 3


def _benchmark(*words: str) -> str:
    """Run `python -m benchmarks` in a separate process, as users do; return its output."""
    command = [sys.executable, "-m", "benchmarks", *words]
    done = subprocess.run(
        command, cwd=ROOT, env=posthog_environment(""), capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _samples(run: dict[str, Any], question: str, contestant: str, measure: str) -> list[float]:
    plays = run["questions"][question]["plays"]
    return [value for play in plays if play["contestant"] == contestant for value in play["readings"].get(measure, ())]


def test_a_quick_run_counts_right_and_leaves_all_that_is_published(tmp_path: Path) -> None:
    """Two questions and three contestants: exact counts, the JSON's shape, and tables and plots made only from it."""
    out = tmp_path / "run.json"
    names = "none,example,attached"
    printed = _benchmark("cold_start", "steady", "--quick", "--seed", "7", "--contestants", names, "--out", str(out))
    run = json.loads(out.read_text())

    assert {"format", "made_at", "scale", "versions", "machine", "redis", "contestants", "questions"} == set(run)
    assert (run["scale"]["seed"], run["scale"]["quick"]) == (7, True)
    assert {"python", "posthog", "redis", "flagcache"} <= set(run["versions"])
    assert {"cpu", "cores", "kernel"} <= set(run["machine"])
    assert run["redis"]["redis_version"]
    assert list(run["questions"]) == ["cold_start", "steady"]
    assert {play["contestant"] for play in run["questions"]["steady"]["plays"]} == set(names.split(","))
    for answers in run["questions"].values():
        assert all("failed" not in play and play["redis"]["commandstats"] for play in answers["plays"])

    assert _samples(run, "cold_start", "attached", "requests") == [1]
    assert _samples(run, "cold_start", "attached", "flag_requests") == [10]
    assert _samples(run, "cold_start", "none", "requests") == [WORKERS]
    assert len(_samples(run, "cold_start", "attached", "first_flag")) == WORKERS
    assert 0 < _samples(run, "steady", "attached", "bytes_out")[0] < 300
    assert _samples(run, "steady", "example", "bytes_out")[0] > 50_000  # two of three read the 168 KB at each poll
    assert _samples(run, "steady", "none", "round_trips") == [0]

    assert "| 3 workers | flagcache, attached | 1 | 10 |" in printed
    made = {path: path.read_text() for path in tmp_path.rglob("*") if path.suffix in (".md", ".svg")}
    assert {f"steady-bytes_out-{theme}.svg" for theme in ("light", "dark")} <= {path.name for path in made}
    for path in made:
        path.unlink()
    _benchmark("report", "--out", str(out))
    assert {path: path.read_text() for path in made} == made
    for text in (text for path, text in made.items() if path.suffix == ".svg"):
        assert ET.fromstring(text).tag.endswith("svg")


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=lambda question: question.name)
def test_each_question_is_whole(question: Question) -> None:
    """Every question has cases of both sizes, and existing contestants; its plots show only what it measures."""
    measures = [measure.name for measure in question.measures]
    assert len(set(measures)) == len(measures)
    assert set(question.drawn) <= set(measures)
    assert set(question.contestants) <= set(CONTESTANTS)
    for scale in (Scale(), Scale(quick=True)):
        names = [case.name for case in question.cases(scale)]
        assert len(set(names)) == len(names) > 0


def test_everybody_can_be_a_fleet() -> None:
    """A contestant that only reads is left out of questions that need a whole fleet."""
    assert not {"bare", "reader"} & set(EVERYBODY)


@pytest.mark.parametrize(
    ("samples", "percent", "wanted"),
    [([1.0], 99, 1.0), (range(1, 101), 50, 50), (range(1, 101), 99, 99), (range(1, 11), 90, 9), ([1, 2], 99, 2)],
)
def test_a_percentile_is_a_sample(samples: Iterable[float], percent: float, wanted: float) -> None:
    """A percentile is the smallest sample such that this many percent are no larger."""
    assert percentile(list(samples), percent) == wanted


def test_a_summary_needs_no_order() -> None:
    """Samples come in the order of the plays."""
    summary = summarize([3.0, 1.0, 2.0])
    assert (summary.n, summary.p50, summary.p90, summary.max) == (3, 2.0, 3.0, 3.0)


def test_a_ratio_is_to_the_best_of_the_others() -> None:
    """The ratio of flagcache is to the best other contestant, and that of each other one to the best of the rest."""
    medians = {"none": 8.0, "example": 4.0, "attached": 1.0, "protocol": 2.0}
    assert ratios(medians, ours=("attached", "protocol")) == {
        "none": 2.0,
        "example": 0.5,
        "attached": 0.25,
        "protocol": 0.5,
    }
    assert ratios({"none": 0.0, "attached": 1.0}, ours=("attached",)) == {"none": None, "attached": None}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.25, "seconds", "1.25 s"),
        (0.0123, "seconds", "12.3 ms"),
        (4e-5, "seconds", "40 µs"),
        (0.0, "seconds", "0 s"),
        (151_726.4, "bytes", "151,726"),
        (-0.07, "bytes", "0"),
        (1.0, "", "1"),
        (2.14, "", "2.14"),
        (1.3, "times", "1.30 x"),
    ],
)
def test_values_are_told_with_their_unit(value: float, unit: str, text: str) -> None:
    """Values have three digits, and a unit that suits them."""
    assert report.with_unit(value, unit) == text


def test_a_question_asked_again_takes_the_place_of_its_older_answers() -> None:
    """Only a run with the same machine, versions and size is updated; answers have their dates, and the others stay."""
    older = results.load(results.LATEST)
    again = {**older, "made_at": "2030-01-02T03:04:05+00:00", "questions": {"steady": older["questions"]["change"]}}
    run = results.replaced(older, again)
    assert run["questions"]["steady"]["plays"] == older["questions"]["change"]["plays"]
    assert {**run["questions"], "steady": 0} == {**older["questions"], "steady": 0}
    assert run["made_at"] == older["made_at"]
    assert "Asked again 2030-01-02 03:04." in report.markdown(run)
    for name, strange in (("versions", {"python": "9"}), ("scale", {"rounds": 9}), ("machine", {"cpu": "another"})):
        with pytest.raises(ValueError, match="again"):
            results.replaced(older, {**again, name: older[name] | strange})


def test_what_is_published_is_what_the_committed_run_holds(tmp_path: Path) -> None:
    """README's figures, the tables and all plots are made from results/latest.json, and the folder has nothing else."""
    run = results.load(results.LATEST)
    readme = (ROOT / "README.md").read_text()
    assert embedded(readme, run) == readme
    published = results.LATEST.parent
    made = {path.relative_to(tmp_path): path.read_text() for path in report.write(run, tmp_path)}
    for path, text in made.items():
        assert (published / path).read_text() == text, path
    assert {path.name for path in (published / "plots").iterdir()} == {
        path.name for path in made if path.suffix == ".svg"
    }


def test_the_committed_run_is_whole() -> None:
    """It is not a quick run, it asked every contestant every question, and each line of README has its figures."""
    run = results.load(results.LATEST)
    assert run["scale"]["quick"] is False
    assert run["scale"]["workers"] is None
    for name, question in QUESTIONS.items():
        plays = run["questions"][name]["plays"]
        assert {play["contestant"] for play in plays} == set(question.contestants), name
        assert not [play for play in plays if play["contestant"] in {"attached", "protocol"} and "failed" in play], name
    for shown in SHOWN:
        for contestant in ("example", "republishing", "attached"):
            figures = Figures(run)
            assert figures.get(shown.question, shown.case, contestant, shown.measure, shown.figure) >= 0


def test_the_flags_of_a_request_are_measured_beside_the_sdk() -> None:
    """The command prints both ratios."""
    command = [sys.executable, "-m", "benchmarks.request_flags", "--flags", "20", "--turns", "3"]
    done = subprocess.run(command, cwd=ROOT, env=posthog_environment(""), capture_output=True, text=True, check=True)
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["remote='never'", "remote='needed'"]
