"""The report's own parts: a share's volatility beside its forecasts; equity curves with Sharpe ratios after costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.windows import WindowTasks
from quickstudy.domains.finance.sharpe import DAYS, Equity, bootstrap_interval, deflated_sharpe, held, sharpe
from quickstudy.domains.study import Found
from quickstudy.evaluate import Section
from quickstudy.evaluate.figures import Drawing, Theme, drawing, dress, legend
from quickstudy.evaluate.metatest import answer, evaluating
from quickstudy.learners.learner import AbstractLearner

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COSTS", "direction_sections", "equity", "volatility_sections"]

COSTS = (0.0, 5.0, 10.0)
"""Basis points of what is bought or sold."""

_WINDOWS = 600
_TICKS = 5  # dates below a window; more run into each other
_BESIDE = ("HAR, share's whole past", "EWMA 0.94", "pooled ridge")


def volatility_sections(found: Found) -> Sequence[Section]:
    """Three windows: what came, and what was foretold."""
    tasks = _first(found)
    names = [name for name in _BESIDE if name in found.rivals]
    learners = {_meta(found): found.learner, **{name: found.rivals[name] for name in names}}
    drawings = [_window(tasks, learners, number) for number in range(3)]
    text = (
        "Realised range volatility of the next days and its forecasts, percent a day, on the first three test windows. "
        "A forecast is made at the close of its day and knows nothing after it.",
        _gap_words(tasks),
    )
    return [Section("Volatility of some windows", text, drawings)]


def _gap_words(tasks: WindowTasks) -> str:
    """What the constant of the targets would be if it were fitted to these tasks."""
    return (
        f"The constant between the mean of a logarithm and the logarithm of a mean is {tasks.gap:g}, fixed beforehand: "
        "half the residual variance of a line fitted to the training period."
    )


def _window(tasks: WindowTasks, learners: Mapping[str, AbstractLearner], number: int) -> Drawing:
    numbers = range(number, number + 1)
    episode, asked = tasks.episodes(numbers), tasks.asked(numbers)
    assert episode.query.y is not None
    said = {}
    for name, learner in learners.items():
        with evaluating(learner):
            said[name] = answer(learner, episode)[0, :, 0].double().numpy()
    level, dates = float(asked.level[0]), asked.date[0].astype("datetime64[D]").astype(object)

    def percent(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(100 * np.exp((logs + level) / 2))

    truth = percent(episode.query.y[0, :, 0].double().numpy() - tasks.gap)
    symbol = tasks.panel.symbols[int(asked.share[0])]

    def draw(axes: Axes, theme: Theme) -> None:
        axes.plot(dates, truth, color=theme.ink, linewidth=2.2, label="what came")
        for colour, (name, logs) in zip(theme.lines, said.items(), strict=False):
            axes.plot(dates, percent(logs), color=colour, linewidth=1.5, label=name)
        dress(axes, theme, f"{symbol}, volatility of the next {tasks.horizon} days, % a day", grid="y")
        axes.set_xticks(dates[:: len(dates) // _TICKS + 1])
        axes.tick_params(axis="x", labelrotation=30)
        legend(axes, theme, columns=2)

    ends = ", ".join(f"{name} {percent(logs).mean():.2f}" for name, logs in said.items())
    alt = f"{symbol} from {dates[0]} to {dates[-1]}: mean volatility {truth.mean():.2f} % a day; foretold: {ends}."
    return drawing(draw, (4.9, 3.2), alt)


def equity(learner: AbstractLearner, tasks: WindowTasks, windows: int, cost: float) -> Equity:
    """Long where the learner says up, short where it says down, one unit of each window.

    Args:
        learner: of directions.
        tasks: test tasks.
        windows: how many of them.
        cost: basis points of what is bought or sold.
    """
    dates, positions, returns = _positions(learner, tasks, windows)
    return held(dates, positions, returns, cost / 1e4)


def _positions(
    learner: AbstractLearner, tasks: WindowTasks, windows: int
) -> tuple[NDArray[np.datetime64], NDArray[np.float64], NDArray[np.float64]]:
    numbers = range(windows)
    asked = tasks.asked(numbers)
    with evaluating(learner):
        outputs = answer(learner, tasks.episodes(numbers)).double().numpy()
    up = outputs[..., 1] > outputs[..., 0]
    return asked.date, np.where(up, 1.0, -1.0), asked.next_return


def direction_sections(found: Found) -> Sequence[Section]:
    """Sharpe ratios of all rules after costs, and their equity curves."""
    tasks = _first(found)
    rules = {_meta(found): found.learner, **found.rivals}
    curves: dict[str, list[Equity]] = {}
    for name, learner in rules.items():
        dates, positions, returns = _positions(learner, tasks, _WINDOWS)
        curves[name] = [held(dates, positions, returns, cost / 1e4) for cost in COSTS]
    trials = [np.array([sharpe(own[at].returns) for own in curves.values()]) / sqrt(DAYS) for at in range(len(COSTS))]
    rows = [_row(name, own, trials) for name, own in curves.items()]
    head = ["rule", *(f"Sharpe, {cost:g} bp" for cost in COSTS), *(f"deflated, {cost:g} bp" for cost in COSTS[1:])]
    text = (
        f"Each rule is long a share for the next day where it says up, and short where it says down, on {_WINDOWS} "
        "test windows; a day's return is the mean over the windows that are open. Whoever trades pays the named basis "
        "points of what is bought or sold, the first and the last trade of a window too. Positions are taken at the "
        "close whose price is among the features, at no spread and for no borrowing cost: less would be earned.",
        "Sharpe ratios are of a year, with the middle 95 % of a stationary bootstrap of blocks of 10 days on average. "
        f"The deflated ratio is the probability that the true one is above what the best of {len(rules)} worthless "
        "rules (those in the table: more were tried on the validation period) would show.",
    )
    return [Section("What the rules would have earned", text, [_draw_equity(curves)], head=head, rows=rows)]


def _row(name: str, own: Sequence[Equity], trials: Sequence[NDArray[np.float64]]) -> list[str]:
    cells = []
    for curve in own:
        low, high = bootstrap_interval(curve.returns)
        cells.append(f"{sharpe(curve.returns):.2f} ({low:.2f} to {high:.2f})")
    deflated = [deflated_sharpe(own[at].returns, trials[at]) for at in (1, 2)]
    return [name, *cells, *(f"{value:.3f}" for value in deflated)]


def _draw_equity(curves: Mapping[str, Sequence[Equity]]) -> Drawing:
    def draw(axes: Axes, theme: Theme) -> None:
        for number, (name, own) in enumerate(curves.items()):
            colour = theme.lines[number % len(theme.lines)]
            style = "-" if number < len(theme.lines) else "--"
            axes.plot(own[1].dates.astype(object), own[1].grown, style, color=colour, linewidth=1.5, label=name)
        dress(axes, theme, f"what 1 becomes, after {COSTS[1]:g} bp a trade", grid="y")
        axes.tick_params(axis="x", labelrotation=30)
        legend(axes, theme)

    ends = " ".join(f"{name}: {own[1].grown[-1]:.3f}." for name, own in curves.items())
    return drawing(draw, (6.4, 4.0), f"Equity curves after {COSTS[1]:g} basis points. At the end 1 has become {ends}")


def _meta(found: Found) -> str:
    """The meta-learner as the table of results calls it."""
    return next(iter(found.results), "meta-learned")


def _first(found: Found) -> WindowTasks:
    tasks = next(iter(found.sources.values()))
    assert isinstance(tasks, WindowTasks)
    return tasks
