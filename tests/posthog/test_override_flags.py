"""Flags with fixed values: every way to read them, on every thread, and what is left afterwards."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import unittest
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import posthog as module_level
import pytest
from posthog import Posthog
from posthog.client import Client

from flagcache_posthog.testing import UnknownFlagError, override_flags
from flagcache_posthog.testing._override_sdk import READS
from tests.support.user_programs import posthog_environment

NOWHERE = "http://127.0.0.1:1"
AT_IMPORT = Posthog("phc_import", secret_key="phs_x", host=NOWHERE, send=False)
"""A client that is there before any test begins."""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def _client(**options: Any) -> Posthog:  # noqa: ANN401 - those of the SDK
    return Posthog("phc_test", host=NOWHERE, send=False, **options)


@pytest.fixture(params=["import", "inside", "disabled", "no key", "local only", "cached"])
def make_client(request: pytest.FixtureRequest) -> Callable[[], Posthog]:
    """Makes a client of each kind: the reads are the same."""
    made: dict[str, Callable[[], Posthog]] = {
        "import": lambda: AT_IMPORT,
        "inside": lambda: _client(secret_key="phs_x"),
        "disabled": lambda: _client(disabled=True),
        "no key": lambda: Posthog("", host=NOWHERE),
        "local only": lambda: _client(secret_key="phs_x", enable_local_evaluation=False),
        "cached": lambda: _client(secret_key="phs_x", flag_fallback_cache_url="memory://local/?ttl=300"),
    }
    return made[request.param]


def _read_in_every_way(client: Any, key: str) -> dict[str, object]:  # noqa: ANN401 - its answers have many forms
    """The value, or the payload, of one flag by each method that there is."""
    snapshot = client.evaluate_flags("user")
    named = client.evaluate_flags("user", flag_keys=[key], groups={"company": "acme"}, person_properties={"plan": "x"})
    by_hand = client.get_flags_decision("user")["flags"][key]
    both = client.get_all_flags_and_payloads("user", only_evaluate_locally=True)
    remote = client.get_feature_flags_and_payloads("user")
    result = client.get_feature_flag_result(key, "user")
    return {
        "get_feature_flag": client.get_feature_flag(key, "user"),
        "locally": client.get_feature_flag(key, "user", only_evaluate_locally=True, send_feature_flag_events=False),
        "with groups": client.get_feature_flag(key, "user", groups={"company": "acme"}, device_id="d"),
        "result": result.get_value(),
        "snapshot": snapshot.get_flag(key),
        "named": named.get_flag(key),
        "all": client.get_all_flags("user")[key],
        "all of these": client.get_all_flags("user", flag_keys_to_evaluate=[key])[key],
        "all and payloads": both["featureFlags"][key],
        "variants": client.get_feature_variants("user")[key],
        "decision": by_hand.get_value(),
        "remote": remote["featureFlags"][key],
        "enabled": client.feature_enabled(key, "user"),
        "is_enabled": snapshot.is_enabled(key),
        "payload": client.get_feature_flag_payload(key, "user"),
        "result's payload": result.payload,
        "snapshot's payload": snapshot.get_flag_payload(key),
        "remote config": client.get_remote_config_payload(key),
        "payload's text": json.loads(client.get_feature_payloads("user").get(key) or "null"),
        "remote payload's text": json.loads(remote["featureFlagPayloads"].get(key) or "null"),
        "payload's text with all": json.loads(both["featureFlagPayloads"].get(key) or "null"),
    }


VALUES = 12
"""So many of these reads give the value; the next two whether it is on; the others the payload."""


@pytest.mark.parametrize(
    ("value", "payload"), [(True, {"n": 1}), (True, None), ("b", [1, "two"]), ("b", "text"), (False, None)]
)
def test_every_way_to_read_a_flag(make_client: Callable[[], Posthog], value: bool | str, payload: object) -> None:
    """Every method of every kind of client returns the value."""
    with override_flags({"price": value}, payloads={} if payload is None else {"price": payload}):
        read = list(_read_in_every_way(make_client(), "price").values())
    assert read[:VALUES] == [value] * VALUES
    assert read[VALUES : VALUES + 2] == [bool(value)] * 2
    texts = (payload, json.dumps(payload))  # posthog 7.37.3 gives a snapshot's payload as text
    assert all(each in texts for each in read[VALUES + 2 :])


def test_module_level_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """`posthog.feature_enabled` and its like have the values, with the settings that the docs recommend."""
    monkeypatch.setattr(module_level, "default_client", None)
    monkeypatch.setattr(module_level, "api_key", "phc_module")
    monkeypatch.setattr(module_level, "disabled", True)
    with override_flags({"price": "b"}, payloads={"price": 7}):
        assert module_level.get_feature_flag("price", "user") == "b"
        assert module_level.feature_enabled("price", "user") is True
        assert module_level.get_all_flags("user") == {"price": "b"}
        assert module_level.get_feature_flag_payload("price", "user") == 7
    assert module_level.get_feature_flag("price", "user") is None


def test_every_method_that_reads_flags_is_known() -> None:
    """A method that a later SDK adds must be looked at: is it one that reads flags?"""
    others = {"feature_flags", "load_feature_flags"}
    named = {name for name in dir(Client) if "flag" in name or name == "get_remote_config_payload"}
    public = {name for name in named if not name.startswith("_")}
    assert public - others <= READS


def test_clients_for_asyncio() -> None:
    """Clients for asyncio have the values too, without a request."""
    async_posthog: Any = pytest.importorskip("posthog.async_client").AsyncPosthog  # posthog 7.37.3 has none

    @override_flags({"price": "b"}, payloads={"price": 7})
    async def read(key: str) -> list[object]:
        client = async_posthog("phc_test", host=NOWHERE, send=False)
        flags = await client.evaluate_flags("user", flag_keys=[key], disable_geoip=True)
        return [flags.get_flag(key), flags.get_flag_payload(key), await client.get_remote_config_payload(key)]

    assert asyncio.run(read("price")) == ["b", 7, 7]
    with pytest.raises(UnknownFlagError, match="'prise'"):
        asyncio.run(read("prise"))


def test_every_thread_sees_it() -> None:
    """Threads that ran before, such as a live server's, see the override, and so do tasks."""
    begin, end, seen = threading.Event(), threading.Event(), list[object]()

    def work() -> None:
        begin.wait(10)
        seen.append(AT_IMPORT.get_feature_flag("price", "user"))
        end.set()

    thread = threading.Thread(target=work)
    thread.start()

    async def task() -> None:
        seen.append(await asyncio.to_thread(AT_IMPORT.get_feature_flag, "price", "user"))
        seen.append(AT_IMPORT.get_feature_flag("price", "user"))

    with override_flags({"price": "b"}):
        begin.set()
        assert end.wait(10)
        asyncio.run(task())
    thread.join()
    assert seen == ["b", "b", "b"]


def test_nested_and_restored_after_an_exception() -> None:
    """The later one counts; each ends by itself, in whichever order; nothing of it stays on the SDK's classes."""
    before = dict(vars(Client))
    client = _client()
    with override_flags({"a": True, "b": "x"}, payloads={"b": 1}):
        with pytest.raises(ZeroDivisionError), override_flags({"b": "y", "c": True}):
            _fail_after(client.get_all_flags("user") == {"a": True, "b": "y", "c": True})
        with override_flags({"b": "x"}):
            assert client.get_feature_flag_payload("b", "user") is None
        assert client.get_all_flags("user") == {"a": True, "b": "x"}
        assert client.get_feature_flag_payload("b", "user") == 1
    first, second = override_flags({"a": True}), override_flags({"a": False})
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert client.get_all_flags("user") == {"a": False}
    second.__exit__(None, None, None)
    assert dict(vars(Client)) == before
    assert client.feature_flags is None


_Read = Callable[[Posthog], object]
_READS: dict[str, _Read] = {
    "value": lambda client: client.get_feature_flag("new-chekout", "user"),
    "locally": lambda client: client.feature_enabled("new-chekout", "user", only_evaluate_locally=True),
    "payload": lambda client: client.get_feature_flag_payload("new-chekout", "user"),
    "result": lambda client: client.get_feature_flag_result("new-chekout", "user"),
    "of all": lambda client: client.get_all_flags("user", flag_keys_to_evaluate=["new-chekout"]),
    "remote config": lambda client: client.get_remote_config_payload("new-chekout"),
    "named": lambda client: client.evaluate_flags("user", flag_keys=["new-checkout", "new-chekout"]),
    "is_enabled": lambda client: client.evaluate_flags("user").is_enabled("new-chekout"),
    "get_flag": lambda client: client.evaluate_flags("user").get_flag("new-chekout"),
    "get_flag_payload": lambda client: client.evaluate_flags("user").get_flag_payload("new-chekout"),
}


@pytest.mark.parametrize("way", _READS)
def test_an_unknown_flag_fails_by_name(way: str) -> None:
    """An unknown flag fails at once, and again at the end if the code swallowed that, also behind another error."""
    client, read, expected = _client(), _READS[way], "flag 'new-chekout' was read.*did you mean 'new-checkout'"
    with pytest.raises(UnknownFlagError, match=expected), override_flags({"new-checkout": True}):
        read(client)
    swallowed = override_flags({"new-checkout": True})
    with pytest.raises(UnknownFlagError, match=expected), swallowed:
        assert _swallow(read, client)
    with pytest.raises(UnknownFlagError, match=expected) as caught, swallowed:
        _fail_after(_swallow(read, client))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with swallowed:
        assert client.get_feature_flag("new-checkout", "user") is True


def test_a_remote_read_of_an_unknown_flag_fails_at_the_end() -> None:
    """The SDK swallows whatever its request raises."""
    with pytest.raises(UnknownFlagError, match="'banner'"), override_flags({"a": True}):
        assert _client().get_feature_variants("user", flag_keys_to_evaluate=["banner"]) == {}


def _swallow(read: _Read, client: Posthog) -> bool:
    """Read as an application may; whether it failed."""
    try:
        read(client)
    except Exception:  # noqa: BLE001 - as it may
        return True
    return False


def _fail_after(passed: bool) -> None:
    assert passed
    raise ZeroDivisionError


@pytest.mark.parametrize("allow", [True, ["banner", "other"]])
def test_unknown_flags_may_be_allowed(allow: bool | list[str]) -> None:
    """Allowed flags read as flags that PostHog does not know; this also holds for a nested override."""
    client = _client()
    with override_flags({}, allow_unknown=allow), override_flags({"a": True}):
        assert client.get_feature_flag("banner", "user") is None
        assert client.feature_enabled("banner", "user", only_evaluate_locally=True) is None
        assert client.evaluate_flags("user", flag_keys=["banner"]).is_enabled("banner") is False
        assert client.get_remote_config_payload("banner") is None
        assert client.get_feature_flag("a", "user") is True
    with pytest.raises(UnknownFlagError), override_flags({"a": True}):
        client.get_feature_flag("banner", "user")


def test_no_flag_at_all() -> None:
    """Under an empty override flags count as loaded, and there are none."""
    with override_flags({}):
        assert AT_IMPORT.get_all_flags("user") == {}
        assert AT_IMPORT.evaluate_flags("user").keys == []
    with pytest.raises(UnknownFlagError, match="add it"), override_flags({}):
        AT_IMPORT.get_feature_flag("a", "user", only_evaluate_locally=True)


@pytest.mark.parametrize(
    ("values", "options", "error", "words"),
    [
        ({"a": 1}, {}, TypeError, "flag 'a' is overridden by 1: use True, False"),
        ({"a": ""}, {}, TypeError, "flag 'a'"),
        ({"a": None}, {}, TypeError, "flag 'a'"),
        ({"a": False}, {"payloads": {"a": 1, "b": 2}}, ValueError, "not on: a, b"),
        ({"a": True}, {"payloads": {"a": object()}}, TypeError, "payload of flag 'a' cannot be JSON"),
        (["a"], {}, TypeError, "values must be a mapping from the keys of flags"),
        ({1: True}, {}, TypeError, "values must be a mapping"),
        ({"a": True}, {"payloads": ["a"]}, TypeError, "payloads must be a mapping"),
        ({"a": True}, {"allow_unknown": "banner"}, TypeError, "list of keys"),
    ],
)
def test_mistakes_are_refused_at_once(values: Any, options: Any, error: type[Exception], words: str) -> None:  # noqa: ANN401
    """Mistakes are refused before the test runs."""
    with pytest.raises(error, match=words):
        override_flags(values, **options)


# --- decorators ------------------------------------------------------------------------------------------------------


@override_flags({"price": "b"})
def test_a_decorated_function(make_client: Callable[[], Posthog]) -> None:
    """Fixtures still reach a decorated test."""
    assert make_client().get_feature_flag("price", "user") == "b"


@override_flags({"price": "b"})
class TestDecorated:
    """A class for pytest: each of its tests, and nothing between them."""

    def test_method(self) -> None:
        """A method."""
        assert _client().get_feature_flag("price", "user") == "b"

    @staticmethod
    def test_static() -> None:
        """A static method."""
        assert _client().get_feature_flag("price", "user") == "b"

    @override_flags({"price": "c"})
    def test_nested(self) -> None:
        """A method with its own override."""
        assert _client().get_feature_flag("price", "user") == "c"


@override_flags({"price": "b"})
class TestCase(unittest.IsolatedAsyncioTestCase):
    """A class for unittest: its `setUp` sees the flags, and one override serves many tests."""

    def setUp(self) -> None:
        """Read a flag."""
        self.seen = _client().get_feature_flag("price", "user")

    async def asyncSetUp(self) -> None:
        """Read it in the event loop."""
        self.seen_in_loop = _client().get_feature_flag("price", "user")

    async def test_coroutine(self) -> None:
        """A coroutine."""
        assert (self.seen, self.seen_in_loop, _client().get_feature_flag("price", "user")) == ("b", "b", "b")

    def test_method(self) -> None:
        """A method."""
        assert _client().get_all_flags("user") == {"price": "b"}


def test_an_unknown_flag_fails_a_unittest() -> None:
    """The test fails with the flag's name, also if the code under test swallowed the error."""

    @override_flags({"price": "b"})
    class Case(unittest.TestCase):
        def test_it(self) -> None:
            _swallow(lambda client: client.get_feature_flag("prise", "user"), _client())

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(result)
    assert not result.errors
    assert "flag 'prise' was read" in result.failures[0][1]
    assert _client().feature_flags is None


def test_generators_and_classes_without_tests_are_refused() -> None:
    """Instead of an override that ends before it is used, or is never there."""

    def generator() -> Iterator[None]:
        yield

    with pytest.raises(TypeError, match="generators"):
        override_flags({})(generator)
    with pytest.raises(TypeError, match="has no method"):
        override_flags({})(dict)


# --- what is left, and what is not sent ------------------------------------------------------------------------------


def test_no_event_of_a_read_and_every_other_event() -> None:
    """Reads of a test are no exposure. The user's own event is sent, with the flags of a snapshot."""
    sent: list[dict[str, Any]] = []

    def keep(event: dict[str, Any]) -> dict[str, Any]:
        sent.append(event)
        return event

    client = _client(before_send=keep)
    with override_flags({"price": "b"}):
        client.get_feature_flag("price", "user")
        snapshot = client.evaluate_flags("user")
        snapshot.is_enabled("price")
        snapshot.get_flag("price")
        assert sent == []
        client.capture("bought", distinct_id="user", flags=snapshot)
        client.capture("looked", distinct_id="user", send_feature_flags=True)
        silent = _client(disabled=True, before_send=keep)
        assert silent.capture("never", distinct_id="user") is None
    assert [event["event"] for event in sent] == ["bought", "looked"]
    assert [event["properties"]["$feature/price"] for event in sent] == ["b", "b"]


def test_deprecations_name_the_users_line() -> None:
    """The SDK's own warnings still name the caller's line."""
    client = _client()
    with override_flags({"price": "b"}), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.get_feature_flag("price", "user")
        client.feature_enabled("price", "user")
    assert {warning.filename for warning in caught} == {__file__}


def test_the_sdks_own_cache_of_results_never_holds_an_override() -> None:
    """The SDK's own cache, which may be Redis and is used when PostHog is down, never gets an override."""
    client = _client(flag_fallback_cache_url="memory://local/?ttl=300")
    with override_flags({"price": "b"}):
        assert client.get_feature_flag("price", "user") == "b"
        assert client.evaluate_flags("user").get_flag("price") == "b"
    assert client.flag_cache is not None
    assert client.flag_cache.get_stale_cached_flag("user", "price") is None


NO_SOCKET = """
import asyncio, json, sys, warnings
warnings.simplefilter("ignore")
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event.startswith("socket.") else None)

from posthog import Posthog
from flagcache import RedisFlagDefinitionCache
from flagcache_posthog.testing import override_flags
from tests.posthog.test_override_flags import _read_in_every_way

cache = RedisFlagDefinitionCache("redis://redis.invalid:6379/0", "team", fallback=None)
clients = [
    Posthog("phc_a", secret_key="phs_a", host="https://posthog.invalid"),
    Posthog("phc_b", host="https://posthog.invalid"),
    Posthog("phc_c", secret_key="phs_c", host="https://posthog.invalid", flag_definition_cache_provider=cache),
]
del seen[:]  # what imports do
with override_flags({"price": "b", "other": False}, payloads={"price": 7}):
    for client in clients:
        _read_in_every_way(client, "price")
        _read_in_every_way(client, "other")
        client.flush()
for client in clients:
    client.shutdown()
print(json.dumps(seen))
"""


def test_no_socket_is_opened() -> None:
    """No name is looked up either, by any way to read flags, of clients that could send, load and share."""
    command = [sys.executable, "-c", NO_SOCKET]
    done = subprocess.run(
        command, env=posthog_environment(NOWHERE), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
