"""Floor 5: checks of the tasks themselves: do labels mean what they should, and the same in support and query?

Without any learner: classes are guessed by the nearest class mean of the raw inputs, values by the nearest support
example. That is a poor method, but labels that have come loose from their inputs leave it at chance, and over some
dozen tasks "at chance" is told from "poor" for certain.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from quickstudy.data.source import TaskSource
from quickstudy.doctor.patient import Patient
from quickstudy.doctor.report import Finding
from quickstudy.episode import Classes, Episode, Examples, Real, as_inputs
from quickstudy.errors import InputError
from quickstudy.keys import Key

__all__ = ["LOOKED_AT", "Guesses", "certain", "check_labels", "labels_are_usable"]

VALUES, MATCH, APART = "labels", "labels fit inputs", "support apart from query"
LOOKED_AT = 40
"""Tasks of the source that are looked at."""
_CERTAIN = 4.0  # standard errors


def labels_are_usable(source: TaskSource) -> list[Finding]:
    """Values in range, classes there; where not, no learner can be looked at."""
    try:
        episode = source.episodes(range(LOOKED_AT))
        episode.check()
    except InputError as error:
        return [Finding(VALUES, "problem", str(error), "Mend the task source.")]
    if episode.support.y is None or episode.query.y is None:
        which = "support" if episode.support.y is None else "query"
        found = f"The {which} carries no labels (y is None)."
        return [Finding(VALUES, "problem", found, "Give each example its label.")]
    target = episode.support.target
    kind = "real" if isinstance(target, Real) else "classes" if isinstance(target, Classes) else "multi-label"
    if kind != source.shape.target:
        found = f"source.shape.target says {source.shape.target!r}, the tasks have {kind!r} targets."
        return [Finding(VALUES, "problem", found, "Let the source's shape say what its tasks are.")]
    outputs = target.dim if isinstance(target, Real) else int(target.way.max())
    if outputs > source.shape.outputs:
        found = f"source.shape.outputs says {source.shape.outputs}, the tasks have {outputs}."
        return [Finding(VALUES, "problem", found, "Let the source's shape say the largest way, or the dimension.")]
    return _absent(episode)


def _absent(episode: Episode) -> list[Finding]:
    """Classes without an example in the support."""
    target, support, query = episode.support.target, episode.support, episode.query
    if not isinstance(target, Classes) or support.y is None or query.y is None:
        return [Finding(VALUES, "ok", f"Finite in all of {episode.n_task} tasks.")]
    for t in range(episode.n_task):
        known = set(support.y[t][support.labelled[t]].tolist())
        asked = set(query.y[t][query.labelled[t]].tolist())
        if asked - known:
            found = f"The query of task {t} asks for class {min(asked - known)}, of which its support has no example."
            return [Finding(VALUES, "problem", found, "Number the classes of support and query alike, 0 .. way-1.")]
        absent = set(range(int(target.way[t]))) - known
        if absent:
            found = f"Task {t} has {int(target.way[t])} classes, but its support has no example of class {min(absent)}."
            return [Finding(VALUES, "problem", found, "Give at least one of each class, or lower the way.")]
    return [Finding(VALUES, "ok", f"In range, and each class in the support, in all of {episode.n_task} tasks.")]


def check_labels(patient: Patient) -> list[Finding]:
    """Whether labels hang together with inputs, and with each other."""
    episode = patient.source.episodes(range(LOOKED_AT))
    vectors = _vectors(episode)
    if vectors is None:
        return [Finding(MATCH, "note", "Not looked at: inputs are a dict, or whole numbers that are no picture.")]
    support, query = vectors
    findings = [_apart(episode, support, query)]
    if isinstance(episode.support.target, Classes):
        return [*findings, _classes(episode, support, query)]
    return [*findings, _values(episode, support, query)]


def _vectors(episode: Episode) -> tuple[Tensor, Tensor] | None:
    """Support and query inputs as vectors, ``[T, N, D]``, zero on padding."""
    found = []
    for part in (episode.support, episode.query):
        if isinstance(part.x, dict):
            return None
        x = as_inputs(part.x, torch.float64)
        assert isinstance(x, Tensor)
        if not x.is_floating_point():
            return None
        found.append(torch.where(part.real[..., None], x.flatten(2), 0.0))
    return found[0], found[1]


def _apart(episode: Episode, support: Tensor, query: Tensor) -> Finding:
    """Queries that stand in the support."""
    same = torch.cdist(query, support, compute_mode="donot_use_mm_for_euclid_dist") == 0
    same = (same & episode.support.real[:, None] & episode.query.real[..., None]).any(2)
    count, of = int(same.sum()), int(episode.query.real.sum())
    if count == 0:
        return Finding(APART, "ok", "No query stands in its support.")
    return Finding(
        APART,
        "problem" if count > of / 10 else "note",
        f"{count} of {of} queries stand in their support, value for value: figures would be too good.",
        "Draw support and query of a task without replacement; remove duplicates from the data.",
    )


def _classes(episode: Episode, support: Tensor, query: Tensor) -> Finding:
    """Nearest class mean of raw inputs, from the support to the query and within each."""
    tasks = [_task(episode, t, support, query) for t in range(episode.n_task)]
    rows, within_support, within_query = zip(*tasks, strict=True)
    right, chance = np.mean([row.right for row in rows]), np.mean([row.chance for row in rows])
    said = f"nearest class means of raw inputs are right in {right:.1%} of the queries, chance is {chance:.1%}"
    if certain([row.right - row.chance for row in rows]):
        return Finding(MATCH, "ok", f"{said[0].upper()}{said[1:]} ({len(rows)} tasks).")
    if certain([row.renamed - row.renamed_by_chance for row in rows]):
        return Finding(
            MATCH,
            "problem",
            f"Query classes are numbered otherwise than the support's: {said}, but with other numbers in each task it "
            f"would be {np.mean([row.renamed for row in rows]):.1%}.",
            "Number the classes of a task once, and use the numbers for support and query.",
        )
    for part, excess in (("support", within_support), ("query", within_query)):
        if certain([value for value in excess if value is not None]):
            return Finding(
                MATCH,
                "problem",
                f"Labels are out of step: those of the {part} follow its inputs, but {said}.",
                "Look where x and y are shuffled, sorted or cut apart from each other.",
            )
    return Finding(
        MATCH,
        "note",
        f"Not to be told: {said}. The labels have come loose from the inputs, or raw inputs say nothing of the class.",
        "Draw a task and look at it. With real labels even a poor method is mostly above chance.",
    )


def certain(excess: list[float]) -> bool:
    """Whether the mean is above zero by several of its standard errors."""
    if len(excess) < 3:
        return False
    values = np.asarray(excess)
    return bool(values.mean() > _CERTAIN * values.std(ddof=1) / len(values) ** 0.5 + 1e-12)


class Guesses:
    """One task's figures: shares of right guesses, and what labels drawn at random would give.

    Args:
        y: the true classes.
        guess: the guessed ones.
        way: both are below it.
        t: the task's number, which says how labels are drawn at random.
    """

    def __init__(self, y: Tensor, guess: Tensor, way: int, t: int) -> None:
        table = _table(y, guess, way)  # [k, j]: how many of class k are guessed to be of class j
        order = Key.of(0, "labels", t).bits(np.arange(1), len(y))[0].argsort().copy()
        n = table.sum()
        self.right = float(np.trace(table) / n)
        self.chance = float((table.sum(0) * table.sum(1)).sum() / n**2)
        self.renamed = _best(table)
        self.renamed_by_chance = _best(_table(y[torch.from_numpy(order)], guess, way))


def _task(episode: Episode, t: int, support: Tensor, query: Tensor) -> tuple[Guesses, float | None, float | None]:
    """Nearest class means: guesses of a task's queries, and how labels follow inputs within each set."""
    assert isinstance(episode.support.target, Classes)
    way = int(episode.support.target.way[t])
    (a, ya), (b, yb) = (_known(part, t, x) for part, x in ((episode.support, support), (episode.query, query)))
    guesses = Guesses(yb, torch.cdist(b, _means(a, ya, way)).argmin(1), way, t)
    return guesses, _within(a, ya, way), _within(b, yb, way)


def _known(part: Examples, t: int, x: Tensor) -> tuple[Tensor, Tensor]:
    assert part.y is not None
    keep = part.labelled[t]
    return x[t][keep], part.y[t][keep]


def _means(x: Tensor, y: Tensor, way: int) -> Tensor:
    members = torch.nn.functional.one_hot(y, way).to(x.dtype)
    return members.T @ x / members.sum(0).clamp(min=1)[:, None]


def _table(y: Tensor, guess: Tensor, way: int) -> np.ndarray:
    return torch.bincount(y * way + guess, minlength=way * way).view(way, way).double().numpy()


def _best(table: np.ndarray) -> float:
    """The share that would be right if classes were named in the best way."""
    from scipy.optimize import linear_sum_assignment  # takes longer to import than all of quickstudy

    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / table.sum())


def _within(x: Tensor, y: Tensor, way: int) -> float | None:
    """How much above chance labels follow inputs within one set, each example left out of its class's mean."""
    counts = torch.bincount(y, minlength=way)
    keep = counts[y] > 1
    if int(keep.sum()) < 2:
        return None
    members = torch.nn.functional.one_hot(y, way).to(x.dtype)
    sums = members.T @ x
    left = counts[None] - members  # [N, W]
    means = (sums[None] - members[..., None] * x[:, None]) / left.clamp(min=1)[..., None]  # [N, W, D]
    away = (means - x[:, None]).square().sum(2).masked_fill(left < 1, torch.inf)
    guess = away.argmin(1)[keep]
    table = _table(y[keep], guess, way)
    n = table.sum()
    return float(np.trace(table) / n - (table.sum(0) * table.sum(1)).sum() / n**2)


def _values(episode: Episode, support: Tensor, query: Tensor) -> Finding:
    """Nearest support example for real values and several labels."""
    parts = ((episode.support, support), (episode.query, query))
    better: dict[str, list[float]] = {"across": [], "support": [], "query": []}
    for t in range(episode.n_task):
        (a, ya), (b, yb) = ((x[t][part.real[t]], _rows(part, t)) for part, x in parts)
        better["across"].append(_gain(b, yb, a, ya, itself=False))
        for name, x, y in (("support", a, ya), ("query", b, yb)):
            if len(x) > 1:
                better[name].append(_gain(x, y, x, y, itself=True))
    said = f"the nearest support example's value is {np.mean(better['across']):.0%} nearer than any example's"
    if certain(better["across"]):
        return Finding(MATCH, "ok", f"{said[0].upper()}{said[1:]} ({episode.n_task} tasks).")
    for name in ("support", "query"):
        if certain(better[name]):
            found = f"Values are out of step: those of the {name} follow its inputs, but {said}."
            advice = "Look where x and y are shuffled, sorted or cut apart, or whether both sets are of one task."
            return Finding(MATCH, "problem", found, advice)
    found = f"Not to be told: {said}. Values have come loose from inputs, or neighbours say nothing of each other."
    return Finding(MATCH, "note", found, "Draw a task and look at it.")


def _rows(part: Examples, t: int) -> Tensor:
    assert part.y is not None
    return part.y[t][part.real[t]].double()


def _gain(x: Tensor, y: Tensor, among: Tensor, values: Tensor, *, itself: bool) -> float:
    """By what share the squared error of the nearest is below that of any."""
    away = torch.cdist(x, among)
    error = torch.cdist(y, values).square()
    others = ~torch.eye(len(x), dtype=torch.bool) if itself else torch.ones_like(away, dtype=torch.bool)
    nearest = away.masked_fill(~others, torch.inf).argmin(1, keepdim=True)
    usual = float(error[others].mean())
    return 1 - float(error.gather(1, nearest).mean()) / usual if usual > 0 else 0.0
