"""Whether two sides know the same project of a vendor."""

from __future__ import annotations

import pytest

from flagcache.core.projects import join_projects, projects_differ, recognised


@pytest.mark.parametrize(
    ("ours", "theirs", "differ"),
    [
        ("team=1 key=a", "team=1 key=a", False),
        ("team=1 key=a", "team=1 key=b", False),  # the token was reset
        ("team=1 key=a", "team=2 key=a", False),  # the token belongs to one project
        ("team=1 key=a", "team=2 key=b", True),
        ("team=1", "team=2", True),
        ("team=1", "key=a", False),  # no aspect that both know
        ("", "team=1", False),
        ("", "", False),
        ("shop", "shop", False),
        ("shop", "blog", True),
    ],
)
def test_projects_differ_if_nothing_that_both_know_is_equal(ours: str, theirs: str, differ: bool) -> None:
    """Two projects differ, in both directions, if no aspect that both know is equal."""
    assert projects_differ(ours, theirs) is differ
    assert projects_differ(theirs, ours) is differ


def test_what_two_sources_know_is_combined() -> None:
    """The team comes first; if they differ, the first source counts."""
    assert join_projects("key=a", "team=1") == join_projects("team=1", "key=a") == "team=1 key=a"
    assert join_projects("team=1", "team=2 key=b") == "team=1 key=b"
    assert join_projects("", "team=2") == "team=2"
    assert join_projects("shop", "") == "shop"


def test_only_a_project_that_is_certainly_the_same_adds_to_ours() -> None:
    """One equal aspect is enough, none is not."""
    assert recognised("key=a", "key=a team=1") == "team=1 key=a"
    assert recognised("key=a", "team=1") == "key=a"
    assert recognised("key=a", "key=b team=1") == "key=a"
