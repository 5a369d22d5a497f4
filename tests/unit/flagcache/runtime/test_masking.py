"""Known secrets are taken out of texts, in whatever form they were written."""

from __future__ import annotations

from urllib.parse import quote, quote_plus

import pytest

from flagcache.runtime.masking import mask, mask_chain, userinfo_of, without_userinfo

SECRET = "s3cr:et/w ord%é\n"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        quote(SECRET, safe="").lower(),
        repr(SECRET)[1:-1],
        SECRET.replace("\n", " "),
        SECRET[:10],
        quote(SECRET, safe="")[:12],
    ],
    ids=str,
)
def test_each_form_of_a_secret_is_masked(form: str) -> None:
    """A secret is masked raw, percent-encoded, escaped or cut off, one time or several."""
    assert mask(f"'{form}' and <{form}>", [SECRET]) == "'***' and <***>"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("no secret here", "no secret here"),
        ("the password x is wrong: x", "the password *** is wrong: ***"),
        ("extra", "extra"),
    ],
)
def test_a_short_secret_is_masked_as_a_word(text: str, masked: str) -> None:
    """One or two characters stand in other words by chance, which stay readable."""
    assert mask(text, ["x", ""]) == masked


def test_of_two_secrets_the_longer_one_goes_first() -> None:
    """A secret that begins with another one leaves no rest."""
    assert mask("token-and-more", ["token-and-more", "token"]) == "***"
    assert mask("token-and-more", ["token", "token-and-more"]) == "***"


def fail() -> None:
    """Raise an error with a cause."""
    raise KeyError("fine", f"AUTH {SECRET}") from ValueError(SECRET, 7)


def test_causes_and_contexts_are_masked() -> None:
    """A traceback shows them all; their types and other arguments stay."""
    with pytest.raises(KeyError) as caught:
        fail()
    mask_chain(caught.value, [SECRET])
    assert caught.value.args == ("fine", "AUTH ***")
    assert caught.value.__cause__ is not None
    assert caught.value.__cause__.args == ("***", 7)


@pytest.mark.parametrize(
    ("url", "shown", "secrets"),
    [
        ("https://eu.posthog.com", "https://eu.posthog.com", ()),
        ("https://user:p%40ss@host:1/x", "https://***@host:1/x", ("p%40ss", "user", "p@ss")),
        ("https://user:p/w@host", "https://***@host", ("p/w", "user")),
        ("https://token@host", "https://***@host", ("token",)),
        ("user:pw@host", "***@host", ("pw", "user")),
    ],
)
def test_userinfo_of_a_url(url: str, shown: str, secrets: tuple[str, ...]) -> None:
    """User name and password are taken out of a URL that is shown, and are known as secrets."""
    assert without_userinfo(url) == shown
    assert userinfo_of(url) == secrets
