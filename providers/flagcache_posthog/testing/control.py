"""What a test can ask of a stand-in, wherever that runs."""

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
    """The wishes and questions that every form of the stand-in understands.

    All of them go through one verb-and-arguments call, so the form in this process and the one in a process of its own
    cannot differ. They may be used from any thread, and in forked children too; only whoever made it can stop it.
    """

    @abstractmethod
    def start(self) -> Self:
        """Begin to serve; returns itself."""

    @abstractmethod
    def stop(self) -> None:
        """End all connections and cease to serve; in a forked child and when stopped already, do nothing."""

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
    def _ask(self, verb: str, **arguments: object) -> object:
        """Have one verb done and return what it tells."""

    # --- what is served ---

    def serve(self, definitions: Mapping[str, object]) -> str:
        """Serve these definitions from now on.

        They may be of any form that JSON allows: wrong ones are served as they are.

        Returns:
            Their version, as in `Truth.version`. Equal bytes have equal versions, also when they come back later.
        """
        return str(self._ask("serve", definitions=definitions))

    def set_flag(self, key: str, *, active: bool | None = None, rollout: int | None = None) -> str:
        """Change one flag of the definitions served now.

        The flag's own `version` number stays, so that undoing a change brings back the very bytes of before.

        Args:
            key: The flag's key.
            active: Switch it on or off; None leaves that as it is.
            rollout: The percentage of its last release condition; None leaves that as it is.

        Returns:
            The version of the definitions served from now on.

        Raises:
            ConfigurationError: No such flag is served.
        """
        version = self._ask("set_flag", key=key, active=active, rollout=rollout)
        if version is None:
            raise ConfigurationError(f"the definitions served have no flag {key!r}")
        return str(version)

    def definitions(self) -> dict[str, object]:
        """Return a copy of the definitions served now."""
        return cast("dict[str, object]", self._ask("definitions"))

    # --- what goes wrong ---

    def set_delay(self, seconds: float, *, path: Path = "definitions") -> None:
        """Answer each further request so many seconds after it arrived, with what was so when it arrived.

        Args:
            seconds: 0 answers at once.
            path: The kind of endpoint.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ConfigurationError(f"a delay must be a finite number of seconds from 0 up, not {seconds}")
        self._ask("set_delay", path=path, seconds=seconds)

    def fail(
        self,
        fault: Fault | int,
        *,
        times: int | None = None,
        secret_key: str | None = None,
        path: Path = "definitions",
    ) -> None:
        """Let something go wrong with the further requests. If several faults fit a request, the latest one meets it.

        Args:
            fault: What goes wrong; a number is `Refuse` with that status.
            times: For so many requests, then all is as before; None until `recover()`.
            secret_key: Only for whoever asks with this key, as if it had been revoked; None for everybody.
            path: On this kind of endpoint.
        """
        if times is not None and times < 1:
            raise ConfigurationError(f"a fault must meet 1 request or more, not {times}")
        self._ask(
            "fail",
            fault=pack_fault(Refuse(fault) if isinstance(fault, int) else fault),
            path=path,
            key_digest=None if secret_key is None else key_digest(secret_key),
            times=times,
        )

    def recover(self) -> None:
        """Let nothing go wrong any more; requests left hanging lose their connections. A delay and a hold stay."""
        self._ask("recover")

    def hold(self, *, times: int | None = None) -> None:
        """Take requests for definitions, choose their answers, and keep these back until `release()`.

        This is how a worker is caught in mid-fetch: what it gets later is what was right when it asked.

        Args:
            times: Keep back the next so many answers; None keeps back all.
        """
        if times is not None and times < 1:
            raise ConfigurationError(f"a hold must keep back 1 answer or more, not {times}")
        self._ask("hold", times=times)

    def release(self) -> None:
        """Send all answers kept back, and keep back no more."""
        self._ask("release")

    # --- what was ---

    def served(self, *, after: int = 0) -> list[Served]:
        """Return what was served since the start, in the order of arrival.

        Args:
            after: Leave out requests up to this sequence number.
        """
        return [Served(**fields) for fields in _rows(self._ask("served", after=after))]

    def truths(self) -> list[Truth]:
        """Return each change of the definitions since the start; the first entry is the start itself."""
        return [Truth(**fields) for fields in _rows(self._ask("truths"))]

    def counts(self) -> Counts:
        """Return all sums of one moment since the start or the last `reset_counts()`."""
        fields = cast("dict[str, Any]", self._ask("counts"))
        by_status: list[tuple[int | None, int]] = fields.pop("by_status")
        return Counts(by_status=dict(by_status), **fields)

    def reset_counts(self) -> None:
        """Let the sums start from 0; the log stays."""
        self._ask("reset_counts")

    @property
    def requests(self) -> int:
        """How often definitions were asked for, whatever the answer."""
        return self.counts().requests

    @property
    def full_fetches(self) -> int:
        """How often definitions were sent (200)."""
        return self.counts().full_fetches

    @property
    def flag_requests(self) -> int:
        """What PostHog would bill: 10 for definitions sent, 1 for "unchanged", 1 for `/flags`."""
        return self.counts().flag_requests

    def wait_for_requests(self, n: int, *, timeout: float) -> None:
        """Wait until so many requests for definitions have arrived since the start or the last `reset_counts()`.

        Raises:
            TimeoutError: They have not, after so many seconds.
        """
        if not self._ask("wait_for_requests", n=n, timeout=timeout):
            raise TimeoutError(f"{self.requests} of {n} requests for definitions arrived within {timeout} s")

    def wait_for_held(self, n: int, *, timeout: float) -> None:
        """Wait until so many requests at one time are kept waiting by `hold()` or `Hang`.

        Raises:
            TimeoutError: They are not, after so many seconds.
        """
        if not self._ask("wait_for_held", n=n, timeout=timeout):
            raise TimeoutError(f"fewer than {n} requests were kept waiting within {timeout} s")


def _rows(told: object) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", told)
