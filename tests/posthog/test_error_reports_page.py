"""The examples of docs/error-reports.md, with the real Sentry and structlog, and no network."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Iterator
from typing import Any

import posthog as sdk
import pytest
import sentry_sdk
import structlog
from posthog import Posthog
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.logging import LoggingIntegration, ignore_logger, unignore_logger
from sentry_sdk.transport import Transport
from structlog.contextvars import clear_contextvars, merge_contextvars
from structlog.testing import LogCapture

from flagcache_posthog.testing import StandInControl, make_flag
from tests.support.snippets import snippet

PAGE = "docs/error-reports.md"


class RecordingTransport(Transport):
    """Records what would be sent to Sentry."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        """Keep the report in an envelope."""
        event = envelope.get_event()
        if event is not None:
            self.reports.append(event)


@pytest.fixture
def sentry() -> Iterator[RecordingTransport]:
    """Start Sentry's SDK as an application does, without integrations that patch other libraries permanently."""
    kept = RecordingTransport()
    options: Any = {"default_integrations": False, "auto_enabling_integrations": False}
    with sentry_sdk.isolation_scope():
        sentry_sdk.init("http://public@127.0.0.1:9/1", transport=kept, integrations=[LoggingIntegration()], **options)
        yield kept
        sentry_sdk.get_client().close()
        sentry_sdk.init()


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """Return what structlog would write."""
    capture = LogCapture()
    structlog.configure(processors=[merge_contextvars, capture])
    clear_contextvars()
    yield capture.entries
    clear_contextvars()
    structlog.reset_defaults()


@pytest.fixture
def sent() -> list[dict[str, Any]]:
    """The events that would be sent to PostHog."""
    return []


@pytest.fixture
def page(posthog: StandInControl, monkeypatch: pytest.MonkeyPatch, sent: list[dict[str, Any]]) -> Iterator[Any]:
    """The application on the page."""
    flags = [make_flag("new-checkout"), make_flag("price", variants={"b": 100}), make_flag("off", active=False)]
    posthog.serve({"flags": flags, "group_type_mapping": {}, "cohorts": {}})

    def make(key: str, *, secret_key: str, host: str) -> Posthog:
        assert host.startswith("https://")
        return Posthog(key, secret_key=secret_key, host=posthog.url, send=False, before_send=keep)

    def keep(event: dict[str, Any]) -> dict[str, Any]:
        sent.append(event)
        return event

    monkeypatch.setattr(sdk, "Posthog", make)
    for name in ("reported_flags", "checkout"):
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(snippet(PAGE, f"{name}.py"), module.__dict__)
    yield sys.modules["checkout"]
    sys.modules["checkout"].posthog.shutdown()


def _report(page: Any, sentry: RecordingTransport) -> Any:  # noqa: ANN401 - a module that exists only here
    with pytest.raises(ConnectionError) as failed:
        page.checkout("user")
    sentry_sdk.capture_exception(failed.value)
    return sentry.reports[-1]


def test_sentrys_report_lists_the_flags(page: Any, sentry: RecordingTransport, lines: list[Any]) -> None:  # noqa: ANN401
    """Sentry's report lists the flags that were read, and has the key of a variant as a tag."""
    report = _report(page, sentry)
    assert report["contexts"]["flags"]["values"] == [
        {"flag": "new-checkout", "result": True},
        {"flag": "price", "result": True},
    ]
    assert report["tags"] == {"flag.price": "b"}


def test_a_scope_has_the_flags_of_its_request(page: Any, sentry: RecordingTransport, lines: list[Any]) -> None:  # noqa: ANN401
    """A request in its own scope leaves no flags for the next report."""
    with sentry_sdk.isolation_scope():
        assert "flags" in _report(page, sentry)["contexts"]
    sentry_sdk.capture_message("later")
    assert "flags" not in sentry.reports[-1]["contexts"]


def test_structlogs_lines_have_the_flags(page: Any, sentry: RecordingTransport, lines: list[Any]) -> None:  # noqa: ANN401
    """Each line after a read has the flag, until the next request begins."""
    _report(page, sentry)
    assert {name: lines[0][name] for name in ("event", "price", "flag.new-checkout", "flag.price")} == {
        "event": "checkout begins",
        "price": "b",
        "flag.new-checkout": True,
        "flag.price": "b",
    }
    clear_contextvars()
    structlog.get_logger().info("another request")
    assert not [name for name in lines[1] if name.startswith("flag.")]


def test_posthogs_report_has_the_flags(
    page: Any,  # noqa: ANN401
    sentry: RecordingTransport,
    lines: list[Any],
    sent: list[Any],
) -> None:
    """The event of an exception carries the values that the request read."""
    _report(page, sentry)
    properties = next(event["properties"] for event in sent if event["event"] == "$exception")
    assert (properties["$feature/new-checkout"], properties["$feature/price"]) == (True, "b")
    assert properties["$active_feature_flags"] == ["new-checkout", "price"]


def test_only_flags_with_a_value_are_noted(page: Any, sentry: RecordingTransport, lines: list[Any]) -> None:  # noqa: ANN401
    """One that is off has a value; one that does not exist has none, and reads as its default."""
    flags = sys.modules["reported_flags"].ReportedFlags(page.posthog, "user")
    assert (flags.get("off", default="x"), flags.get("no-such", default="x"), flags.is_enabled("no-such")) == (
        False,
        "x",
        False,
    )
    flags.payload("price")
    sentry_sdk.capture_message("now")
    assert sentry.reports[-1]["contexts"]["flags"]["values"] == [{"flag": "off", "result": False}]
    structlog.get_logger().info("now")
    assert {name for name in lines[-1] if name.startswith("flag.")} == {"flag.off"}


def test_an_error_of_flagcache_is_a_report(sentry: RecordingTransport) -> None:
    """An ERROR of flagcache is a report, unless Sentry ignores the logger."""
    logging.getLogger("flagcache").error("a line")
    assert [report["logentry"]["message"] for report in sentry.reports] == ["a line"]
    ignore_logger("flagcache")
    try:
        logging.getLogger("flagcache").error("another line")
    finally:
        unignore_logger("flagcache")
    assert len(sentry.reports) == 1
