"""Shows overridden flags to the SDK methods of every client that read flags, and to nothing else.

While flags are shown, `feature_flags` and three more attributes of the SDK's `Client` are descriptors. They return what
is shown to a method that reads flags, and what the client holds to all other code (the SDK's poller, a cache, user
code). A client's own definitions keep changing meanwhile. So nothing can end an override early, no override reaches a
cache, and the newest definitions are there as soon as it ends. A request to `/flags` is answered here.

It uses public names only (posthog 7.37.3 to 7.91.1). Deprecated methods that warn are not wrapped: their warning would
name this module instead of the user's line.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Collection, Iterator
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, cast

from flagcache_posthog._sdk import loaded
from flagcache_posthog._user_flags import OVERRIDDEN

from ._override_values import ShownFlags

if TYPE_CHECKING:
    from posthog import FeatureFlagEvaluations
    from posthog.client import Client

__all__ = ["READS", "show"]

READS = frozenset(
    {
        "evaluate_flags",
        "feature_enabled",
        "feature_flag_definitions",
        "get_all_flags",
        "get_all_flags_and_payloads",
        "get_feature_flag",
        "get_feature_flag_evaluation_runtime",
        "get_feature_flag_keys_by_evaluation_runtime",
        "get_feature_flag_payload",
        "get_feature_flag_result",
        "get_feature_flags_and_payloads",
        "get_feature_payloads",
        "get_feature_variants",
        "get_flags_decision",
        "get_remote_config_payload",
    }
)
"""The methods of a client that read flags."""

_SNAPSHOT_READS = ("get_flag", "get_flag_payload", "is_enabled")

_METHODS = READS.union(_SNAPSHOT_READS, ("capture", "load_feature_flags"))
"""The methods that show what the caller does: one that reads flags may call one that loads them or sends an event."""

_Function = Callable[..., Any]


class _State:
    """The flags shown now, and what was replaced in the SDK to show them."""

    def __init__(self) -> None:
        self.flags: ShownFlags | None = None
        self.undo: list[Callable[[], None]] = []


_state = _State()


def show(flags: ShownFlags | None) -> None:
    """Show these flags from now on; None: show the clients' own."""
    _state.flags = flags
    if flags is not None and not _state.undo:
        importlib.import_module("posthog.client")  # not earlier, because the stand-in's process doesn't need it
        OVERRIDDEN.set()
        for module in loaded("client"):
            _replace_in(module)
        for module in loaded("async_client"):
            _replace_in_async(module)
        _replace_in_requests()
    elif flags is None:
        while _state.undo:
            _state.undo.pop()()
        OVERRIDDEN.clear()


# --- who asks --------------------------------------------------------------------------------------------------------


def _sdk_methods() -> Iterator[str]:
    """Yield the SDK's public methods that run on this thread, the latest first, up to the user's own code."""
    frame = _frame_above_this_module()
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in (
        "posthog",
        "posthoganalytics",
    ):
        if frame.f_code.co_name in _METHODS:
            yield frame.f_code.co_name
        frame = frame.f_back


def _frame_above_this_module() -> FrameType | None:
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return frame


def _reads_flags() -> bool:
    """Whether the caller reads flags, and neither loads them nor sends an event."""
    return next(_sdk_methods(), None) in READS


def _sends_exposure() -> bool:
    """Whether the caller sends the event of a flag that was read."""
    latest, *others = [*_sdk_methods(), ""]
    return latest == "capture" and any(name in READS or name in _SNAPSHOT_READS for name in others)


# --- what they see ---------------------------------------------------------------------------------------------------


class _Attribute:
    """A client attribute that has another value for methods that read flags.

    Args:
        name: of the attribute.
        own: the class's own attribute of that name.
        shown: returns the value to show, from the flags and the client's own value.
    """

    def __init__(self, name: str, own: object, shown: Callable[[ShownFlags, object], object]) -> None:
        self._name = name
        self._own = own
        self._shown = shown

    def __get__(self, client: object, owner: type | None = None) -> object:
        if client is None:
            return self._own if self._own is not None else self
        held = self._held(client)
        flags = _state.flags
        return held if flags is None else self._shown(flags, held)

    def __set__(self, client: object, value: object) -> None:
        if isinstance(self._own, property):
            self._own.__set__(client, value)
        else:
            vars(client)[self._name] = value

    def _held(self, client: object) -> object:
        if isinstance(self._own, property):
            return self._own.__get__(client, type(client))
        try:
            return vars(client)[self._name]
        except KeyError:
            raise AttributeError(f"{type(client).__name__!r} object has no attribute {self._name!r}") from None


def _disabled(_: ShownFlags, held: object) -> object:
    """Let a disabled client, as in most tests, show the flags, and send no event for them."""
    return (not _reads_flags() and held) or _sends_exposure()


_ATTRIBUTES: dict[str, Callable[[ShownFlags, object], object]] = {
    "feature_flags": lambda flags, held: flags.flags if _reads_flags() else held,
    "feature_flags_by_key": lambda flags, held: flags.by_key if _reads_flags() else held,
    "flag_cache": lambda _, held: None if _reads_flags() else held,
    "disabled": _disabled,
}


def _replace_in(module: ModuleType) -> None:
    client: type[Client] = module.Client
    for name, shown in _ATTRIBUTES.items():
        _replace(client, name, _Attribute(name, vars(client).get(name), shown))
    _replace(module, "flags", _answering(module.flags))
    _replace(client, "evaluate_flags", _checking(client.evaluate_flags, "flag_keys"))
    _replace(
        client, "get_all_flags_and_payloads", _checking(client.get_all_flags_and_payloads, "flag_keys_to_evaluate")
    )
    _replace(client, "get_remote_config_payload", _reading_payload(client.get_remote_config_payload))
    snapshot: type[FeatureFlagEvaluations] = module.FeatureFlagEvaluations
    for name in _SNAPSHOT_READS:
        _replace(snapshot, name, _checking_snapshot(getattr(snapshot, name)))


def _replace_in_requests() -> None:
    """Give the flags to a request without a known user too, because a value doesn't depend on the user."""
    module = importlib.import_module("flagcache_posthog.request_flags")
    own = module.get_context_distinct_id
    _replace(module, "get_context_distinct_id", lambda: own() or "override_flags")


def _replace(owner: type | ModuleType, name: str, by: object) -> None:
    own = vars(owner).get(name)
    setattr(owner, name, by)
    _state.undo.append(
        functools.partial(setattr, owner, name, own) if own is not None else functools.partial(delattr, owner, name)
    )


def _answering(own: _Function) -> _Function:
    """Wrap a method that requests `/flags`, so that it answers without a request."""

    @functools.wraps(own)
    def flags(*args: object, **request: object) -> object:
        shown = _state.flags
        if shown is None:
            return own(*args, **request)
        return shown.answer(cast("Collection[str] | None", request.get("flag_keys_to_evaluate")))

    return flags


def _checking(own: _Function, option: str) -> _Function:
    """Wrap a method that reads the flags that this keyword names."""

    @functools.wraps(own)
    def read(*args: object, **options: object) -> object:
        _check(cast("Collection[str] | None", options.get(option)))
        return own(*args, **options)

    return read


def _reading_payload(own: _Function) -> _Function:
    @functools.wraps(own)
    def payload(client: Client, key: str) -> object:
        shown = _state.flags
        if shown is None:
            return own(client, key)
        shown.check(key)
        return shown.payload(key)

    return payload


def _checking_snapshot(own: _Function) -> _Function:
    @functools.wraps(own)
    def read(snapshot: FeatureFlagEvaluations, key: str, *args: object, **options: object) -> object:
        if key not in snapshot.keys:
            _check([key])
        return own(snapshot, key, *args, **options)

    return read


def _check(keys: Collection[str] | None) -> None:
    shown = _state.flags
    if shown is not None:
        for key in keys or ():
            shown.check(key)


# --- clients for asyncio ---------------------------------------------------------------------------------------------


def _replace_in_async(module: ModuleType) -> None:
    """Let a synchronous client evaluate for asyncio clients, which have no definitions."""
    kind = module.AsyncClient
    own = kind.evaluate_flags, kind.get_remote_config_payload

    @functools.wraps(own[0])
    async def evaluate_flags(client: object, *args: object, **options: object) -> object:
        if _state.flags is None:
            return await own[0](client, *args, **options)
        evaluate: _Function = _evaluator().evaluate_flags
        return evaluate(*args, **options)

    @functools.wraps(own[1])
    async def get_remote_config_payload(client: object, key: str) -> object:
        if _state.flags is None:
            return await own[1](client, key)
        return _evaluator().get_remote_config_payload(key)

    _replace(kind, "evaluate_flags", evaluate_flags)
    _replace(kind, "get_remote_config_payload", get_remote_config_payload)


@functools.cache
def _evaluator() -> Client:
    """Return a client that sends nothing and requests nothing."""
    kind: type[Client] = importlib.import_module("posthog.client").Client
    return kind("override_flags", disabled=True, send=False, sync_mode=True)
