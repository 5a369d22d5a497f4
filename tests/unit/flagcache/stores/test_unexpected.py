"""A verb raises `StoreError` and nothing else."""

from __future__ import annotations

import pytest

from flagcache.errors import StoreError
from flagcache.stores.unexpected import only_store_errors, unexpected


@only_store_errors
class Store:
    """One whose verbs run the user's code."""

    address = "redis://a/0"

    def fails(self, error: BaseException) -> None:
        """A verb."""
        raise error

    def _fails(self, error: BaseException) -> None:
        raise error

    def inner(self, error: BaseException) -> None:
        """A verb that calls a private method."""
        self._fails(error)


def test_any_other_exception_is_converted() -> None:
    """The text has the address, the type and the place, and never the exception's own text."""
    for verb in (Store().fails, Store().inner):
        with pytest.raises(StoreError, match=r"^redis://a/0: unexpected KeyError at ") as caught:
            verb(KeyError("swordfish"))
        assert "stores/test_unexpected.py:" in str(caught.value)
        assert "swordfish" not in str(caught.value)
        assert isinstance(caught.value.__cause__, KeyError)


def test_a_store_error_passes_as_it_is() -> None:
    """It is what callers expect."""
    error = StoreError("is full", "full")
    with pytest.raises(StoreError) as caught:
        Store().fails(error)
    assert caught.value is error


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_passes(kind: type[BaseException]) -> None:
    """The interpreter's end, Ctrl-C, a gevent timeout."""
    with pytest.raises(kind):
        Store().fails(kind())


def test_private_methods_are_left_alone() -> None:
    """Only what others call keeps the promise."""
    with pytest.raises(KeyError):
        Store()._fails(KeyError("a"))  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def test_an_exception_that_was_never_raised_has_no_place() -> None:
    """Its type is still named."""
    assert str(unexpected(ValueError("secret"), "")) == "unexpected ValueError"
