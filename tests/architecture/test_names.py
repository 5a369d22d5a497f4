"""Names: the field's word for each thing, and none of the private words that stood for it before."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("flagcache", "providers/flagcache_posthog")

OF_THE_ENGINE = {
    "Answer": "PollOutcome",
    "Archive": "LastKnownGood",
    "Attendant": "Background",
    "Contact": "StoreView",
    "Duties": "Schedule",
    "Errand": "PollOutcome",
    "Errands": "ThreadGrants",
    "Exchange": "StorePoller",
    "Fetching": "FetchThread",
    "Generations": "KeyCompatibility",
    "Heard": "VerifiedReply",
    "Ledger": "ProcessState",
    "Plan": "CacheConfig",
    "Pulse": "ClientActivity",
    "Reader": "ReplyVerifier",
    "Reports": "Publisher",
    "Tier": "ManagedStore",
    "Tiers": "FailoverStores",
    "abstains": "must_not_lead",
    "adopting": "being_adopted",
    "ask_again": "on_reconnect",
    "ask_for": "build_poll",
    "attend": "run_due",
    "blank": "has_no_flags",
    "closed_again": "retry_at",
    "guarded": "log_exceptions",
    "hand": "may_hand_over",
    "heard": "apply_reply",
    "heed": "on_notice",
    "hold": "adopt",
    "holds": "has",
    "home": "store_name",
    "lacks": "differs_from",
    "note_left": "backoff_left",
    "note_length": "backoff_length",
    "note_stamp": "backoff_stamp",
    "note_status": "backoff_status",
    "note_until": "backoff_until",
    "overtaken": "superseded",
    "polled": "note_poll",
    "told": "from_store",
}
OF_THE_PROVIDERS = {
    "BrokenPromiseError": "DemoFailedError",
    "Desk": "Backend",
    "Lifeline": "RequestDeadline",
    "PlainClient": "HeadlessClient",
    "Stage": "DemoEnvironment",
    "Succession": "LeaderChange",
    "Tally": "CallCounts",
    "Wiring": "WorkerConfig",
    "desk": "backend",
    "lacks_key": "log_missing_key",
    "ledger": "counts",
    "lifeline": "deadline",
    "look_for_misfits": "check_bypasses",
    "makers": "client_factories",
    "meet": "record_client",
    "meet_keyless": "record_keyless_clients",
    "names_mistakes": "refuses_unknown_options",
    "own_memory": "process_memory_spec",
    "polled_past": "bypasses_cache",
    "polls_past": "detect_bypass",
    "say_goodbye": "leave_fleet",
    "stage": "environment",
    "stray": "orphan_poller",
    "stray_of": "stop_orphan_poller",
    "tally": "calls",
    "tell_polled_past": "log_bypassed_cache",
    "understand": "parse_options",
    "wiring": "config",
}
OLD = OF_THE_ENGINE | OF_THE_PROVIDERS
"""Words that no name may have, without leading underscores, and the words that stand for them now."""

ALLOWED = {
    "hold": ("flagcache_posthog/testing/_backend.py", "flagcache_posthog/testing/control.py"),
    "home": ("flagcache/stores/fallback.py",),
}
"""Names that mean something else, by module: a stand-in's public method that holds responses, and a home directory."""


def _of_class(node: ast.ClassDef) -> Iterator[str]:
    """The fields of a class."""
    for child in node.body:
        targets = child.targets if isinstance(child, ast.Assign) else [getattr(child, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _names(node: ast.AST) -> Iterator[str]:
    """The names that a node defines: of a class, a function, an attribute or a parameter."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    if isinstance(node, ast.ClassDef):
        yield from _of_class(node)
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.attr


def _old_names() -> Iterator[tuple[str, str]]:
    """Each old word that is a name, and where."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = path.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(path.read_text())):
                for name in _names(node):
                    word = name.lstrip("_")
                    if word in OLD and not module.endswith(ALLOWED.get(word, ())):
                        yield word, f"{module}:{getattr(node, 'lineno', 0)}"


FOUND = sorted(_old_names())


@pytest.mark.parametrize("word", sorted(OLD))
def test_no_name_is_an_old_word(word: str) -> None:
    """Classes, functions, attributes and parameters have the new word; the failure says which."""
    places = [where for found, where in FOUND if found == word]
    assert not places, f"{word} is called {OLD[word]}: {', '.join(places)}"
