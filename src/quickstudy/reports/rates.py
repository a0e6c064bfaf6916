"""Floor 6: the inner learning rates that a learner meta-learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from quickstudy.evaluate import Section
from quickstudy.evaluate.figures import Drawing, Theme, drawing, dress, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["rates_section"]

_LISTED = 40


def rates_section(name: str, rates: Mapping[str, Tensor]) -> Section:
    """Learned rates of a run, weight by weight.

    Args:
        name: of the run.
        rates: weight -> ``[S, M]``, see ``AbstractLearner.learned_rates``; not empty.
    """
    found = {key: value.double().cpu().numpy() for key, value in rates.items()}
    per_step = max(value.shape[0] for value in found.values()) > 1
    rows = []
    for key, value in list(found.items())[:_LISTED]:
        if per_step:
            rows.append((key, *[f"{step.mean():.3g}" for step in value]))
        else:
            ends = np.quantile(value, [0.0, 0.1, 0.5, 0.9, 1.0])
            rows.append((key, *[f"{end:.3g}" for end in ends], f"{100 * (value < 0).mean():.0f}"))
    if per_step:
        steps = max(value.shape[0] for value in found.values())
        head = ("weight", *[f"step {step + 1}" for step in range(steps)])
        text = "The rate of each weight in each inner step, as it was meta-learned."
        drawn = _lines(found)
    else:
        head = ("weight", "least", "10 %", "median", "90 %", "most", "below 0, %")
        text = (
            "Every entry of a weight has a rate of its own, by which its own gradient is multiplied: how they are "
            "spread. The thick line holds the middle 80 %."
        )
        drawn = _spreads(found)
    more = len(found) - _LISTED
    said = [text] + ([f"{more} more weights are left out of the table."] if more > 0 else [])
    return Section(f"Learned rates: {name}", said, [drawn], head=head, rows=rows)


def _lines(found: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]) -> Drawing:
    many = len(found) > 8

    def draw(axes: Axes, theme: Theme) -> None:
        for place, (key, value) in enumerate(found.items()):
            colour = theme.lines[0 if many else place % len(theme.lines)]
            steps = range(1, len(value) + 1)
            axes.plot(steps, value.mean(1), color=colour, label=None if many else key, marker="o", ms=3, linewidth=1.4)
        dress(axes, theme, "learned rate", grid="y")
        axes.set_xticks(range(1, 1 + max(len(value) for value in found.values())))
        axes.set_xlabel("inner step", color=theme.ink)
        if not many:
            legend(axes, theme, columns=2)

    return drawing(draw, (4.9, 3.4), f"Learned rates of {len(found)} weights against the inner step.")


def _spreads(found: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]) -> Drawing:
    shown = list(found.items())[:_LISTED][::-1]  # matplotlib counts upwards

    def draw(axes: Axes, theme: Theme) -> None:
        for place, (_, value) in enumerate(shown):
            least, low, middle, high, most = np.quantile(value, [0.0, 0.1, 0.5, 0.9, 1.0])
            axes.plot([least, most], [place, place], color=theme.lines[0], linewidth=1.0, alpha=0.6)
            axes.plot([low, high], [place, place], color=theme.lines[0], linewidth=5.0, solid_capstyle="butt")
            axes.plot(middle, place, "o", color=theme.lines[1], ms=5)
        axes.axvline(0.0, color=theme.ink, linewidth=0.8, linestyle=":")
        dress(axes, theme, "learned rate", grid="x")
        axes.set_yticks(range(len(shown)), [key for key, _ in shown], fontsize=8)

    return drawing(draw, (6.2, 1.0 + 0.3 * len(shown)), f"Learned rates of {len(found)} weights, how they are spread.")
