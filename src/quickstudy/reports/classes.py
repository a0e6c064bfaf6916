"""Floor 6: which classes a learner takes for which, over the tasks of a test, and which are hardest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.picturetasks import PictureTasks
from quickstudy.data.source import TaskSource
from quickstudy.domains.images.grid import LEARNED, WRONG, framed_png
from quickstudy.episode import Episode, first_leaf
from quickstudy.evaluate import Section
from quickstudy.evaluate.figures import Drawing, Theme, drawing
from quickstudy.evaluate.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ClassAnswers", "classes_section"]

_MATRIX = 30  # classes that a matrix has room for
_LISTED = 12
_SHOWN = 6  # classes that are shown as pictures
_WRONG = 7  # queries of each of them
_KEPT = 4000  # pictures of wrong answers that are kept while the tasks are gone through


@dataclass(eq=False)
class ClassAnswers:
    """Counts what was taken for what: ``meta_test(..., observe=ClassAnswers(source))``.

    Args:
        source: of the tasks, which may know what classes are called.
    """

    source: TaskSource
    asked: Counter[int] = field(default_factory=Counter)
    """Class -> queries of it."""
    taken: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(class, class that was answered) -> how often; -1: no usable answer."""
    names: dict[int, str] = field(default_factory=dict)
    learned: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    """Class -> one of its support pictures, ``[H, W, 3]``."""
    wrong: dict[int, list[tuple[NDArray[np.uint8], int]]] = field(default_factory=dict)
    """Class -> its queries that were answered wrongly, and as what."""

    def __call__(self, outputs: Tensor, episode: Episode) -> None:
        """One chunk of tasks."""
        query = episode.query
        if episode.classes is None or query.y is None or episode.classes.shape[1] < outputs.shape[2]:
            return
        labelled, best = query.labelled.numpy(), outputs.argmax(2).numpy()
        usable = outputs.amax(2).isfinite().numpy()
        for task in range(episode.n_task):
            classes = episode.classes[task].tolist()
            self._name(episode, task, classes)
            for row in np.flatnonzero(labelled[task]):
                true = classes[int(query.y[task, row])]
                said = classes[int(best[task, row])] if usable[task, row] else -1
                self.asked[true] += 1
                self.taken[true, said] += 1
                if said != true:
                    self._keep(episode, task, int(row), true, said)

    def accuracy(self, one: int) -> float:
        """Of the queries of a class."""
        return self.taken[one, one] / self.asked[one]

    def hardest(self) -> list[int]:
        """The classes, the hardest first."""
        return sorted(self.asked, key=lambda one: (self.accuracy(one), -self.asked[one], one))

    def mistaken(self, one: int) -> list[tuple[int, int]]:
        """What a class is taken for, the most frequent first, and how often."""
        found = [(said, many) for (true, said), many in self.taken.items() if true == one and said != one]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))

    def name(self, one: int) -> str:
        """What a class is called."""
        return "no answer" if one < 0 else self.names.get(one, f"class {one}")

    def _name(self, episode: Episode, task: int, classes: list[int]) -> None:
        if not isinstance(self.source, ClassTasks) or all(one in self.names for one in classes if one >= 0):
            return
        names = self.source.names_of(episode.tasks(slice(task, task + 1)))
        turned = self.source.settings.get("rotations") == "classes"  # then each quarter turn is a class of its own
        for one, name in zip([one for one in classes if one >= 0], names, strict=True):
            self.names[one] = f"{name}, turned {90 * (one % 4)}°" if turned and one % 4 else name

    def _keep(self, episode: Episode, task: int, row: int, true: int, said: int) -> None:
        pictures = first_leaf(episode.query.x)
        kept = self.wrong.setdefault(true, [])
        if pictures.dim() not in (4, 5) or len(kept) >= _WRONG or sum(map(len, self.wrong.values())) >= _KEPT:
            return
        ink = not isinstance(self.source, PictureTasks)
        shown = _picture(pictures[task, row].numpy(), ink)
        if shown is None:
            return
        kept.append((shown, said))
        labels = episode.support.y
        if true not in self.learned and labels is not None and episode.classes is not None:
            label = episode.classes[task].tolist().index(true)
            place = int((labels[task] == label).int().argmax())
            support = _picture(first_leaf(episode.support.x)[task, place].numpy(), ink)
            if support is not None:
                self.learned[true] = support


def _picture(x: NDArray[np.generic], ink: bool) -> NDArray[np.uint8] | None:
    """``[H, W, 3]``, what is ``ink`` dark on light as on paper; None where it is no picture."""
    x = x[None] if x.ndim == 2 else x
    if len(x) not in (1, 3):
        return None
    if x.dtype != np.uint8:
        x = (np.clip(x.astype(np.float64), 0, 1) * 255).round().astype(np.uint8)
    shown = np.moveaxis(np.broadcast_to(x, (3, *x.shape[1:])), 0, 2).astype(np.uint8)
    return np.ascontiguousarray(255 - shown if ink else shown)


def classes_section(name: str, found: ClassAnswers) -> Section:
    """The confusion of a run: a matrix of few classes, the hardest classes, and pictures of what went wrong.

    Args:
        name: of the run.
        found: its answers.
    """
    hardest = found.hardest()
    listed = [one for one in hardest if found.accuracy(one) < 1][:_LISTED]
    rows = [
        (
            found.name(one),
            number(found.accuracy(one), "accuracy"),
            str(found.asked[one]),
            "; ".join(f"{found.name(said)} ({many})" for said, many in found.mistaken(one)[:3]),
        )
        for one in listed
    ]
    pictures: list[tuple[bytes, str]] = []
    for one in listed:
        shown = found.wrong.get(one)
        if shown and one in found.learned and len(pictures) < _SHOWN:
            framed = [(found.learned[one], LEARNED), *((picture, WRONG) for picture, _ in shown)]
            said = Counter(found.name(said) for _, said in shown)
            words = ", ".join(name if many == 1 else f"{name} ({many} times)" for name, many in said.most_common())
            pictures.append((framed_png(framed), f"{found.name(one)}: learned from (grey), then taken for {words}"))
    text = [f"{len(found.asked):,} classes were asked for; a class is hard or easy beside the others of its tasks."]
    if len(found.asked) > _MATRIX:
        text.append(f"Too many for a matrix: the {len(listed)} hardest are listed.")
    elif len(found.asked) > 1:
        text.append("Each row of the matrix is a class, each column what it was taken for, in percent of its queries.")
    return Section(
        f"What is taken for what: {name}",
        text=text if listed else [*text, "No query was answered wrongly."],
        drawings=[_matrix(found)] if 1 < len(found.asked) <= _MATRIX else (),
        pictures=pictures,
        head=("hardest classes", "right, %", "queries", "taken for (times)"),
        rows=rows,
    )


def _matrix(found: ClassAnswers) -> Drawing:
    classes = sorted(found.asked)
    share = np.array([[found.taken[true, said] / found.asked[true] for said in classes] for true in classes]) * 100
    side = min(8.0, 2.2 + 0.3 * len(classes))

    def draw(axes: Axes, theme: Theme) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        names = [_short(found.name(one)) for one in classes]
        colours = LinearSegmentedColormap.from_list("share", ["#ffffff00", theme.lines[0]])
        axes.imshow(share, cmap=colours, vmin=0, vmax=100)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7.5)
        axes.set_yticks(range(len(names)), names, fontsize=7.5)
        axes.tick_params(colors=theme.ink, length=0)
        axes.set_facecolor("none")
        for spine in axes.spines.values():
            spine.set_color(theme.faint)
        if len(classes) <= 12:
            for (row, column), value in np.ndenumerate(share):
                if value >= 0.5:
                    colour = theme.ink if value < 60 else "#ffffff"
                    axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7.5, color=colour)
        axes.set_xlabel("answer", color=theme.ink)
        axes.set_ylabel("truth", color=theme.ink)

    worst = found.hardest()[0]
    spoken = f"The hardest class, {found.name(worst)}, is right in {100 * found.accuracy(worst):.0f} % of its queries."
    return drawing(draw, (side, side), f"Confusion of {len(classes)} classes. {spoken}")


def _short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
