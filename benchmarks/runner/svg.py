"""Bar charts as SVG, without a library: two colours, in a light and a dark form."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["DARK", "LIGHT", "Bar", "Group", "Theme", "bars"]

_WIDTH, _LABELS, _VALUES = 760, 210, 90
_BAR, _GAP, _GROUP_GAP, _TOP = 16, 4, 30, 52
_FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of one form."""

    name: str
    text: str
    faint: str
    ours: str
    other: str


LIGHT = Theme("light", text="#1f2328", faint="#59636e", ours="#0969da", other="#b1bac4")
DARK = Theme("dark", text="#f0f6fc", faint="#9198a1", ours="#4493f8", other="#545d68")


@dataclass(frozen=True, slots=True)
class Bar:
    """One contestant's value."""

    label: str
    value: float
    ours: bool


@dataclass(frozen=True, slots=True)
class Group:
    """The bars of one case."""

    label: str
    bars: Sequence[Bar]


def bars(title: str, groups: Sequence[Group], with_unit: Callable[[float], str], theme: Theme) -> str:
    """Draw a chart.

    If the largest value is more than 50 times the smallest, lengths are logarithmic, and the chart says so.

    Args:
        title: of the chart.
        groups: from top to bottom.
        with_unit: formats a value with its unit.
        theme: its colours; the background is the page's.
    """
    values = [bar.value for group in groups for bar in group.bars]
    length, logarithmic = _scale(values)
    parts: list[str] = [_text(0, 20, title, theme.text, size=15)]
    parts.append(
        _text(
            0, 38, "logarithmic scale; shorter is better" if logarithmic else "shorter is better", theme.faint, size=11
        )
    )
    y = _TOP
    for group in groups:
        parts.append(_text(0, y + 12, group.label, theme.text, size=13))
        y += _BAR + _GAP
        for bar in group.bars:
            parts += _bar(bar, y, length(bar.value), with_unit(bar.value), theme)
            y += _BAR + _GAP
        y += _GROUP_GAP - _BAR
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}"'
        f' role="img" aria-label="{escape(title)}" font-family="{_FONT}">\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _scale(values: Sequence[float]) -> tuple[Callable[[float], float], bool]:
    """Return the function from a value to a length in pixels, and whether it is logarithmic."""
    room = _WIDTH - _LABELS - _VALUES
    positive = [value for value in values if value > 0]
    largest, smallest = max(positive, default=1.0), min(positive, default=1.0)
    if largest <= 50 * smallest:
        return lambda value: room * max(0.0, value) / largest, False
    low = math.log10(smallest) - 0.5
    span = math.log10(largest) - low
    return lambda value: room * (math.log10(value) - low) / span if value > 0 else 0.0, True


def _bar(bar: Bar, y: float, length: float, label: str, theme: Theme) -> list[str]:
    colour = theme.ours if bar.ours else theme.other
    middle = y + _BAR - 4
    return [
        _text(_LABELS - 8, middle, bar.label, theme.text if bar.ours else theme.faint, anchor="end"),
        f'<rect x="{_LABELS}" y="{y}" width="{max(1.0, length):.1f}" height="{_BAR}" rx="2" fill="{colour}"/>',
        _text(_LABELS + max(1.0, length) + 6, middle, label, theme.text),
    ]


def _text(x: float, y: float, text: str, colour: str, *, size: int = 12, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
    )
