"""The questions: each module has one, its `QUESTION`."""

from __future__ import annotations

from benchmarks.questions import (
    change,
    cold_start,
    deploy,
    evaluation,
    imports,
    leader,
    memory,
    outage,
    serverless,
    steady,
)
from benchmarks.runner.model import Question

__all__ = ["QUESTIONS"]

QUESTIONS: dict[str, Question] = {
    module.QUESTION.name: module.QUESTION
    for module in (
        cold_start,
        steady,
        change,
        leader,
        outage,
        deploy,
        serverless,
        memory,
        evaluation,
        imports,
    )
}
"""By name, in the order of the report."""
