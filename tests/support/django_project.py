"""A Django project as a user makes it: `startproject`, and then what docs/django.md says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.servers import free_port
from tests.support.snippets import snippet
from tests.support.user_programs import Program, posthog_environment

__all__ = ["DjangoProject"]

_PAGE = "docs/django.md"

_MORE = """
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS += ["rest_framework", "rest_framework.authtoken", "shop"]
REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"]}
TEMPLATES[0]["DIRS"] = [BASE_DIR / "templates"]
"""
"""The settings that the page leaves to the project."""


class DjangoProject:
    """A project named `shop` in its own folder, with SQLite for its data.

    Args:
        folder: made for it.
        posthog: URL of a PostHog.
        store: URL of the store that its processes share.
        settings: more lines of its settings.
        files: more files, by their paths within the project; they replace those of the page.
    """

    def __init__(
        self, folder: Path, posthog: str, store: str, *, settings: str = "", files: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.environ = posthog_environment(posthog, REDIS_URL=store, XDG_STATE_HOME=str(folder / "state"))
        self.environ.pop("DJANGO_SETTINGS_MODULE", None)
        folder.mkdir(parents=True, exist_ok=True)
        self._run("-m", "django", "startproject", "shop", ".")
        with (folder / "shop/settings.py").open("a") as written:
            written.write(snippet(_PAGE, "settings.py: what you add") + _MORE + settings)
        pages = {f"shop/{name}.py": snippet(_PAGE, f"{name}.py") for name in ("views", "urls", "api", "tests")}
        for path, text in {**pages, **(files or {})}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)

    def manage(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run `manage.py`; fails unless it ends with 0."""
        done = self.try_to_manage(*arguments, **environ)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def try_to_manage(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run `manage.py`."""
        return self._finish("manage.py", *arguments, **environ)

    def serve(self, *command: str) -> tuple[Program, int]:
        """Start a server with `python`; `PORT` in its arguments is the port, which is returned too."""
        port = free_port()
        words = [word.replace("PORT", str(port)) for word in command]
        return Program(self.folder, [sys.executable, *words], self.environ), port

    def _run(self, *words: str) -> None:
        done = self._finish(*words)
        assert done.returncode == 0, done.stderr

    def _finish(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *words]
        return subprocess.run(
            command, cwd=self.folder, env={**self.environ, **environ}, capture_output=True, text=True, check=False
        )
