"""Floor 4: the report's figures, as SVG pictures for light and for dark pages.

Drawn on ``matplotlib.figure.Figure`` without pyplot, so that nothing of a caller's figures or backend changes.
matplotlib is imported where it is used: whoever meta-tests without a report does not wait for it.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import InputError
from quickstudy.evaluate.comparison import Comparison
from quickstudy.evaluate.picture import data_address
from quickstudy.evaluate.wording import figure, metric_name, number
from quickstudy.metrics import metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Curve", "Drawing", "Theme", "draw_curves", "draw_intervals", "drawing", "dress", "legend", "logarithmic"]

POINTS = 200
"""At most so many points a line; more steps are averaged in bins, with the middle 80 % shaded."""


@dataclass(frozen=True)
class Curve:
    """Something measured along training, or along inner steps, shots and the like.

    Args:
        name: whose it is, such as ``"protonet"``; curves of one name share a colour.
        quantity: what it is, such as ``"loss"`` or ``"validation accuracy"``; curves of one quantity share a panel.
            A quantity that ends in "accuracy" is a fraction, shown in percent.
        steps: training steps, or whatever ``along`` says.
        values: one a step; values that are not finite leave a gap.
        spread: half-widths of the values' intervals, one a step, drawn as a band; empty where there are none.
        along: what the steps are.
        log: on a logarithmic scale, if all values are above 0.

    Raises:
        InputError: no steps, or not as many values as steps.
    """

    name: str
    quantity: str
    steps: Sequence[float]
    values: Sequence[float]
    spread: Sequence[float] = ()
    along: str = "training step"
    log: bool = False

    def __post_init__(self) -> None:
        if len(self.spread) not in (0, len(self.values)):
            raise InputError(
                f"Cannot draw the {self.quantity} of {self.name}: {len(self.values)} values and {len(self.spread)} "
                "half-widths given; expected as many of each, or no half-widths."
            )
        if not len(self.steps) or len(self.steps) != len(self.values):
            raise InputError(
                f"Cannot draw the {self.quantity} of {self.name}: {len(self.steps)} steps and {len(self.values)} "
                "values given; expected as many of each, at least one."
            )

    @property
    def percent(self) -> bool:
        """Whether it is a fraction to be shown in percent."""
        return self.quantity.endswith("accuracy")


@dataclass(frozen=True)
class Drawing:
    """One figure: ``data:`` addresses for light and dark pages, its text, and its width in CSS pixels."""

    light: str
    dark: str
    alt: str
    width: int


@dataclass(frozen=True)
class Theme:
    """Colours of a page: of text, of what lies behind, and of lines, to be taken in this order."""

    ink: str
    faint: str
    lines: tuple[str, ...]


# Hues of Okabe and Ito, told apart by colour-blind readers, darkened or lightened for the page behind them.
_LIGHT = Theme("#3d4450", "#d9dde3", ("#0063a8", "#c24a00", "#007a5a", "#a8477f", "#8a6d00", "#4a4a4a"))
_DARK = Theme("#c3c9d4", "#3a414d", ("#5ab4f0", "#ff9a4d", "#3fcf9f", "#e08fbd", "#e6c84a", "#b8b8b8"))

Floats: TypeAlias = NDArray[np.float64]
_Draw: TypeAlias = "Callable[[Axes, Theme], None]"


def draw_curves(curves: Sequence[Curve], names: Sequence[str] = ()) -> list[Drawing]:
    """A drawing a quantity, a line a curve.

    Args:
        curves: what to draw.
        names: whose curves there may be on the page, in the order of their colours; those of ``curves`` by default.
    """
    names = list(dict.fromkeys([*names, *(curve.name for curve in curves)]))
    quantities = dict.fromkeys(curve.quantity for curve in curves)
    return [_draw_quantity([curve for curve in curves if curve.quantity == q], names) for q in quantities]


def _draw_quantity(curves: Sequence[Curve], names: Sequence[str]) -> Drawing:
    """One panel; ``names`` are those of all panels, for the same colours in each."""
    quantity, percent, along = curves[0].quantity, curves[0].percent, curves[0].along
    above = [value for curve in curves for value in curve.values if math.isfinite(value)]
    log = curves[0].log and bool(above) and min(above) > 0

    def draw(axes: Axes, theme: Theme) -> None:
        for curve in curves:
            _line(axes, curve, theme.lines[names.index(curve.name) % len(theme.lines)])
        dress(axes, theme, f"{quantity}, %" if percent else quantity, grid="y")
        axes.set_xlabel(along, color=theme.ink)
        if log:
            logarithmic(axes)
        if along != "training step":
            _whole_numbers(axes)
        legend(axes, theme, columns=2 if max(map(len, names)) > 18 else 3)

    kind = "Training curve" if along == "training step" else "Curve"
    alt = f"{kind}, {quantity} against {_last_word(along)}. " + " ".join(_spoken(curve) for curve in curves)
    return drawing(draw, (4.7, 3.1), alt)


def _line(axes: Axes, curve: Curve, colour: str) -> None:
    steps = np.asarray(curve.steps, dtype=np.float64)
    values = np.asarray(curve.values, dtype=np.float64) * (100 if curve.percent else 1)
    if curve.spread and len(steps) <= POINTS:
        half = np.asarray(curve.spread, dtype=np.float64) * (100 if curve.percent else 1)
        half = np.where(np.isfinite(half), half, 0.0)
        axes.fill_between(steps, values - half, values + half, color=colour, alpha=0.18, linewidth=0)
    if len(steps) > POINTS:
        steps, values, low, high = _binned(steps, values)
        axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(steps, values, color=colour, label=curve.name, linewidth=1.7, marker="o" if len(steps) < 30 else "", ms=3)


def _binned(steps: Floats, values: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Means of steps and values in POINTS bins, and the 10 % and 90 % points of the values (NaN in empty bins)."""
    rows = []
    for mine in np.array_split(np.arange(len(steps)), POINTS):
        finite = values[mine][np.isfinite(values[mine])]
        middle = (finite.mean(), *np.quantile(finite, [0.1, 0.9])) if len(finite) else (np.nan,) * 3
        rows.append((steps[mine].mean(), *middle))
    columns = np.array(rows).T
    return columns[0], columns[1], columns[2], columns[3]


def _spoken(curve: Curve) -> str:
    name, unit = ("accuracy", " %") if curve.percent else ("mse", "")
    at = _last_word(curve.along)
    first, last = (f"{number(curve.values[i], name)}{unit} at {at} {curve.steps[i]:g}" for i in (0, -1))
    return f"{curve.name}: from {first} to {last}."


def _whole_numbers(axes: Axes) -> None:
    """Below the axis: there are no half shots."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _last_word(along: str) -> str:
    """``step`` of "training step"."""
    return along.rpartition(" ")[2]


def draw_intervals(table: Comparison) -> list[Drawing]:
    """A drawing a column: every row's mean with its 95 % interval, baselines with hollow markers."""
    return [_draw_column(table, column) for column in range(len(table.columns))]


def _draw_column(table: Comparison, column: int) -> Drawing:
    measured = [(row, row.cells[column]) for row in reversed(table.rows)]  # matplotlib counts upwards
    shown = [(row, cell.result) for row, cell in measured if cell is not None]
    scale = 100 if metric(table.metric).percent else 1

    def draw(axes: Axes, theme: Theme) -> None:
        for height, (row, result) in enumerate(shown):
            colour = theme.ink if row.baseline else theme.lines[0]
            fill = "none" if row.baseline else colour
            finite = math.isfinite(result.mean)  # a mean that is infinite keeps its line, empty
            mean, spread = (result.mean * scale, result.ci95 * scale) if finite else (math.nan, 0.0)
            spread = spread if math.isfinite(spread) else 0.0
            axes.errorbar(mean, height, xerr=spread, fmt="o", color=colour, mfc=fill, capsize=3, ms=6)
        dress(axes, theme, textwrap.fill(table.columns[column], 34), grid="x")
        axes.set_yticks(range(len(shown)), [row.name for row, _ in shown])
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_xlabel(metric_name(table.metric), color=theme.ink)

    spoken = " ".join(f"{row.name}: {figure(result)}." for row, result in reversed(shown))
    alt = f"{table.columns[column]}, means with 95 % intervals, {metric_name(table.metric)}. {spoken}"
    return drawing(draw, (4.9, 1.1 + 0.33 * len(shown)), alt)


def dress(axes: Axes, theme: Theme, title: str, grid: Literal["x", "y"]) -> None:
    """Title, grid and frame as all figures have them."""
    axes.set_title(title, loc="left", color=theme.ink, fontsize=10.5)
    axes.set_facecolor("none")
    axes.grid(True, axis=grid, color=theme.faint, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.ink, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.faint)


def logarithmic(axes: Axes) -> None:
    """The upright axis, as it was drawn on: 1, 2 and 5 of each decade while there is room, and no powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    narrow = high < 1e4 * low
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=15 if narrow else 6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()


def legend(axes: Axes, theme: Theme, columns: int = 3) -> None:
    """Who is who, below the axes, where no line runs."""
    handles, names = axes.get_legend_handles_labels()
    assert axes.figure is not None
    axes.figure.legend(
        handles, names, loc="outside lower center", ncols=columns, frameon=False, labelcolor=theme.ink, fontsize=8
    )


def drawing(draw: _Draw, size: tuple[float, float], alt: str) -> Drawing:
    """A figure of one panel, for light and for dark pages.

    Args:
        draw: draws on the axes with the theme's colours; called for each theme.
        size: width and height in inches.
        alt: what it shows, in words.
    """
    # The salt makes the ids in the file, and so the report, the same every time.
    import matplotlib
    from matplotlib.figure import Figure

    addresses = []
    with matplotlib.rc_context({"svg.hashsalt": "quickstudy", "svg.fonttype": "path", "font.size": 10}):
        for theme in (_LIGHT, _DARK):
            page = Figure(figsize=size, layout="constrained")
            page.patch.set_alpha(0)
            draw(page.subplots(), theme)
            file = io.BytesIO()
            page.savefig(file, format="svg", metadata={"Date": None})
            addresses.append(data_address("image/svg+xml", file.getvalue()))
    return Drawing(addresses[0], addresses[1], alt, round(size[0] * 96))
