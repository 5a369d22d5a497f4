"""PostHog's flags in a Django project, whose processes share one set of definitions.

    INSTALLED_APPS = [..., "flagcache_posthog.django"]
    MIDDLEWARE = [..., "flagcache_posthog.django.middleware.FlagsMiddleware"]
    FLAGCACHE = {"STORE": "redis://...", "NAMESPACE": "shop", "PROJECT_API_KEY": "phc_...", "SECRET_KEY": "phs_..."}

Then `request.flags` has the flags of a request's user. Importing this starts and connects nothing.
"""

from __future__ import annotations

from flagcache.errors import MissingExtraError

try:
    from django import VERSION  # noqa: F401 # pyright: ignore[reportUnusedImport] - all that is below needs Django
except ImportError as exc:
    raise MissingExtraError('flagcache_posthog.django needs an extra: pip install "flagcache[django]"') from exc

from flagcache_posthog.django.flags import HttpRequestFlags, flags_of
from flagcache_posthog.django.project import cache, client, ready
from flagcache_posthog.django.urls import flagged_path
from flagcache_posthog.django.views import FlagRequiredMixin, flag_required

__all__ = [
    "FlagRequiredMixin",
    "HttpRequestFlags",
    "cache",
    "client",
    "flag_required",
    "flagged_path",
    "flags_of",
    "ready",
]
