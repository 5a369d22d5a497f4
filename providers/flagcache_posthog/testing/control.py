"""The methods by which a test controls a stand-in, in this process or another one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, cast

from typing_extensions import Self

from flagcache.errors import ConfigurationError

from .faults import Fault, Refuse, pack_fault
from .records import Counts, Path, Served, Truth, key_digest

__all__ = ["StandInControl"]


class StandInControl(ABC):
    """The methods of every form of the stand-in.

    Each sends one command with arguments, so the form in this process and the one in its own process can't differ. Call
    them on any thread, also in forked children; only the process that created the stand-in can stop it.
    """

    @abstractmethod
    def start(self) -> Self:
        """Start to serve; returns itself."""

    @abstractmethod
    def stop(self) -> None:
        """End all connections and stop serving; does nothing in a forked child or if already stopped."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    @abstractmethod
    def url(self) -> str:
        """The address to give to the SDK as `host`."""

    @property
    @abstractmethod
    def ca_file(self) -> str | None:
        """The certificate file that clients must trust (as `REQUESTS_CA_BUNDLE`); None over plain http."""

    @abstractmethod
    def _run_command(self, command: str, **arguments: object) -> object:
        """Run one command and return its result."""

    # --- what is served ---

    def serve(self, definitions: Mapping[str, object]) -> str:
        """Serve these definitions from now on.

        They may be any JSON object; invalid definitions are served unchanged.

        Returns:
            Their version, as in `Truth.version`. Equal bytes always have equal versions.
        """
        return str(self._run_command("serve", definitions=definitions))

    def set_flag(self, key: str, *, active: bool | None = None, rollout: int | None = None) -> str:
        """Change one flag of the definitions served now.

        The flag's own `version` number doesn't change, so undoing a change restores the same bytes.

        Args:
            key: The flag's key.
            active: Switch it on or off; None leaves that as it is.
            rollout: The percentage of its last release condition; None leaves that as it is.

        Returns:
            The version of the definitions served from now on.

        Raises:
            ConfigurationError: No such flag is served.
        """
        version = self._run_command("set_flag", key=key, active=active, rollout=rollout)
        if version is None:
            raise ConfigurationError(f"the definitions served have no flag {key!r}")
        return str(version)

    def definitions(self) -> dict[str, object]:
        """Return a copy of the definitions served now."""
        return cast("dict[str, object]", self._run_command("definitions"))

    # --- faults ---

    def set_delay(self, seconds: float, *, path: Path = "definitions") -> None:
        """Answer each later request `seconds` after it arrives, from the state at its arrival.

        Args:
            seconds: 0 answers at once.
            path: The kind of endpoint.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ConfigurationError(f"a delay must be a finite number of seconds from 0 up, not {seconds}")
        self._run_command("set_delay", path=path, seconds=seconds)

    def fail(
        self,
        fault: Fault | int,
        *,
        times: int | None = None,
        secret_key: str | None = None,
        path: Path = "definitions",
    ) -> None:
        """Let later requests fail. If several faults match a request, the latest one applies.

        Args:
            fault: What goes wrong; a number is `Refuse` with that status.
            times: The number of requests that fail; None: all until `recover()`.
            secret_key: Only requests with this key fail, as if it had been revoked; None: all requests.
            path: The kind of endpoint.
        """
        if times is not None and times < 1:
            raise ConfigurationError(f"times must be at least 1, not {times}")
        self._run_command(
            "fail",
            fault=pack_fault(Refuse(fault) if isinstance(fault, int) else fault),
            path=path,
            key_digest=None if secret_key is None else key_digest(secret_key),
            times=times,
        )

    def recover(self) -> None:
        """Remove all faults; requests that hang lose their connections. A delay and a hold stay."""
        self._run_command("recover")

    def hold(self, *, times: int | None = None) -> None:
        """Accept requests for definitions, decide their responses, and hold these until `release()`.

        Use it to stop a worker during a fetch: later it gets the response from the time of its request.

        Args:
            times: The number of responses to hold; None holds all.
        """
        if times is not None and times < 1:
            raise ConfigurationError(f"times must be at least 1, not {times}")
        self._run_command("hold", times=times)

    def release(self) -> None:
        """Send all held responses, and hold no more."""
        self._run_command("release")

    # --- the log ---

    def served(self, *, after: int = 0) -> list[Served]:
        """Return the requests since the start, in the order of arrival.

        Args:
            after: Leave out requests up to this sequence number.
        """
        return [Served(**fields) for fields in _rows(self._run_command("served", after=after))]

    def truths(self) -> list[Truth]:
        """Return each change of the definitions since the start; the first entry is the start."""
        return [Truth(**fields) for fields in _rows(self._run_command("truths"))]

    def counts(self) -> Counts:
        """Return all counts since the start or the last `reset_counts()`."""
        fields = cast("dict[str, Any]", self._run_command("counts"))
        by_status: list[tuple[int | None, int]] = fields.pop("by_status")
        return Counts(by_status=dict(by_status), **fields)

    def reset_counts(self) -> None:
        """Reset the counts; the log stays."""
        self._run_command("reset_counts")

    @property
    def requests(self) -> int:
        """Number of requests for definitions, whatever the response."""
        return self.counts().requests

    @property
    def full_fetches(self) -> int:
        """Number of responses with definitions (200)."""
        return self.counts().full_fetches

    @property
    def flag_requests(self) -> int:
        """What PostHog would bill: 10 for definitions sent, 1 for "unchanged", 1 for `/flags`."""
        return self.counts().flag_requests

    def wait_for_requests(self, n: int, *, timeout: float) -> None:
        """Wait until `n` requests for definitions have arrived since the start or the last `reset_counts()`.

        Raises:
            TimeoutError: Fewer have arrived after `timeout` seconds.
        """
        if not self._run_command("wait_for_requests", n=n, timeout=timeout):
            raise TimeoutError(f"{self.requests} of {n} requests for definitions arrived within {timeout} s")

    def wait_for_held(self, n: int, *, timeout: float) -> None:
        """Wait until `hold()` or `Hang` keeps `n` requests waiting at the same time.

        Raises:
            TimeoutError: Fewer are waiting after `timeout` seconds.
        """
        if not self._run_command("wait_for_held", n=n, timeout=timeout):
            raise TimeoutError(f"fewer than {n} requests were kept waiting within {timeout} s")


def _rows(result: object) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", result)
