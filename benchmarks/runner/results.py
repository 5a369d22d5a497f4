"""The JSON of a run: the machine, all samples, and their summary. All published figures are made from it."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.contestants.registry import CONTESTANTS
from benchmarks.runner.model import Question, Scale
from benchmarks.runner.rounds import Record
from benchmarks.statistics import ratios, summarize

__all__ = ["FORMAT", "LATEST", "collect", "load", "replaced", "save"]

FORMAT = 1
LATEST = Path(__file__).parents[1] / "results" / "latest.json"

_DIGITS = 6
"""Number of significant digits that are kept of a sample."""

_NUMBERS = re.compile(r"\[[-+.,\seE\d]+\]")

_SERVER = ("redis_version", "valkey_version", "os", "arch_bits", "gcc_version", "multiplexing_api", "io_threads_active")
_MEMORY = ("used_memory", "used_memory_peak", "used_memory_dataset", "mem_fragmentation_ratio", "mem_allocator")


def collect(asked: Mapping[str, tuple[Question, Sequence[Record]]], scale: Scale) -> dict[str, Any]:
    """Build the JSON of a whole run.

    Args:
        asked: the questions and their plays, by name.
        scale: the size of the run.
    """
    records = [record for _, seen in asked.values() for record in seen]
    return {
        "format": FORMAT,
        "made_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "scale": {**asdict(scale), "interval": scale.interval},
        "versions": _versions(),
        "machine": _machine(),
        "redis": _server(records),
        "contestants": {
            each.name: {"title": each.title, "store": each.store, "ours": each.ours} for each in CONTESTANTS.values()
        },
        "questions": {name: _question(question, seen, scale) for name, (question, seen) in asked.items()},
    }


def replaced(run: Mapping[str, Any], again: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run in which new answers to some questions replace the older ones; each has its own date.

    Args:
        run: the older one.
        again: the run with the new answers.

    Raises:
        ValueError: they can't be combined: another machine, other versions or another size.
    """
    for name in ("versions", "scale", "redis"):
        if run[name] != again[name]:
            raise ValueError(f"the older run has other {name}: {run[name]}, not {again[name]}; ask all questions again")
    if any(run["machine"][name] != again["machine"][name] for name in ("cpu", "cores", "kernel")):
        raise ValueError("the older run was made on another machine; ask everything again")
    new = {name: {**question, "made_at": again["made_at"]} for name, question in again["questions"].items()}
    return {**run, "questions": {**run["questions"], **new}}


def save(run: Mapping[str, Any], path: Path) -> None:
    """Write a run, each list of samples on one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(run, indent=1, allow_nan=False)
    path.write_text(_NUMBERS.sub(lambda found: " ".join(found.group().split()), text) + "\n")


def load(path: Path) -> dict[str, Any]:
    """Read a run.

    Raises:
        ValueError: it has another format.
    """
    run: dict[str, Any] = json.loads(path.read_text())
    if run.get("format") != FORMAT:
        raise ValueError(f"{path} has format {run.get('format')!r}, not {FORMAT}: run the benchmark anew")
    return run


def _question(question: Question, records: Sequence[Record], scale: Scale) -> dict[str, Any]:
    return {
        "title": question.title,
        "measures": [asdict(measure) for measure in question.measures],
        "cases": [asdict(case) for case in question.cases(scale)],
        "drawn": list(question.drawn),
        "summary": list(_summary(question, records)),
        "plays": [_play(record) for record in records],
    }


def _play(record: Record) -> dict[str, Any]:
    return {
        "case": record.case,
        "contestant": record.contestant,
        "round": record.round,
        "readings": {name: [_short(sample) for sample in samples] for name, samples in record.readings.items()},
        **({"failed": record.failed} if record.failed else {}),
        "redis": {
            "memory": _picked(record.redis.get("memory", {}), _MEMORY),
            "commandstats": {
                name.removeprefix("cmdstat_"): {"calls": stats["calls"], "usec": stats["usec"]}
                for name, stats in record.redis.get("commandstats", {}).items()
            },
        },
    }


def _summary(question: Question, records: Sequence[Record]) -> Iterable[dict[str, Any]]:
    """Return one row for each case, measure and contestant with samples."""
    ours = [each.name for each in CONTESTANTS.values() if each.ours]
    for case in dict.fromkeys(record.case for record in records):
        for measure in question.measures:
            found = {
                name: summarize(samples)
                for name in question.contestants
                if (samples := _samples(records, case, name, measure.name))
            }
            compared = ratios({name: summary.p50 for name, summary in found.items()}, ours)
            for name, summary in found.items():
                row = {"case": case, "measure": measure.name, "contestant": name, **asdict(summary)}
                yield {key: _short(value) if isinstance(value, float) else value for key, value in row.items()} | {
                    "ratio": None if (ratio := compared[name]) is None else _short(ratio)
                }


def _samples(records: Iterable[Record], case: str, contestant: str, measure: str) -> list[float]:
    return [
        sample
        for record in records
        if record.case == case and record.contestant == contestant
        for sample in record.readings.get(measure, ())
    ]


def _versions() -> dict[str, str]:
    libraries = {name: version(name) for name in ("posthog", "redis", "flagcache", "msgpack", "requests")}
    return {"python": platform.python_version(), "implementation": sys.implementation.name, **libraries}


def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "kernel": platform.release(),
        "system": platform.system(),
        "load_at_end": os.getloadavg()[0],
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _server(records: Iterable[Record]) -> dict[str, Any]:
    servers = [record.redis["server"] for record in records if "server" in record.redis]
    return _picked(servers[0], _SERVER) if servers else {}


def _picked(fields: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: fields[name] for name in names if name in fields}


def _short(value: float) -> float:
    number = float(f"{value:.{_DIGITS}g}")
    return int(number) if number.is_integer() else number
