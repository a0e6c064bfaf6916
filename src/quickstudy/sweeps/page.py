"""Floor 6: the page of a sweep: what mattered, where it was good, and every trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from quickstudy.evaluate import Entry, Result, Section, cell_name, compare, write_report
from quickstudy.evaluate.figures import Drawing, Theme, drawing, dress, legend, logarithmic
from quickstudy.evaluate.wording import metric_name
from quickstudy.metrics import metric
from quickstudy.recipes import Recipe
from quickstudy.sweeps.folder import SweepFolder
from quickstudy.sweeps.space import Dimension
from quickstudy.sweeps.study import Trial
from quickstudy.sweeps.told import counts, figure_of, shown
from quickstudy.train.runfolder import describe_environment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_page"]

_SIZE = (4.7, 3.1)


def write_page(
    folder: SweepFolder,
    recipe: Recipe,
    space: Sequence[Dimension],
    measured: str,
    trials: Sequence[Trial],
    best: Trial,
    result: Result | None,
    importance: Mapping[str, float] | None = None,
) -> None:
    """Write ``report.html`` of a sweep.

    Args:
        folder: of the sweep.
        recipe: that trials vary.
        space: what is varied.
        measured: the metric of validations.
        trials: all of them.
        best: the one that was chosen.
        result: its meta-test, if there was one.
        importance: key -> share; see ``Study.importance``.

    Raises:
        StorageError: the disk refused.
    """
    tested = None if result is None else compare([Entry(recipe.learner.name, {cell_name(result): result})])
    chosen = ", ".join(f"{key} = {shown(value)}" for key, value in best.values.items())
    write_report(
        folder.report,
        title=f"Sweep of {recipe.name}",
        lead=(
            f"{len(trials)} trials of the learner {recipe.learner.name} on {recipe.data.name}: {counts(trials)}. "
            f"The best, trial {best.number}, has a validation {measured} of {figure_of(best.value, measured)} "
            f"with {chosen}."
        ),
        table=tested,
        sections=_sections(space, measured, trials, best, importance or {}),
        settings={
            "varied": {one.key: str(one) for one in space},
            "recipe": recipe.model_dump(mode="json", by_alias=True, exclude_none=True),
        },
        versions=describe_environment(),
        notes=(_NOTE if result is not None else _NOT_TESTED,),
    )


_NOTE = (
    "Trials were chosen by meta-validation alone; meta-test was looked at once, for the best trial. The best of many "
    "validations is a little better than the learner is: the figure to quote is that of meta-test."
)
_NOT_TESTED = (
    "Trials were chosen by meta-validation alone, and meta-test was not looked at yet. The best of many validations is "
    "a little better than the learner is."
)


def _sections(
    space: Sequence[Dimension], measured: str, trials: Sequence[Trial], best: Trial, importance: Mapping[str, float]
) -> list[Section]:
    found = []
    drawings = [_history(measured, trials), _progress(measured, trials, best)]
    found.append(Section("Trial by trial", drawings=[one for one in drawings if one is not None]))
    if importance:
        text = (
            "Of what makes the best tenth of the trials better than the others (PED-ANOVA), the share of each key "
            "within its range. Few trials make it uncertain.",
        )
        found.append(Section("What mattered", text, [_importance(importance)]))
    slices = [drawn for one in space if (drawn := _slice(one, measured, trials, best)) is not None]
    text = (
        "Every trial against the value that it had, the other keys being varied along with it: a circle where it "
        "finished, the filled one is the best; a cross where it was stopped, with the best that it had by then.",
    )
    found.append(Section("Each key by itself", text, slices))
    found.append(_table(space, measured, trials, best))
    return found


def _scale(measured: str) -> float:
    return 100.0 if metric(measured).percent else 1.0


def _finished(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.outcome == "finished" and trial.value is not None]


def _history(measured: str, trials: Sequence[Trial]) -> Drawing | None:
    """Each trial's figure, and the best until then."""
    done, scale = _finished(trials), _scale(measured)
    values = [scale * (trial.value or 0.0) for trial in done]
    better = np.minimum if metric(measured).smaller_is_better else np.maximum
    so_far = better.accumulate(values)

    def draw(axes: Axes, theme: Theme) -> None:
        numbers = [trial.number for trial in done]
        axes.step(numbers, so_far, where="post", color=theme.lines[1], label="best so far", linewidth=1.7)
        axes.scatter(numbers, values, color=theme.lines[0], label="trial", s=22, zorder=3)
        dress(axes, theme, f"validation {metric_name(measured)}", grid="y")
        axes.set_xlabel("trial", color=theme.ink)
        _whole(axes)
        _wide(axes, values)
        legend(axes, theme)

    return drawing(draw, _SIZE, f"Validation figures of {len(done)} trials, the best {shown(float(so_far[-1]))}.")


def _progress(measured: str, trials: Sequence[Trial], best: Trial) -> Drawing | None:
    """Validations along training, of every trial."""
    curves = [trial for trial in trials if len(trial.reports) > 1]
    if not curves:
        return None

    def draw(axes: Axes, theme: Theme) -> None:
        named = set()
        for trial in sorted(curves, key=lambda one: one.number == best.number):
            kind = "best" if trial.number == best.number else "pruned" if trial.outcome == "pruned" else "others"
            colour = {"best": theme.lines[1], "pruned": theme.lines[3], "others": theme.lines[0]}[kind]
            axes.plot(
                list(trial.reports),
                [_scale(measured) * value for value in trial.reports.values()],
                color=colour,
                alpha=1.0 if kind == "best" else 0.45,
                linewidth=2.0 if kind == "best" else 1.1,
                label=None if kind in named else kind,
            )
            named.add(kind)
        dress(axes, theme, f"validation {metric_name(measured)}", grid="y")
        _wide(axes, [_scale(measured) * value for trial in curves for value in trial.reports.values()])
        axes.set_xlabel("training step", color=theme.ink)
        legend(axes, theme)

    return drawing(draw, _SIZE, f"Validations along training of {len(curves)} trials.")


def _importance(importance: Mapping[str, float]) -> Drawing:
    names = sorted(importance, key=lambda name: importance[name])

    def draw(axes: Axes, theme: Theme) -> None:
        axes.barh(names, [100 * importance[name] for name in names], color=theme.lines[0], height=0.6)
        dress(axes, theme, "share, %", grid="x")
        axes.set_xlim(0, 100)

    spoken = " ".join(f"{name}: {100 * importance[name]:.0f} %." for name in reversed(names))
    return drawing(draw, (6.2, 0.9 + 0.36 * len(names)), f"Importance of each key. {spoken}")


def _slice(one: Dimension, measured: str, trials: Sequence[Trial], best: Trial) -> Drawing | None:
    shown_trials = [t for t in trials if t.value is not None and t.values.get(one.key) is not None]
    if not shown_trials:
        return None
    scale, words = _scale(measured), [shown(value) for value in one.choices]

    def draw(axes: Axes, theme: Theme) -> None:
        for kind, colour, marker, size in (
            ("pruned", theme.lines[3], "x", 22),
            ("finished", theme.lines[0], "o", 26),
            ("best", theme.lines[1], "o", 60),
        ):
            mine = [t for t in shown_trials if kind == ("best" if t.number == best.number else t.outcome)]
            where = [words.index(shown(t.values[one.key])) if words else t.values[one.key] for t in mine]
            fill = "none" if kind == "finished" else colour
            figures = [scale * (t.value or 0.0) for t in mine]
            if marker == "x":
                axes.scatter(where, figures, s=size, marker=marker, color=colour, zorder=3)
            else:
                axes.scatter(where, figures, s=size, marker=marker, edgecolors=colour, facecolors=fill, zorder=3)
        dress(axes, theme, f"validation {metric_name(measured)}", grid="y")
        _wide(axes, [scale * (t.value or 0.0) for t in shown_trials])
        _ticks(axes, one, words)
        axes.set_xlabel(one.key, color=theme.ink)

    return drawing(draw, _SIZE, f"Validation figures of {len(shown_trials)} trials against {one.key}.")


def _whole(axes: Axes) -> None:
    """Whole numbers below the axis."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _wide(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis where one figure would leave all others on a line."""
    if min(values) > 0 and max(values) > 20 * float(np.median(values)):
        logarithmic(axes)


def _ticks(axes: Axes, one: Dimension, words: Sequence[str]) -> None:
    """The whole range, with its ends and its middle written out."""
    if words:
        axes.set_xticks(range(len(words)), words)
        axes.set_xlim(-0.5, len(words) - 0.5)
        return
    low, high = one.ends
    if one.log:
        axes.set_xscale("log")
        ticks = [float(tick) for tick in np.geomspace(low, high, 3 if high < 30 * low else 5)]
        axes.set_xlim(low / (high / low) ** 0.05, high * (high / low) ** 0.05)
        axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
        axes.minorticks_off()
        return
    axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    if one.kind == "int":
        _whole(axes)


def _table(space: Sequence[Dimension], measured: str, trials: Sequence[Trial], best: Trial) -> Section:
    sign = 1 if metric(measured).smaller_is_better else -1

    def rank(trial: Trial) -> tuple[bool, float, int]:
        figure = float("inf") if trial.value is None else sign * trial.value
        return trial.outcome != "finished", figure, trial.number

    rows = [
        (
            f"{trial.number}{' (best)' if trial.number == best.number else ''}",
            figure_of(trial.value, measured),
            *[shown(trial.values.get(one.key)) for one in space],
            trial.outcome or "unfinished",
            f"{max(trial.reports, default=0):,}",
            "" if trial.seconds is None else f"{trial.seconds:.0f}",
        )
        for trial in sorted(trials, key=rank)
    ]
    head = ("trial", f"validation {measured}", *[one.key for one in space], "outcome", "last validated step", "seconds")
    return Section("Every trial, the best first", head=head, rows=rows)
