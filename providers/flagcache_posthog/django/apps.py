"""The Django application that `INSTALLED_APPS` names."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register
from django.core.signals import setting_changed

from flagcache_posthog.django.checks import TAG, check_settings
from flagcache_posthog.django.project import forget, prepare

__all__ = ["FlagcacheConfig"]


class FlagcacheConfig(AppConfig):
    """PostHog's flags, shared among the processes of the project."""

    name = "flagcache_posthog.django"
    label = "flagcache"
    verbose_name = "flagcache"

    def ready(self) -> None:
        """Starts and connects nothing: neither a server's parent process nor `migrate` needs a client or a store."""
        register(check_settings, TAG)
        setting_changed.connect(_settings_changed, dispatch_uid="flagcache")
        prepare()


def _settings_changed(*, setting: str, **_: object) -> None:
    if setting == "FLAGCACHE" or setting.startswith("POSTHOG_"):
        forget()
