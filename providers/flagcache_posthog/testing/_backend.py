"""The state of the stand-in: what it serves, its faults, the waiting requests, and the log.

Everything happens under one lock, so each request comes before or after a change: `Served.arrived_at` and
`Truth.changed_at` show from which definitions a response was made.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from ._evaluation import flags_body
from ._messages import Content, Gate, Reply, Request
from .definitions import Definitions, Flag
from .faults import Drop, Fault, Garble, Hang, Refuse, Rule, refusal_body
from .records import Counts, Path, Served, Truth, count, key_digest


class Backend:
    """Answers requests as the test's commands set it up. Thread-safe."""

    def __init__(self, definitions: Mapping[str, object]) -> None:
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._truths: list[Truth] = []
        self._served: list[Served] = []
        self._events: Counter[str] = Counter()
        self._counted_from = 0
        self._rules: list[Rule] = []
        self._delays: dict[Path, float] = {}
        self._hold_next = 0.0
        self._opened: dict[Gate, int] = {"release": 0, "recover": 0}
        self._waiting = 0
        self.serve(definitions)

    # --- requests ---

    def receive(self, request: Request) -> Reply:
        """Log a request and decide its response from the current state."""
        digest = key_digest(request.secret_key) if request.secret_key else None
        with self._changed:
            reply = self._decide(request, self._fault_for(request, digest))
            shows_version = request.path == "definitions" and (reply.status == 304 or "ETag" in reply.headers)
            self._served.append(
                Served(
                    sequence=reply.sequence,
                    path=request.path,
                    wall_time=time.time(),
                    arrived_at=time.monotonic(),
                    answered_at=None,
                    status=reply.status,
                    version=self._content.version if shows_version else None,
                    if_none_match=request.if_none_match,
                    token=request.token,
                    key_digest=digest,
                    user_agent=request.user_agent,
                )
            )
            if reply.status == 200:
                self._events.update(request.events)
            self._changed.notify_all()
            return replace(reply, delay=self._delays.get(request.path, 0.0), gate=reply.gate or self._gate_for(request))

    def wait_before(self, reply: Reply) -> bool:
        """Wait for the reply's delay and gate; return False if the connection must be closed without a response."""
        self._closing.wait(reply.delay)
        if reply.gate is not None:
            gate, ticket = reply.gate
            with self._changed:
                self._waiting += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closing.is_set() or self._opened[gate] > ticket)
                self._waiting -= 1
        return reply.status is not None and not self._closing.is_set()

    def drip(self, seconds: float) -> None:
        """Wait between two parts of a dripping body; `close` ends the wait."""
        self._closing.wait(seconds)

    def mark_answered(self, reply: Reply) -> None:
        """Record that the response is sent now."""
        with self._changed:
            self._served[reply.sequence - 1] = replace(self._served[reply.sequence - 1], answered_at=time.monotonic())
            self._changed.notify_all()

    def close(self) -> None:
        """End all waits."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()

    def _fault_for(self, request: Request, digest: str | None) -> Fault | None:
        if request.path == "definitions" and digest is None:
            return Refuse(401)
        rule = next((rule for rule in reversed(self._rules) if rule.meets(request.path, digest)), None)
        if rule is None:
            return None
        if rule.times is not None:
            left = [replace(rule, times=rule.times - 1)] if rule.times > 1 else []
            place = next(index for index, known in enumerate(self._rules) if known is rule)
            self._rules[place : place + 1] = left
        return rule.fault

    def _decide(self, request: Request, fault: Fault | None) -> Reply:
        sequence = len(self._served) + 1
        if isinstance(fault, Hang):
            return Reply(sequence, None, gate=("recover", self._opened["recover"]))
        if isinstance(fault, Drop):
            return Reply(sequence, None)
        if isinstance(fault, Refuse):
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            return Reply(sequence, fault.status, refusal_body(fault.status), headers)
        if isinstance(fault, Garble):
            return Reply(sequence, 200, fault.body.encode())
        reply = self._regular_reply(sequence, request)
        return reply if fault is None else replace(reply, drip=fault.seconds)

    def _regular_reply(self, sequence: int, request: Request) -> Reply:
        if request.path == "capture":
            return Reply(sequence, 200, b'{"status": 1}')
        if request.path == "flags":
            return self._evaluate(sequence)
        headers = {"ETag": self._content.etag}
        if request.if_none_match == self._content.etag:
            return Reply(sequence, 304, headers=headers)
        return Reply(sequence, 200, self._content.body, headers)

    def _evaluate(self, sequence: int) -> Reply:
        try:
            return Reply(sequence, 200, flags_body(json.loads(self._content.body)))
        except (LookupError, TypeError, AttributeError):  # definitions that a test made invalid
            return Reply(sequence, 500, refusal_body(500))

    def _gate_for(self, request: Request) -> tuple[Gate, int] | None:
        if request.path != "definitions" or self._hold_next < 1:
            return None
        self._hold_next -= 1
        return "release", self._opened["release"]

    # --- commands ---

    def serve(self, definitions: Mapping[str, object]) -> str:
        """Serve these definitions from now on, and return their version."""
        content = Content.of(definitions)
        with self._changed:
            self._put(content)
        return content.version

    def set_flag(self, key: str, change: Callable[[Flag], None]) -> str | None:
        """Change one flag, and return the new version; None if there is no such flag."""
        with self._changed:
            definitions: Definitions = json.loads(self._content.body)
            flag = next((flag for flag in definitions["flags"] if flag.get("key") == key), None)
            if flag is None:
                return None
            change(flag)
            content = Content.of(definitions)
            self._put(content)
        return content.version

    def _put(self, content: Content) -> None:
        self._content = content
        if not self._truths or self._truths[-1].version != content.version:
            self._truths.append(Truth(time.time(), time.monotonic(), content.version, content.revision))

    def set_delay(self, path: Path, seconds: float) -> None:
        """Answer requests of this kind `seconds` after they arrive."""
        with self._changed:
            self._delays[path] = seconds

    def add_rule(self, rule: Rule) -> None:
        """Add a fault; the latest rule that matches a request applies."""
        with self._changed:
            self._rules.append(rule)

    def recover(self) -> None:
        """Remove all rules, and drop the requests that hang."""
        with self._changed:
            self._rules.clear()
            self._open("recover")

    def hold(self, times: int | None) -> None:
        """Hold the responses to the next requests for definitions; None holds all until `release`."""
        with self._changed:
            self._hold_next = math.inf if times is None else times

    def release(self) -> None:
        """Send the held responses, and hold no more."""
        with self._changed:
            self._hold_next = 0.0
            self._open("release")

    def _open(self, gate: Gate) -> None:
        self._opened[gate] += 1
        self._changed.notify_all()

    # --- the log ---

    def definitions(self) -> dict[str, object]:
        """Return a copy of the definitions served now."""
        with self._changed:
            decoded: dict[str, object] = json.loads(self._content.body)
        return decoded

    def served(self, after: int) -> list[Served]:
        """Return the requests with a sequence number above this one."""
        with self._changed:
            return self._served[after:]

    def truths(self) -> list[Truth]:
        """Return all changes of the definitions since the start."""
        with self._changed:
            return list(self._truths)

    def counts(self) -> Counts:
        """Return the counts since the last reset."""
        with self._changed:
            return count(self._served[self._counted_from :], self._events)

    def reset_counts(self) -> None:
        """Count from here; the log stays."""
        with self._changed:
            self._counted_from = len(self._served)
            self._events.clear()

    def wait_for_requests(self, n: int, timeout: float) -> bool:
        """Wait until `n` requests for definitions have arrived since the last reset."""
        return self._wait_until(lambda: self._arrived() >= n, timeout)

    def wait_for_held(self, n: int, timeout: float) -> bool:
        """Wait until `hold` or `Hang` keeps `n` requests waiting at the same time."""
        return self._wait_until(lambda: self._waiting >= n, timeout)

    def _wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._closing.is_set() or condition(), timeout) and condition()

    def _arrived(self) -> int:
        return sum(record.path == "definitions" for record in self._served[self._counted_from :])
