"""A test's flag values, in the two forms that the SDK takes: definitions, and responses of `/flags`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeAlias, cast

from flagcache.errors import FlagcacheError

from .definitions import Flag, make_flag

__all__ = ["FlagValue", "Overrides", "ShownFlags", "UnknownFlagError"]

FlagValue: TypeAlias = bool | str
"""A flag's value: on, off, or the key of a variant."""


class UnknownFlagError(FlagcacheError, AssertionError):
    """Code under test read a flag that no active override names."""


class Overrides:
    """The flags of one `override_flags`, checked.

    Args:
        values: as in `override_flags`; so are the other arguments.
        payloads: the payload of each value, as a JSON value.
        allow_unknown: which other flags may be read.

    Raises:
        TypeError: a value is neither a bool nor a variant's key, or a payload isn't a JSON value.
        ValueError: a payload belongs to no flag, or to one that is off.
    """

    def __init__(
        self,
        values: Mapping[str, FlagValue],
        *,
        payloads: Mapping[str, object] | None,
        allow_unknown: bool | Collection[str],
    ) -> None:
        _check_keys("values", values)
        _check_keys("payloads", payloads or {})
        if isinstance(allow_unknown, str):
            raise TypeError(f"allow_unknown takes True or a list of keys: write [{allow_unknown!r}]")
        given = dict(payloads or {})
        if unused := sorted(key for key in given if values.get(key, False) is False):
            raise ValueError(f"payloads for flags that are not on: {', '.join(unused)}; PostHog sends none for those")
        self.flags = {key: _definition(key, value, given.get(key)) for key, value in values.items()}
        self.values = dict(values)
        self.unknown: list[str] = []
        """A message for each unknown flag that was read while this was the latest override."""
        self._allowed = allow_unknown if isinstance(allow_unknown, bool) else frozenset(allow_unknown)

    def allows(self, key: str) -> bool:
        """Whether this flag may be read although no override names it."""
        return self._allowed if isinstance(self._allowed, bool) else key in self._allowed


def _check_keys(name: str, given: object) -> None:
    if not isinstance(given, Mapping) or not all(
        isinstance(key, str) for key in cast("Mapping[object, object]", given)
    ):
        raise TypeError(f"{name} must be a mapping from the keys of flags, which are text: not {given!r}")


def _definition(key: str, value: object, payload: object) -> Flag:
    try:
        json.dumps(payload)
    except (TypeError, ValueError) as exc:
        raise TypeError(f"the payload of flag {key!r} cannot be JSON: {exc}") from exc
    if isinstance(value, bool):
        return make_flag(key, active=value, payload=payload)
    if isinstance(value, str) and value:
        return make_flag(key, variants={value: 100}, payload=payload)
    raise TypeError(f"flag {key!r} is overridden by {value!r}: use True, False or the key of a variant")


class ShownFlags:
    """What all active overrides show together; if two name one flag, the later one applies."""

    def __init__(self, active: Iterable[Overrides]) -> None:
        self._active = tuple(active)
        self._values: dict[str, FlagValue] = {}
        flags: dict[str, Flag] = {}
        for overrides in self._active:
            self._values.update(overrides.values)
            flags.update(overrides.flags)
        self.flags = _AlwaysTrueList(flags.values())
        self.by_key = _ByKey(flags, self)

    def check(self, key: str) -> None:
        """Record that this flag is read.

        Raises:
            UnknownFlagError: no override names it.
        """
        if key in self._values or any(overrides.allows(key) for overrides in self._active):
            return
        message = _unknown(key, self._values)
        self._active[-1].unknown.append(message)
        raise UnknownFlagError(message)

    def payload(self, key: str) -> object:
        """Return the payload of a flag; None if it has none."""
        flag = self.by_key.get(key)
        texts = list(flag["filters"]["payloads"].values()) if flag is not None else []
        return json.loads(texts[0]) if texts else None

    def answer(self, keys: Collection[str] | None) -> dict[str, object]:
        """Return PostHog's response to a request for these flags; None: all of them.

        Raises:
            UnknownFlagError: no override names one of them.
        """
        for key in keys or ():
            self.check(key)
        shown = {key: self._evaluated(flag) for key, flag in self.by_key.items() if not keys or key in keys}
        return {"flags": shown, "errorsWhileComputingFlags": False, "requestId": "override_flags"}

    def _evaluated(self, flag: Flag) -> dict[str, object]:
        value = self._values[flag["key"]]
        return {
            "key": flag["key"],
            "enabled": value is not False,
            "variant": value if isinstance(value, str) else None,
            "reason": {"code": "override_flags", "condition_index": None, "description": "Overridden by a test"},
            "metadata": {
                "id": flag["id"],
                "version": flag["version"],
                "description": None,
                "payload": next(iter(flag["filters"]["payloads"].values()), None),
            },
        }


def _unknown(key: str, known: Mapping[str, FlagValue]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {near[0]!r}? Else add it" if near else "add it"
    return f"flag {key!r} was read and no override_flags(...) names it: {hint}, or pass allow_unknown=[{key!r}]"


class _AlwaysTrueList(list[Flag]):
    """Definitions that are truthy even if there are none. Otherwise the SDK would ask PostHog."""

    def __bool__(self) -> bool:
        return True


class _ByKey(Mapping[str, Flag]):
    """The definitions by key, as the SDK looks one up to evaluate it."""

    def __init__(self, flags: Mapping[str, Flag], shown: ShownFlags) -> None:
        self._flags = flags
        self._shown = shown

    def __getitem__(self, key: str) -> Flag:
        self._shown.check(key)
        return self._flags[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._flags)

    def __len__(self) -> int:
        return len(self._flags)

    def __bool__(self) -> bool:
        return True
