"""Floor 6: what accuracy costs: figures against the time of training, as SVG that takes its colours from the page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

from quickstudy.evaluate.wording import metric_name
from quickstudy.leaderboard.board import Table
from quickstudy.leaderboard.text import duration, measured
from quickstudy.metrics import metric

__all__ = ["cost_plot"]

_WIDE, _HIGH = 560, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 18, 14, 42


@dataclass(frozen=True)
class _Point:
    label: str
    title: str
    cost: float
    mean: float
    ci95: float
    transductive: bool


def cost_plot(table: Table) -> str:
    """An ``<svg>``; empty where fewer than two rows say what their training took.

    The time is on a logarithmic scale. A line joins the rows that no cheaper one is better than, inductive ones alone.

    Args:
        table: whose rows.
    """
    points = _points(table)
    if len(points) < 2:
        return ""
    scale = 100.0 if metric(table.metric).percent else 1.0
    x = _Scale([math.log10(point.cost) for point in points], _LEFT, _WIDE - _RIGHT)
    ends = [scale * (point.mean + sign * point.ci95) for point in points for sign in (-1, 1)]
    y = _Scale(ends, _HIGH - _BOTTOM, _TOP)
    costs = [point.cost for point in points]
    parts = [
        *_axes(x, y, table, sorted({min(costs), max(costs)})),
        *_front(points, x, y, scale, metric(table.metric).smaller_is_better),
    ]
    parts += [_drawn(point, x, y, scale) for point in points]
    said = "; ".join(f"{point.label}: {point.title}" for point in points)
    alt = escape(f"{metric_name(table.metric)} against time of training. {said}.", quote=True)
    return f'<svg class="cost" viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{alt}">{"".join(parts)}</svg>'


def _points(table: Table) -> list[_Point]:
    found = []
    for row, rank in zip(table.rows, table.ranks, strict=True):
        result = row.result
        if row.cost and math.isfinite(result.mean) and math.isfinite(result.ci95):
            title = f"{row.name}, {measured(row)}, {duration(row.cost)}"
            label = f"{'t' if result.transductive else ''}{rank}"
            found.append(_Point(label, title, row.cost, result.mean, result.ci95, result.transductive))
    return found


class _Scale:
    """Numbers -> pixels, with some room at both ends."""

    def __init__(self, values: list[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
        self.low, self.high, self._start, self._end = low - room, high + room, start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self._start + share * (self._end - self._start), 1)

    def ticks(self, least: int = 3) -> list[float]:
        """Round numbers inside, at least so many."""
        step = 10.0 ** math.ceil(math.log10(self.high - self.low))
        for _ in range(20):
            for part in (1.0, 0.5, 0.2):
                first = math.ceil(self.low / (step * part))
                found = [n * step * part for n in range(first, math.floor(self.high / (step * part)) + 1)]
                if len(found) >= least:
                    return found
            step /= 10
        return []


_TIMES: list[tuple[float, str]] = [
    (1, "1 s"),
    (10, "10 s"),
    (60, "1 min"),
    (600, "10 min"),
    (3600, "1 h"),
    (36000, "10 h"),
    (360000, "100 h"),
]


def _axes(x: _Scale, y: _Scale, table: Table, ends: list[float]) -> list[str]:
    bottom, right = _HIGH - _BOTTOM, _WIDE - _RIGHT
    parts = []
    for value in y.ticks():
        at = y(value)
        said = f"{value:.10g}".replace("-", "−")
        parts.append(f'<path class="grid" d="M{_LEFT} {at}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4}" text-anchor="end">{said}</text>')
    inside = [one for one in _TIMES if x.low <= math.log10(one[0]) <= x.high]
    if len(inside) < 2:
        inside = [(cost, duration(cost)) for cost in ends]
    for seconds, said in inside:
        at = x(math.log10(seconds))
        parts.append(f'<path class="grid" d="M{at} {_TOP}V{bottom}"/>')
        parts.append(f'<text x="{at}" y="{bottom + 16}" text-anchor="middle">{said}</text>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{_HIGH - 6}" text-anchor="middle">time of training a seed</text>')
    title = escape(metric_name(table.metric))
    turn = f'transform="translate(12 {(_TOP + bottom) / 2}) rotate(-90)"'
    parts.append(f'<text {turn} text-anchor="middle">{title}</text>')
    return parts


def _front(points: list[_Point], x: _Scale, y: _Scale, scale: float, smaller: bool) -> list[str]:
    """Those that no cheaper one is better than."""
    best, line = math.inf if smaller else -math.inf, []
    for point in sorted((one for one in points if not one.transductive), key=lambda one: one.cost):
        if (point.mean < best) if smaller else (point.mean > best):
            best = point.mean
            line.append(f"{x(math.log10(point.cost))} {y(scale * point.mean)}")
    return [f'<path class="front" d="M{"L".join(line)}"/>'] if len(line) > 1 else []


def _drawn(point: _Point, x: _Scale, y: _Scale, scale: float) -> str:
    across, up = x(math.log10(point.cost)), y(scale * point.mean)
    low, high = (y(scale * (point.mean + sign * point.ci95)) for sign in (-1, 1))
    kind = "transductive" if point.transductive else "inductive"
    anchor, off = ("end", -9) if across > _WIDE - 60 else ("start", 9)
    return (
        f'<g class="{kind}"><title>{escape(point.title)}</title><path d="M{across} {low}V{high}"/>'
        f'<circle cx="{across}" cy="{up}" r="4.5"/>'
        f'<text x="{across + off}" y="{up - 6}" text-anchor="{anchor}">{point.label}</text></g>'
    )
