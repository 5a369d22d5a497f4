"""Tables and plots, made only from the JSON of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.runner.svg import DARK, LIGHT, Bar, Group, bars
from benchmarks.runner.targets import TARGETS, Figures

__all__ = ["markdown", "with_unit", "write"]

_NEVER = "failed"
_Row = Mapping[str, Any]


def write(run: Mapping[str, Any], folder: Path, name: str = "latest") -> list[Path]:
    """Write `<name>.md` and the plots, `plots/<question>-<measure>-<light or dark>.svg`; return their paths.

    Args:
        run: from `benchmarks.runner.results.load`.
        folder: for all files.
        name: of the table's file.
    """
    plots = folder / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    table = folder / f"{name}.md"
    table.write_text(markdown(run, plots="plots"))
    written = [table]
    for question, answers in run["questions"].items():
        for measure in _drawn(answers):
            groups = _groups(run, answers, measure)
            for theme in (LIGHT, DARK):
                path = plots / f"{question}-{measure['name']}-{theme.name}.svg"
                path.write_text(bars(measure["title"], groups, partial(with_unit, unit=measure["unit"]), theme))
                written.append(path)
    return written


def markdown(run: Mapping[str, Any], plots: str = "") -> str:
    """Return the tables of a run.

    Args:
        run: from `benchmarks.runner.results.load`.
        plots: the folder of the plots, relative to the text; empty: without plots.
    """
    lines = ["# What a fleet sees", "", _provenance(run), "", *_targets(run)]
    for name, answers in run["questions"].items():
        again = f" Asked again {answers['made_at'][:16].replace('T', ' ')}." if "made_at" in answers else ""
        lines += [f"## {name}", "", f"{answers['title']}.{again}", ""]
        if plots:
            lines += [_picture(f"{plots}/{name}-{measure['name']}", measure["title"]) for measure in _drawn(answers)]
            lines += [""] if answers["drawn"] else []
        lines += [*_overview(run, answers), "", *_details(run, answers), ""]
    return "\n".join(lines)


def _targets(run: Mapping[str, Any]) -> Iterable[str]:
    """Return the targets and what was reached. A target that this run did not measure is left out."""
    figures, lines = Figures(run), list[str]()
    for target in TARGETS:
        with contextlib.suppress(KeyError):
            reached = target.value(figures)
            verdict = "yes" if reached <= target.at_most else "**no**"
            aim, found = (with_unit(value, target.unit) for value in (target.at_most, reached))
            lines.append(f"| {target.title} | {aim} | {found} | {verdict} |")
    if lines:
        yield from ("## Targets", "", "| target | at most | reached | met |", "|---|--:|--:|---|", *lines, "")


def with_unit(value: float, unit: str) -> str:
    """Format a value for readers: three digits and a unit."""
    if unit == "seconds":
        if abs(value) >= 1 or value == 0:
            return f"{value:.3g} s"
        return f"{value * 1e3:.3g} ms" if abs(value) >= 1e-3 else f"{value * 1e6:.3g} µs"
    if unit == "times":
        return f"{value:.2f} x"
    if unit == "bytes":
        return f"{round(value):,}"
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.2f}"


def _provenance(run: Mapping[str, Any]) -> str:
    versions, machine, scale = run["versions"], run["machine"], run["scale"]
    server = run["redis"].get("redis_version", "unknown")
    warning = " **A quick run: it shows that the benchmark works; its times mean nothing.**" if scale["quick"] else ""
    return (
        f"Measured {run['made_at'][:10]} on {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']};"
        f" Python {versions['python']}, posthog {versions['posthog']}, redis-py {versions['redis']}, flagcache"
        f" {versions['flagcache']}, Redis {server}; {scale['rounds']} rounds, seed {scale['seed']}, a poll each"
        f" {scale['interval']:g} s.{warning}"
    )


def _overview(run: Mapping[str, Any], answers: Mapping[str, Any]) -> Iterable[str]:
    """Return the medians, one row for each case and contestant, and the p99 of measures with many samples."""
    rows = {(row["case"], row["contestant"], row["measure"]): row for row in answers["summary"]}
    measures = answers["measures"]
    yield "| " + " | ".join(["case", "contestant", *(measure["title"] for measure in measures)]) + " |"
    yield "|" + "---|" * 2 + "--:|" * len(measures)
    for case in dict.fromkeys(play["case"] for play in answers["plays"]):
        for contestant in _present(run, answers, case):
            cells = [_cell(rows.get((case, contestant, measure["name"])), measure) for measure in measures]
            title = run["contestants"][contestant]["title"]
            if any(
                play["contestant"] == contestant and play["case"] == case and "failed" in play
                for play in answers["plays"]
            ):
                title += f" ({_NEVER} at times)"
            yield "| " + " | ".join([case, title, *cells]) + " |"


def _details(run: Mapping[str, Any], answers: Mapping[str, Any]) -> Iterable[str]:
    yield "<details><summary>All percentiles; ratio: the median relative to the best other contestant's</summary>"
    yield ""
    yield "| case | measure | contestant | samples | p50 | p90 | p99 | max | ratio |"
    yield "|---|---|---|--:|--:|--:|--:|--:|--:|"
    measures = {measure["name"]: measure for measure in answers["measures"]}
    for row in answers["summary"]:
        measure = measures[row["measure"]]
        figures = [with_unit(row[name], measure["unit"]) for name in ("p50", "p90", "p99", "max")]
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}"
        title = run["contestants"][row["contestant"]]["title"]
        yield "| " + " | ".join([row["case"], measure["title"], title, str(row["n"]), *figures, ratio]) + " |"
    yield ""
    yield "</details>"


def _cell(row: _Row | None, measure: Mapping[str, Any]) -> str:
    if row is None:
        return ""
    middle = with_unit(row["p50"], measure["unit"])
    return middle if measure["exact"] or row["n"] < 2 else f"{middle} (p99 {with_unit(row['p99'], measure['unit'])})"


def _present(run: Mapping[str, Any], answers: Mapping[str, Any], case: str) -> Sequence[str]:
    """Return the contestants of a case, in their usual order."""
    there = {play["contestant"] for play in answers["plays"] if play["case"] == case}
    return [name for name in run["contestants"] if name in there]


def _drawn(answers: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [measure for measure in answers["measures"] if measure["name"] in answers["drawn"]]


def _groups(run: Mapping[str, Any], answers: Mapping[str, Any], measure: Mapping[str, Any]) -> list[Group]:
    groups: list[Group] = []
    for case in dict.fromkeys(row["case"] for row in answers["summary"]):
        rows = [row for row in answers["summary"] if row["case"] == case and row["measure"] == measure["name"]]
        drawn = [_as_bar(run, row) for row in rows]
        if drawn:
            groups.append(Group(case, drawn))
    return groups


def _as_bar(run: Mapping[str, Any], row: _Row) -> Bar:
    contestant = run["contestants"][row["contestant"]]
    return Bar(contestant["title"], row["p50"], contestant["ours"])


def _picture(path: str, title: str) -> str:
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{path}-dark.svg">'
        f'<img alt="{title}" src="{path}-light.svg"></picture>\n'
    )
