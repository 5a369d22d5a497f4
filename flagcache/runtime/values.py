"""Value classes that are cheap to import.

Python compiles the methods of each dataclass when its module is imported, before 3.13 one by one. That was half of
this library's import time. A `NamedTuple` costs a tenth, and most values here are one. But two named tuples with equal
fields are equal whatever their class, which is wrong for events: these are a `Value`. And error trackers walk through
the tuples of a process, which must not show secrets: these are a `SecretValue`.
"""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import dataclass_transform, override

__all__ = ["SecretValue", "Value"]


@dataclass_transform(frozen_default=True)
class Value:
    """Like a frozen dataclass, for users and for type checkers, but all subclasses share its methods.

    A subclass annotates its fields, those with defaults last, and no other attribute. `vars()` of a value returns its
    fields in order.
    """

    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = (name for name in cls.__annotations__ if name not in cls.__match_args__)
        cls.__match_args__ = (*cls.__match_args__, *own)  # type: ignore[misc]  # mypy takes it for Python's own to set

    def __init__(self, *values: object, **named: object) -> None:
        kind, names = type(self), self.__match_args__
        given = {**dict(zip(names, values, strict=False)), **named}
        fields = {name: given[name] if name in given else getattr(kind, name, _MISSING) for name in names}
        missing = [name for name, value in fields.items() if value is _MISSING]
        if missing or len(given) < len(values) + len(named) or not given.keys() <= fields.keys():
            told = f"{len(values)} values and {sorted(named)}"
            raise TypeError(f"{kind.__name__} takes each of {names} once; it was given {told}")
        vars(self).update(fields)

    @override
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed: {name}")

    @override
    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed: {name}")

    @override
    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    @override
    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    @override
    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__qualname__}({fields})"


class SecretValue(Value):
    """A value whose `repr` shows only its class."""

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__qualname__}>"


_MISSING = object()
