"""A client for applications of Starlette's kind."""

from __future__ import annotations

from typing import Any

__all__ = ["browser"]


def browser(app: Any) -> Any:  # noqa: ANN401 - its answers are whatever an application sends
    """Starlette's test client, which warns when it is imported: inside a test the warning can be ignored."""
    from starlette.testclient import TestClient

    return TestClient(app)
