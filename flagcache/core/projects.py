"""Which of a vendor's projects definitions belong to, as far as each side knows it: pure.

A project is told by words `aspect=value`, such as `team=1 key=3fb2`. What the definitions show (`team`) counts more
than what a client was given (`key`): a project's token may be changed, its number stays.
"""

from __future__ import annotations

__all__ = ["join_projects", "projects_differ"]


def projects_differ(ours: str, theirs: str) -> bool:
    """Whether these are two projects: the first aspect that both sides know decides."""
    known, others = _aspects(ours), _aspects(theirs)
    return next((known[aspect] != others[aspect] for aspect in known if aspect in others), False)


def join_projects(first: str, second: str) -> str:
    """What two sources know of one project, together; where they differ the first is right."""
    joined = {**_aspects(second), **_aspects(first)}
    return " ".join(f"{aspect}={value}" if aspect else value for aspect, value in joined.items())


def _aspects(project: str) -> dict[str, str]:
    found = {aspect: value for aspect, _, value in (word.rpartition("=") for word in project.split())}
    return dict(sorted(found.items(), key=lambda item: item[0] != "team"))
