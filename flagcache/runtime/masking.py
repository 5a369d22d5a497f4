"""Keeps known secrets out of texts: another program's error may repeat what we sent to it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote

__all__ = ["mask", "mask_chain", "userinfo_of", "without_userinfo"]

_MASK = "***"

_PART = 8
"""The fewest characters by which the beginning of a secret is recognised. Redis repeats at most 128 of an argument."""

_SHORT = 4
"""A secret with fewer characters is masked only as a whole word, because any other word may contain it by chance."""

_USERINFO = re.compile(r"(?:(?<=://)|^(?!\w[\w+.-]*://))\S*@")
"""User name and password, up to the last `@`: a password may hold characters that should have been percent-encoded."""


def mask(text: str, secrets: Iterable[str]) -> str:
    """Replace each secret, and each beginning of one, in every form that a URL or Python gives it."""
    forms = {form for secret in secrets if secret for form in _forms(secret)}
    for form in (each for each in forms if len(each) < _SHORT):
        text = re.sub(rf"(?<![^\W_]){re.escape(form)}(?![^\W_])", _MASK, text)
    long = [form for form in forms if len(form) >= _SHORT]
    if not long:
        return text
    heads = re.compile("|".join(re.escape(form[:_PART]) for form in sorted(long, key=len, reverse=True)))
    masked, at = "", 0
    while (found := heads.search(text, at)) is not None:
        masked += text[at : found.start()] + _MASK
        at = found.start() + max(_common(text, found.start(), form) for form in long)
    return masked + text[at:]


def mask_chain(exc: BaseException, secrets: Iterable[str]) -> None:
    """Mask the secrets in the texts of an exception, its causes and its contexts: a log line may show all of them."""
    known, seen = tuple(secrets), set[int]()
    todo: list[BaseException | None] = [exc]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        todo += [each.__cause__, each.__context__]
        args: tuple[object, ...] = each.args
        masked = tuple(mask(arg, known) if isinstance(arg, str) else arg for arg in args)
        if masked != args:
            each.args = masked


def userinfo_of(url: str) -> tuple[str, ...]:
    """Return the user name and password of a URL, as written and decoded; nothing if there are none."""
    found = _USERINFO.search(url)
    if found is None:
        return ()
    user, _, password = found[0][:-1].partition(":")
    given = [part for part in (password, user) if part]
    return tuple(dict.fromkeys([*given, *map(unquote, given)]))


def without_userinfo(url: str) -> str:
    """Return a URL without user name and password, to be shown."""
    return _USERINFO.sub(f"{_MASK}@", url)


def _forms(secret: str) -> Iterable[str]:
    """Return the forms of a secret: as it is, percent-encoded, escaped, and with its line feeds replaced."""
    safe = secret.encode("utf-8", "surrogatepass")
    encoded = {quote(safe, safe=""), quote(safe), quote_plus(safe)}
    lower = {re.sub(r"%[0-9A-F]{2}", lambda code: code[0].lower(), form) for form in encoded}
    return {secret, repr(secret)[1:-1], re.sub(r"[\r\n]", " ", secret), *encoded, *lower}


def _common(text: str, start: int, form: str) -> int:
    """Return how many characters of the form the text has at this place; 0 if they are too few to recognise it."""
    number = next(
        (n for n, (a, b) in enumerate(zip(text[start : start + len(form)], form, strict=False)) if a != b), None
    )
    number = min(len(text) - start, len(form)) if number is None else number
    return number if number >= min(_PART, len(form)) else 0
