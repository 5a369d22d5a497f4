"""Which of a vendor's projects definitions belong to, as far as each side knows it: pure.

A project is known by words `aspect=value`, such as `team=1 key=3fb2`: what the definitions show (`team`), and what the
clients were given (`key`). One aspect that both sides know and that is equal makes it the same project: a token belongs
to one project whatever a flag of it shows, and a project whose token was reset keeps its number.
"""

from __future__ import annotations

__all__ = ["join_projects", "projects_differ", "recognised"]


def projects_differ(ours: str, theirs: str) -> bool:
    """Whether these are two projects: something is known of both, and none of that is equal."""
    equal = _compared(ours, theirs)
    return bool(equal) and not any(equal)


def join_projects(first: str, second: str) -> str:
    """What two sources know of one project, together, in one order; where they differ the first is right."""
    joined = {**_aspects(second), **_aspects(first)}
    words = sorted(joined.items(), key=lambda item: (item[0] != "team", item[0]))
    return " ".join(f"{aspect}={value}" if aspect else value for aspect, value in words)


def recognised(ours: str, theirs: str) -> str:
    """What is known of our project once others have stored theirs: more, if theirs is certainly the same."""
    return join_projects(ours, theirs) if any(_compared(ours, theirs)) else ours


def _compared(ours: str, theirs: str) -> list[bool]:
    """Of each aspect that both sides know whether it is equal."""
    known, others = _aspects(ours), _aspects(theirs)
    return [known[aspect] == others[aspect] for aspect in known if aspect in others]


def _aspects(project: str) -> dict[str, str]:
    return {aspect: value for aspect, _, value in (word.rpartition("=") for word in project.split())}
