"""Small charts as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

# A drawing each for narrow and for wide pages, in pixels; the style shows the one that fits.
SIZES = {"narrow": (480, 320), "wide": (960, 380)}
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 16, 56
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#888888")


@dataclass(frozen=True)
class Series:
    """Points (x, y, spread) of one name; spread is half the height of a band or error bar.

    Attributes:
        name: in the legend.
        points: from left to right.
        marks: each point has a mark with its error bar, in place of a band.
    """

    name: str
    points: Sequence[tuple[float, float, float]]
    marks: bool = False


def chart(series: Sequence[Series], *, x: str, y: str) -> str:
    """Draw series with axes and a legend below; empty if there are no points."""
    series = [each for each in series if each.points]
    if not series:
        return ""
    label = f'role="img" aria-label="{escape(y)} by {escape(x)}"'
    drawn = "".join(
        f'<svg class="chart {name}" viewBox="0 0 {width} {height}" {label}>'
        f"{_drawing(series, (width, height), x, y)}</svg>"
        for name, (width, height) in SIZES.items()
    )
    keys = "".join(
        f'<li><i style="background:{COLOURS[k % len(COLOURS)]}"></i>{escape(each.name)}</li>'
        for k, each in enumerate(series)
    )
    return f'{drawn}<ul class="keys">{keys}</ul>'


def _drawing(series: Sequence[Series], size: tuple[int, int], x: str, y: str) -> str:
    width, height = size
    points = [point for each in series for point in each.points]
    x0, x1 = _range([p[0] for p in points])
    y0, y1 = _range([p[1] + side * p[2] for p in points for side in (-1, 1)])

    def at(px: float, py: float) -> tuple[float, float]:
        across = LEFT + (px - x0) / (x1 - x0) * (width - LEFT - RIGHT)
        return across, TOP + (y1 - py) / (y1 - y0) * (height - TOP - BOTTOM)

    parts = [_axes(size, x, y, (x0, x1), (y0, y1))]
    for k, each in enumerate(series):
        colour = COLOURS[k % len(COLOURS)]
        middle = _path([at(px, py) for px, py, _ in each.points])
        if not each.marks and any(d for *_, d in each.points):
            upper = [at(px, py + d) for px, py, d in each.points]
            lower = [at(px, py - d) for px, py, d in each.points]
            band = _path([*upper, *reversed(lower)])
            parts.append(f'<polygon points="{band}" fill="{colour}" opacity=".18"/>')
        parts.append(
            f'<polyline points="{middle}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        if each.marks or len(each.points) == 1:
            parts += [_mark(at(px, py - d), at(px, py + d), colour) for px, py, d in each.points]
    return "".join(parts)


def _axes(
    size: tuple[int, int], x: str, y: str, xs: tuple[float, float], ys: tuple[float, float]
) -> str:
    parts = []
    width, height = size
    for value in ticks(*ys):
        down = TOP + (ys[1] - value) / (ys[1] - ys[0]) * (height - TOP - BOTTOM)
        parts.append(f'<path d="M{LEFT} {down:.1f}H{width - RIGHT}" stroke="#8884"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(*xs):
        across = LEFT + (value - xs[0]) / (xs[1] - xs[0]) * (width - LEFT - RIGHT)
        below = height - BOTTOM + 20
        parts.append(f'<text x="{across:.1f}" y="{below}" text-anchor="middle">{value:g}</text>')
    middle = (TOP + height - BOTTOM) / 2
    parts.append(
        f'<text x="{width / 2:g}" y="{height - 6}" text-anchor="middle">{escape(x)}</text>'
        f'<text transform="translate(16 {middle:g}) rotate(-90)" text-anchor="middle">'
        f"{escape(y)}</text>"
    )
    return "".join(parts)


def ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two, at most six.

    >>> ticks(15.7, 47.4), ticks(0.9, 1.1)
    ([20.0, 30.0, 40.0], [0.9, 0.95, 1.0, 1.05, 1.1])
    """
    power = 10.0 ** math.floor(math.log10((high - low) / 5))
    step = next(power * k for k in (1, 2, 5, 10) if (high - low) / (power * k) <= 5)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{k * step:.10g}") for k in range(first, last + 1)]


def _mark(low: tuple[float, float], high: tuple[float, float], colour: str) -> str:
    x, y = high[0], (low[1] + high[1]) / 2
    return (
        f'<path d="M{x:.1f} {low[1]:.1f}V{high[1]:.1f}" stroke="{colour}" stroke-width="2"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or abs(high) / 10 or 1.0
    return max(low - margin, 0.0) if low >= 0 else low - margin, high + margin
