"""Floor 6: the tasks at which a learner was worst, to be looked at."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.picturetasks import PictureTasks
from quickstudy.episode import Episode, first_leaf
from quickstudy.evaluate import EpisodePicture, Result, Section, picture_episode
from quickstudy.evaluate.figures import Drawing, Theme, drawing, dress, legend
from quickstudy.evaluate.metatest import answer, evaluating
from quickstudy.evaluate.wording import number
from quickstudy.metrics import metric
from quickstudy.reports.measuring import Asked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["hardest_pictures", "hardest_section", "worst_tasks"]

_LISTED = 10
_DRAWN = 2
_LINE = 200  # points of a function that is drawn


def worst_tasks(result: Result, many: int) -> list[int]:
    """The numbers of the tasks with the worst figures, the worst first; of equals the first."""
    sign = 1 if result.smaller_is_better else -1
    order = sorted(range(result.episodes), key=lambda place: (-sign * result.per_episode[place], place))
    return [result.first + place for place in order[:many]]


def hardest_pictures(asked: Asked, result: Result) -> list[EpisodePicture]:
    """The worst task of pictures, as its learner answers it; nothing of other tasks."""
    shape = asked.source.shape
    pictured = isinstance(shape.example, tuple) and len(shape.example) == 3 and shape.example[0] in (1, 3)
    if shape.target != "classes" or not pictured or not isinstance(asked.source, ClassTasks):
        return []
    index = worst_tasks(result, 1)[0]
    names = asked.source.names_of(asked.source.episodes(range(index, index + 1)))
    photographs = isinstance(asked.source, PictureTasks)
    caption = f"The hardest task of {asked.name}, number {index}"
    short = names if photographs else ()
    return [
        picture_episode(
            asked.computing(asked.learner), asked.source, index=index, caption=caption, names=short, ink=not photographs
        )
    ]


def hardest_section(asked: Asked, result: Result) -> Section:
    """A table of the worst tasks, and drawings of those that are functions of one number.

    Args:
        asked: the run.
        result: of its tasks.
    """
    unit = " %" if metric(result.metric).percent else ""
    named = isinstance(asked.source, ClassTasks)
    rows: list[tuple[str, ...]] = []
    drawings: list[Drawing] = []
    for index in worst_tasks(result, min(_LISTED, result.episodes)):
        episode = asked.source.episodes(range(index, index + 1))
        value = result.per_episode[index - result.first]
        of = ", ".join(asked.source.names_of(episode)) if isinstance(asked.source, ClassTasks) else ""
        rows.append((str(index), f"{number(value, result.metric)}{unit}", *([of] if named else [])))
        if len(drawings) < _DRAWN and _is_function(episode):
            drawings.append(_function(asked, episode, index, value, result.metric))
    middle = number(float(np.median(result.per_episode)), result.metric)
    text = f"The worst of {result.episodes:,} tasks; the median of all is {middle}{unit}."
    head = ("task", result.metric, *(["its classes"] if named else []))
    return Section(f"The hardest tasks: {asked.name}", [text], drawings, head=head, rows=rows)


def _is_function(episode: Episode) -> bool:
    x, y = first_leaf(episode.query.x), episode.query.y
    one = x.dim() == 3 and x.shape[2] == 1 and not isinstance(episode.query.x, dict)
    return one and y is not None and y.is_floating_point() and y.dim() == 3 and y.shape[2] == 1


def _function(asked: Asked, episode: Episode, index: int, value: float, measured: str) -> Drawing:
    """One number against another: the points that were learned from, the truth, and what was said."""
    with evaluating(asked.learner), torch.no_grad():
        said = answer(asked.learner, episode).cpu()[0, :, 0].double().numpy()
    support, query = episode.support.task(0), episode.query.task(0)
    xs, ys = _column(support.x), _column(support.y)
    xq, yq = _column(query.x), _column(query.y)
    order = np.argsort(xq)[:: max(1, len(xq) // _LINE)]
    said = said[episode.query.real[0].numpy()]

    def draw(axes: Axes, theme: Theme) -> None:
        axes.plot(xq[order], yq[order], color=theme.ink, linewidth=1.2, linestyle=":", label="truth")
        axes.plot(xq[order], said[order], color=theme.lines[0], linewidth=1.7, label="answer")
        axes.scatter(xs, ys, color=theme.lines[1], s=34, zorder=3, label="learned from")
        figure = "∞" if math.isinf(value) else number(value, measured)
        dress(axes, theme, f"task {index}: {measured} {figure}", grid="y")
        legend(axes, theme)

    return drawing(draw, (4.7, 3.1), f"Task {index}: {len(xs)} points learned from, the truth and the answers.")


def _column(values: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    assert isinstance(values, torch.Tensor)
    found: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = values[0, :, 0].double().numpy()
    return found
