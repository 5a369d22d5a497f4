"""The stand-in for PostHog, in this process or in one of its own."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from typing import TypeVar

from typing_extensions import Self

from flagcache.errors import FlagcacheError

from ._backend import Backend
from ._client import run_over_http
from ._commands import perform
from ._http import StandInServer
from .certificates import Certificate
from .control import StandInControl
from .definitions import make_definitions

__all__ = ["PostHogStandIn", "RemoteStandIn"]

_T = TypeVar("_T")

_MODULE = "flagcache_posthog.testing"
_STOP_TIMEOUT = 5.0  # seconds after which a process that doesn't end is killed


class PostHogStandIn(StandInControl):
    """A PostHog for tests, served by threads of this process on 127.0.0.1.

    It answers `/flags/definitions` (with ETag and 304), `/flags` and the endpoints that accept events, and logs what it
    served and when. Forked children reach it by its URL. It ends with this process, and shares its interpreter lock, so
    `PostHogStandIn.spawn()` is better for large fleets.

        with PostHogStandIn(make_definitions(50)) as standin:
            client = Posthog("phc_test", secret_key="phs_test", host=standin.url)

    The log and the counts can still be read after `stop()`.

    Args:
        definitions: What to serve; by default `make_definitions()`.
        port: The TCP port; 0 takes a free one.
        delay: Seconds before each answer to a request for definitions.
        certificate: Serve https with it; None serves plain http.
    """

    def __init__(
        self,
        definitions: Mapping[str, object] | None = None,
        *,
        port: int = 0,
        delay: float = 0.0,
        certificate: Certificate | None = None,
    ) -> None:
        self._pid = os.getpid()
        self._backend = Backend(make_definitions() if definitions is None else definitions)
        self._port = port
        self._certificate = certificate
        self._server: StandInServer | None = None
        self._url: str | None = None
        self.set_delay(delay)

    @staticmethod
    def spawn(
        definitions: Mapping[str, object] | None = None,
        *,
        port: int = 0,
        delay: float = 0.0,
        certificate: Certificate | None = None,
    ) -> RemoteStandIn:
        """Start a stand-in in its own process; the arguments are those of the class."""
        return RemoteStandIn(definitions, port=port, delay=delay, certificate=certificate).start()

    def start(self) -> Self:
        """Listen and serve; returns itself."""
        if self._url is not None:
            raise FlagcacheError(f"{self!r} has already been started: create another one")
        context = None
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate.certfile, self._certificate.keyfile)
        self._server = StandInServer(self._backend, self._port, context)
        self._url = f"{'http' if context is None else 'https'}://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="posthog-stand-in", daemon=True).start()
        return self

    def stop(self) -> None:
        """End all connections and stop serving; does nothing in a forked child or if already stopped."""
        if self._server is None or os.getpid() != self._pid:
            return
        self._backend.close()
        self._server.close()
        self._server = None

    @property
    def url(self) -> str:
        """The address to give to the SDK as `host`."""
        return _require_started(self._url, self)

    @property
    def ca_file(self) -> str | None:
        """The certificate file that clients must trust (as `REQUESTS_CA_BUNDLE`); None over plain http."""
        return self._certificate.ca_file if self._certificate else None

    def _run_command(self, command: str, **arguments: object) -> object:
        if os.getpid() == self._pid:
            return perform(self._backend, command, arguments)
        return run_over_http(self.url, self.ca_file, command, arguments)  # a child has only a copy of the backend

    def __repr__(self) -> str:
        return f"<PostHogStandIn {self._url or 'not started'}>"


class RemoteStandIn(StandInControl):
    """The stand-in in its own process: `python -m flagcache_posthog.testing`.

    It shares no interpreter lock with the fleet that it serves, and continues while the test's process is suspended. It
    ends with `stop()`, or when the process that created it and all its forked children have ended.

    Args:
        definitions: What to serve; by default `make_definitions()`.
        port: The TCP port; 0 takes a free one.
        delay: Seconds before each answer to a request for definitions.
        certificate: Serve https with it; None serves plain http.
    """

    def __init__(
        self,
        definitions: Mapping[str, object] | None = None,
        *,
        port: int = 0,
        delay: float = 0.0,
        certificate: Certificate | None = None,
    ) -> None:
        self._owner = os.getpid()
        self._definitions = make_definitions() if definitions is None else definitions
        self._options = ["--port", str(port), "--delay", str(delay)]
        self._certificate = certificate
        self._process: subprocess.Popen[bytes] | None = None
        self._url: str | None = None

    def start(self) -> Self:
        """Start the process and wait until it serves; returns itself.

        Raises:
            FlagcacheError: It ended at once; its stderr has the reason.
        """
        if self._process is not None:  # `with PostHogStandIn.spawn() as ...` starts it a second time
            return self
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(self._definitions, file)
            file.flush()
            self._process = subprocess.Popen(  # noqa: S603 - our own module, in this very interpreter
                [sys.executable, "-m", _MODULE, "--definitions", file.name, *self._options, *self._tls_options()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # so that only the test handles a Ctrl-C
            )
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
        if not line:
            self.stop()
            raise FlagcacheError("the stand-in's process ended before it served: see its stderr")
        self._url = json.loads(line)["url"]
        return self

    def stop(self) -> None:
        """End the process; does nothing in a forked child or if already stopped."""
        process = self._process
        if process is None or os.getpid() != self._owner:
            return
        self._process = None
        with process:  # closes the pipes and waits
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()

    @property
    def url(self) -> str:
        """The address to give to the SDK as `host`."""
        return _require_started(self._url, self)

    @property
    def ca_file(self) -> str | None:
        """The certificate file that clients must trust (as `REQUESTS_CA_BUNDLE`); None over plain http."""
        return self._certificate.ca_file if self._certificate else None

    @property
    def pid(self) -> int:
        """The process's id."""
        return _require_started(self._process, self).pid

    def _run_command(self, command: str, **arguments: object) -> object:
        return run_over_http(self.url, self.ca_file, command, arguments)

    def _tls_options(self) -> list[str]:
        if self._certificate is None:
            return []
        return ["--certfile", self._certificate.certfile, "--keyfile", self._certificate.keyfile]

    def __repr__(self) -> str:
        return f"<RemoteStandIn {self._url or 'not started'}>"


def _require_started(value: _T | None, standin: StandInControl) -> _T:
    if value is None:
        raise FlagcacheError(f"{standin!r} is not running: call start(), or use it in a `with` block")
    return value
