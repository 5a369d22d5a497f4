"""A project's settings, checked: `FLAGCACHE = {...}`, or plain settings with the prefix `POSTHOG_`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import posthog as sdk
from django.conf import settings
from django.utils.module_loading import import_string

from flagcache.errors import ConfigurationError, FlagcacheError
from flagcache_posthog._client_checks import checked_host
from flagcache_posthog.django._defaults import with_defaults
from flagcache_posthog.provider import FlagDefinitionCache, from_url

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["HOOKS", "KEYS", "PREFIX", "Config", "Problem", "given", "hook", "problems", "read"]

PREFIX = "POSTHOG_"

HOOKS = ("IDENTIFY", "PERSON_PROPERTIES", "GROUPS", "GROUP_PROPERTIES")
"""Functions of a request, or their dotted paths."""

_CACHE_OPTIONS = tuple(
    name.upper()
    for name, parameter in inspect.signature(from_url).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
)

KEYS = (
    *("STORE", "NAMESPACE", "PROJECT_API_KEY", "SECRET_KEY", "HOST", "DISABLED", "CLIENT", "REMOTE"),
    *HOOKS,
    *_CACHE_OPTIONS,
)

_NEEDED = {
    "STORE": "the URL of a Redis, or sqlite:////absolute/path for the processes of one machine",
    "NAMESPACE": "a name of your choice for each PostHog project and environment",
    "PROJECT_API_KEY": "the phc_... key of your PostHog project",
    "HOST": "https://us.i.posthog.com, https://eu.i.posthog.com, or your own PostHog",
}

_WRONG_KEYS = {
    "PROJECT_API_KEY": (
        ("phs_", "phx_"),
        "a secret key",
        "Set it to the phc_... key, and SECRET_KEY to the other one.",
    ),
    "SECRET_KEY": (("phc_",), "a project API key", "Set it to the phs_... key, and PROJECT_API_KEY to the other one."),
}
"""Prefixes of keys that belong in another setting, the kind of such a key, and the remedy."""

_OTHER_NAMES = {"SECRET_KEY": "PERSONAL_API_KEY", "HOST": "API_HOST"}
"""Names of plain settings that many projects already have."""

_MIN_SIMILARITY = 0.8
"""Similarity, from 0 to 1, from which a name counts as a typo of another."""

_RESERVED_OPTIONS = (
    "self",
    "project_api_key",
    "host",
    "secret_key",
    "personal_api_key",
    "flag_definition_cache_provider",
)
"""Arguments of a `Posthog` that `CLIENT` does not take."""

_SDK_PREFIXES = ("POSTHOG_MW_", "POSTHOG_DRF_")
"""Prefixes of the settings of the SDK's own integrations (posthog 7.91, `integrations/`)."""

_OLPOSTHOG_NAMES = frozenset(
    {
        "POSTHOG_CIRCUIT_BREAKER_COOLDOWN_SECONDS",
        "POSTHOG_CIRCUIT_BREAKER_TRIP_THRESHOLD_SECONDS",
        "POSTHOG_ENABLED",
        "POSTHOG_FEATURE_FLAG_REQUEST_TIMEOUT_MS",
        "POSTHOG_MAX_RETRIES",
    }
)
"""Settings of `flagcache_posthog.django.olposthog`."""


class Config(NamedTuple):
    """A project's settings. Its `repr` shows no key."""

    project_api_key: str
    secret_key: str
    host: str | None
    disabled: bool
    client_options: Mapping[str, object]
    make_cache: Callable[[], FlagDefinitionCache] | None
    """None: `disabled` without a store."""
    remote: str
    hooks: Mapping[str, object]

    def __repr__(self) -> str:
        return f"<Config host={self.host!r} disabled={self.disabled} remote={self.remote!r}>"


class Problem(NamedTuple):
    """One error in a setting."""

    code: str
    """The id of Django's system check, without the prefix."""
    message: str
    hint: str | None = None


def read() -> Config:
    """Return the settings.

    Raises:
        ConfigurationError: a setting is invalid.
    """
    found = problems()
    if found:
        raise ConfigurationError("; ".join(f"{each.message} {each.hint or ''}".rstrip() for each in found))
    return _config(_given())


def problems() -> list[Problem]:
    """Return the errors in the settings, each with its remedy. Connects to nothing."""
    dictionary: object = getattr(settings, "FLAGCACHE", {})
    if not isinstance(dictionary, Mapping):
        return [Problem("E001", f"FLAGCACHE must be a dictionary, not a {type(dictionary).__name__}.")]
    unknown = [*_unknown_keys(cast("Mapping[object, object]", dictionary)), *_unknown_settings()]
    return unknown or _invalid_values(_given())


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """Return a hint if a known name is near."""
    found = get_close_matches(name, list(known), n=1)
    return f"Did you mean {found[0]}?" if found else None


# --- names -----------------------------------------------------------------------------------------------------------


def _unknown_keys(dictionary: Mapping[object, object]) -> list[Problem]:
    all_keys = f"There are: {', '.join(sorted(KEYS))}."
    return [
        Problem("E001", f"FLAGCACHE[{key!r}] is no setting of flagcache.", _nearest(str(key).upper(), KEYS) or all_keys)
        for key in dictionary
        if key not in KEYS
    ]


def _unknown_settings() -> list[Problem]:
    """Report settings with a name close to one of flagcache's. Others with this prefix belong to the project."""
    known = (*KEYS, *_OTHER_NAMES.values())
    names = [name for name in dir(settings) if name.startswith(PREFIX) and not name.startswith(_SDK_PREFIXES)]
    found: list[Problem] = []
    for name in names:
        near = get_close_matches(name.removeprefix(PREFIX), known, n=1, cutoff=_MIN_SIMILARITY)
        if near and near[0] != name.removeprefix(PREFIX) and name not in _OLPOSTHOG_NAMES:
            hint = f"Did you mean {PREFIX}{near[0]}?"
            found.append(Problem("E002", f"{name} is no setting of flagcache.", hint))
    return found


def _given() -> dict[str, Any]:
    """Return the values by their keys. A value in `FLAGCACHE` takes precedence over a plain setting."""
    given: dict[str, Any] = {}
    for key in KEYS:
        for name in filter(None, (key, _OTHER_NAMES.get(key))):
            value = getattr(settings, PREFIX + name, None)
            if value is not None:
                given.setdefault(key, value)
    return with_defaults({**given, **cast("dict[str, Any]", getattr(settings, "FLAGCACHE", {}))})


def given(key: str) -> Any:  # noqa: ANN401 - of any type
    """Return an unchecked setting; None if it is missing."""
    return _given().get(key)


# --- values ----------------------------------------------------------------------------------------------------------


def _invalid_values(given: Mapping[str, Any]) -> list[Problem]:
    found = [] if given.get("DISABLED") else [*_missing(given), *_misplaced(given)]
    found += _invalid_client_options(given.get("CLIENT", {}))
    if given.get("REMOTE", "never") not in ("never", "needed"):
        found.append(Problem("E005", f"REMOTE is 'never' or 'needed', not {given['REMOTE']!r}."))
    if found or not given.get("STORE"):
        return found
    try:
        _make_cache(given)
    except (FlagcacheError, ImportError) as exc:
        return [Problem("E005", f"flagcache refuses a setting: {exc}.")]
    return []


def _missing(given: Mapping[str, Any]) -> Iterator[Problem]:
    for key, what in _NEEDED.items():
        if not given.get(key):
            yield Problem("E003", f"FLAGCACHE has no {key}: {what}.", f"Set it, or {PREFIX}{key}.")


def _misplaced(given: Mapping[str, Any]) -> Iterator[Problem]:
    """Report keys that are in the wrong setting, and an invalid host. Shows no key."""
    for key, (beginnings, what, remedy) in _WRONG_KEYS.items():
        if str(given.get(key, "")).startswith(beginnings):
            yield Problem("E005", f"{key} is {what} of PostHog.", remedy)
    if host := given.get("HOST"):
        try:
            checked_host(str(host))
        except ConfigurationError as exc:
            yield Problem("E005", f"HOST is refused: {exc}.")


def _invalid_client_options(options: object) -> list[Problem]:
    if not isinstance(options, Mapping):
        return [Problem("E005", f"CLIENT must be a dictionary of options, not a {type(options).__name__}.")]
    known = [name for name in inspect.signature(sdk.Posthog).parameters if name not in _RESERVED_OPTIONS]
    return [
        Problem(
            "E004", f"CLIENT has {name!r}, which is no option of a posthog.Posthog here.", _nearest(str(name), known)
        )
        for name in cast("Mapping[object, object]", options)
        if name not in known
    ]


def _make_cache(given: Mapping[str, Any]) -> FlagDefinitionCache:
    options = {key.lower(): given[key] for key in _CACHE_OPTIONS if key in given}
    if isinstance(path := options.get("on_event"), str):
        options["on_event"] = _imported("ON_EVENT", path)
    store: Any = given["STORE"]
    if isinstance(store, str) and "://" not in store:
        store = _imported("STORE", store)
    if callable(store):
        store = store()
    if isinstance(store, str):
        return from_url(store, given["NAMESPACE"], **options)
    from flagcache_posthog import RedisFlagDefinitionCache  # noqa: PLC0415 - needs redis-py

    return RedisFlagDefinitionCache(store, given["NAMESPACE"], **options)


def _imported(key: str, path: str) -> Any:  # noqa: ANN401 - the project may have any value there
    try:
        return import_string(path)
    except ImportError as exc:
        raise ConfigurationError(f"{key}: {path!r} cannot be imported: {exc}") from exc


def hook(config: Config, key: str) -> Callable[[HttpRequest], Any] | None:
    """Return a function of the project; None if it has none.

    Raises:
        ConfigurationError: it isn't a function, or its dotted path doesn't exist.
    """
    found = config.hooks.get(key)
    if isinstance(found, str):
        found = _imported(key, found)
    if found is not None and not callable(found):
        raise ConfigurationError(f"{key} must be a function that takes a request, or its dotted path, not {found!r}")
    return found


def _config(given: Mapping[str, Any]) -> Config:
    options: dict[str, object] = dict(given.get("CLIENT", {}))
    if "POLL_INTERVAL" in given:
        options.setdefault("poll_interval", given["POLL_INTERVAL"])
    return Config(
        project_api_key=given.get("PROJECT_API_KEY") or "",
        secret_key=given.get("SECRET_KEY") or "",
        host=given.get("HOST") or None,
        disabled=bool(given.get("DISABLED")),
        client_options=options,
        make_cache=partial(_make_cache, given) if given.get("STORE") else None,
        remote=given.get("REMOTE", "never"),
        hooks={key: given[key] for key in HOOKS if key in given},
    )
