"""Line charts as inline SVG, with their figures as a table beside them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from refine.report.curves import Point, Series
from refine.report.html.elements import Cell, details, sortable_table

MAX_SERIES = 6
"""As many as there are colours."""

_WIDTH, _HEIGHT = 420, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 40
_NUM_TICKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What a chart shows.

    Attributes:
        title: Heading.
        x_name: The knob.
        y_name: The quantity, drawn times 100.
        series: At most :data:`MAX_SERIES` are drawn.
        is_log: Logarithmic in x; every x is above 0.
    """

    title: str
    x_name: str
    y_name: str
    series: Sequence[Series]
    is_log: bool = False

    @property
    def heading(self) -> str:
        """With the quantity."""
        return f"{self.title}: {self.y_name}"


def draw_chart(chart: Chart) -> str:
    """A figure of the chart, its legend and its figures."""
    series = chart.series[:MAX_SERIES]
    left_out = len(chart.series) - len(series)
    hidden = f"<p>{left_out} more series are in the figures below.</p>" if left_out else ""
    keys = series if len(chart.series) > 1 else ()
    legend = "".join(
        f'<li><svg class="key c{k}" viewBox="0 0 10 10" aria-hidden="true">'
        f'<circle cx="5" cy="5" r="4.5"/></svg>{escape(s.label)}</li>'
        for k, s in enumerate(keys)
    )
    return (
        f'<figure class="chart"><figcaption>{escape(chart.heading)}</figcaption>'
        f'{_draw_svg(chart, series)}<ul class="legend">{legend}</ul>{hidden}'
        f"{details('figures', _tabulate(chart))}</figure>"
    )


def _draw_svg(chart: Chart, series: Sequence[Series]) -> str:
    points = [point for s in series for point in s.points]
    to_x, x_ticks = _x_axis(chart, [p.x for p in points])
    lows = [100 * (p.y - (p.std or 0)) for p in points]
    highs = [100 * (p.y + (p.std or 0)) for p in points]
    to_y, y_ticks = _y_axis(min(lows), max(highs))
    bottom = _HEIGHT - _BOTTOM
    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{to_y(t):.1f}" '
        f'y2="{to_y(t):.1f}"/><text x="{_LEFT - 6}" y="{to_y(t) + 4:.1f}" '
        f'text-anchor="end">{t:g}</text>'
        for t in y_ticks
    )
    marks = "".join(
        f'<line class="grid" x1="{to_x(t):.1f}" x2="{to_x(t):.1f}" y1="{bottom}" '
        f'y2="{bottom + 4}"/><text x="{to_x(t):.1f}" y="{bottom + 17}" '
        f'text-anchor="middle">{t:g}</text>'
        for t in x_ticks
    )
    lines = "".join(_draw_series(k, s, to_x, to_y) for k, s in enumerate(series))
    label = escape(f"{chart.heading}, times 100, over {chart.x_name}", quote=True)
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f'{grid}{marks}<text x="{(_LEFT + _WIDTH) / 2:.0f}" y="{_HEIGHT - 5}" '
        f'text-anchor="middle">{escape(chart.x_name)}</text>{lines}</svg>'
    )


def _draw_series(
    number: int, series: Series, to_x: Callable[[float], float], to_y: Callable[[float], float]
) -> str:
    path = " ".join(f"{to_x(p.x):.1f},{to_y(100 * p.y):.1f}" for p in series.points)
    dots = "".join(
        f'<circle cx="{to_x(p.x):.1f}" cy="{to_y(100 * p.y):.1f}" r="3.5">'
        f"<title>{escape(f'{series.label}: {p.x:g}, {_describe(p)}')}</title></circle>"
        for p in series.points
    )
    bars = "".join(
        f'<line x1="{to_x(p.x):.1f}" x2="{to_x(p.x):.1f}" y1="{to_y(100 * (p.y - p.std)):.1f}" '
        f'y2="{to_y(100 * (p.y + p.std)):.1f}"/>'
        for p in series.points
        if p.std is not None
    )
    return f'<g class="series c{number}"><polyline points="{path}"/>{bars}{dots}</g>'


def _x_axis(chart: Chart, values: Sequence[float]) -> tuple[Callable[[float], float], list[float]]:
    def scale(x: float) -> float:
        return math.log10(x) if chart.is_log else x

    low, high = scale(min(values)), scale(max(values))
    span = (high - low) or 1.0
    inner = _WIDTH - _LEFT - _RIGHT - 16

    def place(x: float) -> float:
        return _LEFT + 8 + (scale(x) - low) / span * inner

    if chart.is_log:
        exponents = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
        ticks = [10.0**e for e in exponents] if len(exponents) > 1 else [min(values), max(values)]
        return place, ticks
    distinct = sorted(set(values))
    return place, distinct if len(distinct) <= _NUM_TICKS else _nice_ticks(low, high)


def _y_axis(low: float, high: float) -> tuple[Callable[[float], float], list[float]]:
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    inner = _HEIGHT - _TOP - _BOTTOM - 12

    def place(y: float) -> float:
        return _HEIGHT - _BOTTOM - 6 - (y - low) / (high - low) * inner

    return place, _nice_ticks(low, high)


def _nice_ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / _NUM_TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round(step * (first + k), 10) for k in range(count)]


def _describe(point: Point) -> str:
    spread = "" if point.std is None else f" ± {100 * point.std:.2f}"
    return f"{100 * point.y:.2f}{spread}"


def _tabulate(chart: Chart) -> str:
    rows = [
        [Cell(series.label), Cell(f"{p.x:g}", p.x), Cell(_describe(p), p.y)]
        for series in chart.series
        for p in series.points
    ]
    header = ["series", chart.x_name, f"{chart.y_name} x 100"]
    return sortable_table(f"{chart.heading}, figures", header, rows)
