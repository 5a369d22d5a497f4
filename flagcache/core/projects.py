"""Which of a vendor's projects definitions belong to, as far as each side knows. Pure.

A project is described by words `aspect=value`, such as `team=1 key=3fb2`: `team` is in the definitions, `key` is the
clients' token. If both sides know an aspect and it is equal, the project is the same: a token belongs to one project
whatever its flags contain, and a project whose token was reset keeps its number.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["join_projects", "projects_differ", "recognised"]


@lru_cache(maxsize=256)  # each poll asks the same again
def projects_differ(ours: str, theirs: str) -> bool:
    """Whether these are two projects: both sides know some aspect, and none of these is equal."""
    equal = _compared(ours, theirs)
    return bool(equal) and not any(equal)


def join_projects(first: str, second: str) -> str:
    """Combine what two sources know of one project, in a fixed order; if they differ, the first one counts."""
    joined = {**_aspects(second), **_aspects(first)}
    words = sorted(joined.items(), key=lambda item: (item[0] != "team", item[0]))
    return " ".join(f"{aspect}={value}" if aspect else value for aspect, value in words)


def recognised(ours: str, theirs: str) -> str:
    """Return what is known of our project, with what others stored if theirs is certainly the same."""
    return join_projects(ours, theirs) if any(_compared(ours, theirs)) else ours


def _compared(ours: str, theirs: str) -> list[bool]:
    """For each aspect that both sides know: whether it is equal."""
    known, others = _aspects(ours), _aspects(theirs)
    return [known[aspect] == others[aspect] for aspect in known if aspect in others]


def _aspects(project: str) -> dict[str, str]:
    return {aspect: value for aspect, _, value in (word.rpartition("=") for word in project.split())}
