"""Line charts with two logarithmic axes as stand-alone SVGs, in a light and a dark form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

__all__ = ["DARK", "LIGHT", "Line", "Panel", "Theme", "svg"]

_WIDTH, _HEIGHT = 470.0, 380.0
_LEFT, _TOP, _RIGHT, _BOTTOM = 52.0, 34.0, 26.0, 40.0
_LEGEND = 26.0
_FONT = "font-family='system-ui, sans-serif' font-size='12'"


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of one plot."""

    background: str
    text: str
    grid: str
    lines: dict[str, str]
    """By the name of the line; people with poor colour vision can distinguish them."""


LIGHT = Theme(
    "#ffffff",
    "#24292f",
    "#d0d7de",
    {
        "none": "#c0392b",
        "example": "#b8860b",
        "republishing": "#7f6bb0",
        "protocol": "#3a8fb7",
        "attached": "#117a4b",
    },
)
DARK = Theme(
    "#0d1117",
    "#e6edf3",
    "#30363d",
    {
        "none": "#ff7b72",
        "example": "#e3b341",
        "republishing": "#bc9cff",
        "protocol": "#79c0ff",
        "attached": "#56d364",
    },
)
_DASHES = {"none": "", "example": "", "republishing": "2 5", "protocol": "7 4", "attached": ""}


@dataclass(frozen=True, slots=True)
class Line:
    """One contestant."""

    name: str
    title: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot of several side by side."""

    title: str
    lines: tuple[Line, ...]


class _Scale:
    """A logarithmic scale: maps numbers to positions on an axis.

    Args:
        values: all values to show.
        begin: position of the smallest power of ten.
        end: position of the largest.
    """

    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        self._low = math.floor(math.log10(min(values)))
        self._high = max(self._low + 1, math.ceil(math.log10(max(values))))
        self._begin, self._end = begin, end

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._begin + share * (self._end - self._begin)

    @property
    def ticks(self) -> tuple[float, ...]:
        """All powers of ten."""
        return tuple(10.0**power for power in range(self._low, self._high + 1))


def svg(panels: Sequence[Panel], theme: Theme) -> str:
    """Draw the panels side by side, with one legend."""
    width, height = _WIDTH * len(panels), _HEIGHT + _LEGEND
    named = {line.name: line.title for panel in panels for line in panel.lines}
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:g} {height:g}' role='img' {_FONT}>",
        f"<title>{escape('; '.join(panel.title for panel in panels))}, by number of workers</title>",
        f"<rect width='{width:g}' height='{height:g}' fill='{theme.background}'/>",
        *(_panel(panel, i * _WIDTH, theme) for i, panel in enumerate(panels)),
        _legend(named, theme),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _panel(panel: Panel, left: float, theme: Theme) -> str:
    points = [point for line in panel.lines for point in line.points]
    x = _Scale([point[0] for point in points], left + _LEFT, left + _WIDTH - _RIGHT)
    y = _Scale([point[1] for point in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [_text(left + _LEFT, 20, panel.title, theme, weight="600")]
    for tick in x.ticks:
        parts.append(_rule(x(tick), _TOP, x(tick), _HEIGHT - _BOTTOM, theme))
        parts.append(_text(x(tick), _HEIGHT - _BOTTOM + 16, f"{tick:,.0f}", theme, anchor="middle"))
    for tick in y.ticks:
        parts.append(_rule(left + _LEFT, y(tick), left + _WIDTH - _RIGHT, y(tick), theme))
        parts.append(_text(left + _LEFT - 6, y(tick) + 4, _short(tick), theme, anchor="end"))
    parts.append(_text(left + (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, "workers", theme, anchor="middle"))
    parts.extend(_line(line, x, y, theme) for line in panel.lines)
    return "\n".join(parts)


def _line(line: Line, x: _Scale, y: _Scale, theme: Theme) -> str:
    places = " ".join(f"{x(workers):.1f},{y(value):.1f}" for workers, value in line.points)
    colour = theme.lines[line.name]
    dots = "".join(f"<circle cx='{x(n):.1f}' cy='{y(v):.1f}' r='2.5' fill='{colour}'/>" for n, v in line.points)
    dash = f" stroke-dasharray='{_DASHES[line.name]}'" if _DASHES[line.name] else ""
    return f"<polyline points='{places}' fill='none' stroke='{colour}' stroke-width='2'{dash}/>{dots}"


def _legend(named: dict[str, str], theme: Theme) -> str:
    parts: list[str] = []
    left, y = _LEFT, _HEIGHT + 8
    for name, title in named.items():
        dash = f" stroke-dasharray='{_DASHES[name]}'" if _DASHES[name] else ""
        stroke = f"stroke='{theme.lines[name]}' stroke-width='2'{dash}"
        parts.append(f"<line x1='{left:g}' y1='{y - 4:g}' x2='{left + 22:g}' y2='{y - 4:g}' {stroke}/>")
        parts.append(_text(left + 28, y, title, theme))
        left += 28 + 6.6 * len(title) + 24
    return "\n".join(parts)


def _rule(x1: float, y1: float, x2: float, y2: float, theme: Theme) -> str:
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{theme.grid}'/>"


def _text(x: float, y: float, text: str, theme: Theme, *, anchor: str = "start", weight: str = "400") -> str:
    style = f"fill='{theme.text}' text-anchor='{anchor}' font-weight='{weight}'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(text)}</text>"


def _short(n: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:g}{unit}"
    return f"{n:g}"
