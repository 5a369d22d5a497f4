"""A `Value` behaves as a frozen dataclass does, and costs no compilation."""

from __future__ import annotations

import pickle

import pytest

from flagcache.runtime.values import SecretValue, Value


class Seen(Value):
    """What most tests here look at."""

    where: str
    times: int = 1


class SeenAgain(Seen):
    """One with a parent, and with an attribute that is no field."""

    why: str = ""
    level = 3


class VerifiedReply(Value):
    """Another with the same fields."""

    where: str
    times: int = 1


class Key(SecretValue):
    """A value that must not be shown."""

    secret: str


def test_fields_are_given_by_place_or_name_and_have_defaults() -> None:
    """Those of the parent come first; what is no field is none."""
    assert vars(Seen("a")) == {"where": "a", "times": 1}
    assert list(vars(SeenAgain(why="b", where="a"))) == ["where", "times", "why"]
    assert SeenAgain("a", 2, "b") == SeenAgain(times=2, where="a", why="b")
    match SeenAgain("a", 2, "b"):
        case SeenAgain(where, times, why):
            assert (where, times, why) == ("a", 2, "b")


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {}), (("a", 1, 2), {}), (("a",), {"where": "a"}), (("a",), {"level": 2})],
    ids=["too few", "too many", "twice", "no field"],
)
def test_what_does_not_fit_is_refused(values: tuple[object, ...], named: dict[str, object]) -> None:
    """Wrong arguments raise a TypeError that names the kind and its fields."""
    with pytest.raises(TypeError, match=r"Seen takes each of \('where', 'times'\) once"):
        Seen(*values, **named)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_kinds_with_equal_fields_differ() -> None:
    """Equal are those of one kind with equal fields, which then have one hash."""
    assert Seen("a") == Seen("a", 1)
    assert hash(Seen("a")) == hash(Seen("a", 1))
    assert len({Seen("a"), Seen("b"), VerifiedReply("a"), SeenAgain("a")}) == 4
    assert Seen("a") != VerifiedReply("a")
    assert Seen("a") != ("a", 1)


def test_a_value_is_shown_whole_and_cannot_be_changed() -> None:
    """A value can still be sent to another process."""
    value = SeenAgain("a", why="b")
    assert repr(value) == "SeenAgain(where='a', times=1, why='b')"
    with pytest.raises(AttributeError, match="SeenAgain cannot be changed: where"):
        value.where = "b"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  # on purpose
    with pytest.raises(AttributeError, match="SeenAgain cannot be changed: where"):
        del value.where  # pyright: ignore[reportAttributeAccessIssue]  # likewise
    assert pickle.loads(pickle.dumps(value)) == value


def test_a_secret_value_is_shown_by_its_kind_alone() -> None:
    """It is compared as any other."""
    assert repr(Key("swordfish")) == f"{Key('swordfish')}" == "<Key>"
    assert Key("swordfish") == Key("swordfish") != Key("haddock")
