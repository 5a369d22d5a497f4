"""The user of a request: the order of the sources, and what is not an id."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from posthog.contexts import identify_context, new_context

from flagcache_posthog.identity import cookie_name, distinct_id_of, from_cookie, from_session

KEY = "phc_a+b/c="
NAME = "ph_phc_aPLbSLcEQ_posthog"


def _cookie(**state: object) -> dict[str, str]:
    return {NAME: quote(json.dumps(state))}


EVERYTHING: dict[str, Any] = {
    "explicit": "explicit",
    "user": 7,
    "cookies": _cookie(distinct_id="of-the-cookie"),
    "project_api_key": KEY,
    "session": "key",
}


def test_the_chain() -> None:
    """The first of these gives the id: the explicit one, the user, the SDK's context, the cookie, the session."""
    given: dict[str, Any] = dict(EVERYTHING)
    with new_context(fresh=True):
        identify_context("of-the-context")
        assert distinct_id_of(**given) == "explicit"
        given["explicit"] = ""
        assert distinct_id_of(**given) == "7"
        given["user"] = lambda: None
        assert distinct_id_of(**given) == "of-the-context"
    with new_context(fresh=True):
        assert distinct_id_of(**given) == "of-the-cookie"
        given["cookies"] = {}
        assert distinct_id_of(**given) == from_session("key")
        assert distinct_id_of(cookies=_cookie(distinct_id="of-the-cookie")) is None
        assert distinct_id_of(user=lambda: UUID(int=1)) == "00000000-0000-0000-0000-000000000001"
        assert distinct_id_of(user=0) == "0"
        assert distinct_id_of() is None


def test_later_ones_are_not_looked_up() -> None:
    """A user or a session may cost a query."""

    def never() -> str:
        pytest.fail("it was looked up")

    assert distinct_id_of(explicit="a", user=never, session=never) == "a"
    assert distinct_id_of(user=lambda: "b", session=never) == "b"


def test_a_sessions_key_stays_here() -> None:
    """A session's key is replaced by a digest, the same each time."""
    found = from_session("secret-key")
    assert found == distinct_id_of(session=lambda: "secret-key")
    assert found is not None
    assert "secret" not in found
    assert found != from_session("another-key")
    assert from_session("") is None


def test_the_cookie() -> None:
    """The cookie has the name and form of posthog-js, quoted or not."""
    assert cookie_name(KEY) == NAME
    assert from_cookie(_cookie(distinct_id="0192-anon", **{"$device_id": "d"}), KEY) == "0192-anon"
    assert from_cookie({NAME: json.dumps({"distinct_id": "ünquoted"})}, KEY) == "ünquoted"
    assert from_cookie({"ph_other_posthog": quote(json.dumps({"distinct_id": "x"}))}, KEY) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "%",
        "7",
        "[]",
        '"text"',
        "null",
        "{}",
        '{"distinct_id": null}',
        '{"distinct_id": 7}',
        '{"distinct_id": {"a": 1}}',
        '{"distinct_id": ""}',
        '{"distinct_id": "  "}',
        '{"distinct_id": "$posthog_cookieless"}',
        '{"distinct_id": "a\\u0000b"}',
        '{"distinct_id": "a\\nb"}',
        json.dumps({"distinct_id": "x" * 201}),
        json.dumps({"distinct_id": "x", "more": "y" * 4096}),
        "[" * 4000,
    ],
)
def test_a_cookie_that_gives_no_id(text: str) -> None:
    """A browser may send anything: what is not an id counts as none, and raises nothing."""
    for sent in (text, quote(text)):
        assert from_cookie({NAME: sent}, KEY) is None


def test_a_cookie_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many flags a request reads: parsing takes about as long as evaluating a flag."""
    parsed: list[str] = []

    def loads(text: str) -> object:
        parsed.append(text)
        return json.JSONDecoder().decode(text)

    monkeypatch.setattr("flagcache_posthog.identity.json.loads", loads)
    cookies = _cookie(distinct_id="read-three-times")
    assert {distinct_id_of(cookies=cookies, project_api_key=KEY) for _ in range(3)} == {"read-three-times"}
    assert len(parsed) == 1


@pytest.mark.parametrize("user", [False, True])
def test_a_bool_is_no_user(user: bool) -> None:
    """`user.is_authenticated and user.pk` is False for all visitors, who are not one person."""
    assert distinct_id_of(user=user, session="key") == from_session("key")
