"""`python -m benchmarks`: measure the answers to one question, several, or all, and make tables and plots."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contestants.registry import CONTESTANTS
from benchmarks.questions import QUESTIONS
from benchmarks.runner import report, results
from benchmarks.runner.headline import embedded
from benchmarks.runner.model import Question, Scale
from benchmarks.runner.rounds import Record, play

__all__ = ["main"]

README = Path(__file__).parent.parent / "README.md"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    options = _parser().parse_args(argv)
    if options.question == ["report"]:
        _report(options.out or results.LATEST)
        return
    names = list(QUESTIONS) if options.question == ["all"] else options.question
    unknown = [name for name in names if name not in QUESTIONS]
    if unknown:
        raise SystemExit(f"no such question: {', '.join(unknown)}; there are {', '.join(QUESTIONS)}, all and report")
    scale = Scale(options.rounds or (1 if options.quick else 3), options.workers, options.quick, options.seed)
    out = results.LATEST if options.update else options.out or (results.LATEST if _is_whole(options) else None)
    older = results.load(results.LATEST) if options.update else None
    asked: dict[str, tuple[Question, list[Record]]] = {}
    for name in names:
        asked[name] = (QUESTIONS[name], play(QUESTIONS[name], scale, options.contestants))
        if out is not None:  # after each question, because a run takes hours
            results.save(results.collect(asked, scale), _unfinished(out))
    run = results.collect(asked, scale)
    print(report.markdown(run))
    if out is not None:
        results.save(run if older is None else results.replaced(older, run), _unfinished(out))
        _unfinished(out).replace(out)
        _report(out)


def _unfinished(out: Path) -> Path:
    return out.with_name(f"{out.name}.unfinished")


def _is_whole(options: argparse.Namespace) -> bool:
    """Whether a run may replace the published one."""
    all_asked = options.question == ["all"] and set(options.contestants) == set(CONTESTANTS)
    return all_asked and not options.quick and options.workers is None


def _report(path: Path) -> None:
    run = results.load(path)
    written = report.write(run, path.parent, path.stem)
    if path == results.LATEST:
        README.write_text(embedded(README.read_text(), run))
        written.append(README)
    for each in written:
        print(each, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What a fleet sees, with flagcache and with other providers. `all`, complete and in full size,"
        " writes benchmarks/results/latest.json; `report` makes tables, plots and README's figures from that file.",
    )
    parser.add_argument("question", nargs="+", help=f"all, report, or some of {', '.join(QUESTIONS)}")
    parser.add_argument("--rounds", type=int, help="how often each case is played and kept (default 3)")
    parser.add_argument("--workers", type=int, help="processes of a fleet; by default, as each question sets it")
    parser.add_argument("--quick", action="store_true", help="small and short: only checks the benchmark")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (default 1)")
    parser.add_argument(
        "--update",
        action="store_true",
        help="replace these answers in results/latest.json, which must be of this machine",
    )
    parser.add_argument("--out", type=Path, help="the JSON to write, or to report on; its folder gets the rest")
    parser.add_argument(
        "--contestants",
        type=lambda text: text.split(","),
        default=list(CONTESTANTS),
        help=f"some of {','.join(CONTESTANTS)}",
    )
    return parser


if __name__ == "__main__":
    main()
