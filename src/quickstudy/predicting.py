"""Floor 6: what a run says of rows of a table whose target is not known yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quickstudy.data.classscores import probabilities
from quickstudy.data.grouptasks import Asked
from quickstudy.data.tablecoding import Coded
from quickstudy.data.tablefile import RawTable, order_of, read_table
from quickstudy.data.tablekept import Trained
from quickstudy.episode import Classes, Examples, Real
from quickstudy.errors import InputError
from quickstudy.evaluate.metatest import evaluating
from quickstudy.keys import Integers
from quickstudy.learners.learner import AbstractLearner
from quickstudy.runs import Which, learner_of, open_run, recipe_of
from quickstudy.train import RunFolder

__all__ = ["Prediction", "predict_rows"]


@dataclass(frozen=True)
class Prediction:
    """What is said of a row.

    Args:
        row: its place in the file, the header being row 1.
        group: whose row it is.
        value: the target, in its own units; None for classes.
        classes: class -> its probability; None for numbers.
    """

    row: int
    group: str
    value: float | None
    classes: dict[str, float] | None


def predict_rows(
    run: str | Path,
    table: str | Path,
    *,
    group: str | None = None,
    target: str | None = None,
    time: str | None = None,
    checkpoint: Which | None = None,
) -> list[Prediction]:
    """Let a run learn each group of a table from the rows whose target is filled in, and answer for those left blank.

    The columns become features by what was measured when the run was trained (``table.json``), never by this table.

    Args:
        run: the path of a run's folder, trained on a table.
        table: a file with the columns that the run was trained with; target cells that are asked for are blank.
        group: the column that says whose row it is; by default as in training, like what follows.
        target: the column that is asked for.
        time: a column of times; rows of a group are then learned from in that order.
        checkpoint: ``"best"`` or ``"last"``; by default the best, where the run was validated.

    Returns:
        A prediction for each row without a target, in the order of the file.

    Raises:
        InputError: there is no such run, it was trained on no table, or a group has no row to learn from.
        DataError: the table cannot be used; names file and row.
        CheckpointError: the run's checkpoint is missing or broken.
    """
    folder = open_run(Path(run))
    given = {"group": group, "target": target, "time": time}
    trained, names = _trained(folder, given)
    raw = read_table(
        Path(table).expanduser(),
        group=names["group"],
        target=names["target"],
        time=names["time"],
        words=trained.words(names["target"]),
        asking=True,
    )
    coded, asked = trained.coding.code(raw.source, raw.columns), trained.asked(raw.source, raw.target)
    learner = learner_of(folder, recipe_of(folder), checkpoint)
    found: list[Prediction] = []
    with evaluating(learner), torch.no_grad():
        for name in dict.fromkeys(raw.group):
            found += _of_group(learner, raw, coded, asked, name)
    return sorted(found, key=lambda one: one.row)


def _trained(folder: RunFolder, given: dict[str, str | None]) -> tuple[Trained, dict[str, Any]]:
    """What the run knows of its table, and which columns play a part."""
    measured, data = folder.measured, recipe_of(folder).data
    if measured is None:
        raise InputError(
            f"Cannot predict rows of a table with {folder.path}: it was trained on {data.name}, or before tables were "
            "kept with their runs. Train on a table: quickstudy train table-maml-fast --table FILE ..."
        )
    before = data.options if data.name == "table" else {}
    names = {name: value or before.get(name) for name, value in given.items()}
    for name in ("group", "target"):
        if names[name] is None:
            raise InputError(f"Cannot predict rows with {folder.path}: say which column is the {name}, {name}=...")
    return Trained.of(measured, folder.divided or {}), names


def _of_group(learner: AbstractLearner, raw: RawTable, coded: Coded, asked: Asked, name: str) -> list[Prediction]:
    rows = np.flatnonzero(np.array(raw.group) == name)
    if raw.time is not None:
        rows = order_of(raw.time, rows)
    known = ~np.isnan(raw.target.values[rows])
    if known.all():
        return []
    if not known.any():
        raise InputError(
            f"Cannot predict rows of {name!r} of {raw.source}: none of them has a target to learn from. Fill in "
            f"{raw.target.name} in some of its rows, or leave {name!r} out."
        )
    wanted = rows[~known]
    support, query = _examples(coded, asked, rows[known]), _examples(coded, asked, wanted)
    said = learner.predict(learner.adapt(support), query.unlabelled())[0].numpy()
    if asked.classes is None:
        values = said[:, 0].astype(np.float64) * asked.std + asked.mean
        return [Prediction(raw.lines[row], name, float(v), None) for row, v in zip(wanted, values, strict=True)]
    shares = probabilities(said)
    return [
        Prediction(raw.lines[row], name, None, dict(zip(asked.classes, map(float, p), strict=True)))
        for row, p in zip(wanted, shares, strict=True)
    ]


def _examples(coded: Coded, asked: Asked, rows: Integers) -> Examples:
    x = torch.from_numpy(coded.x[rows][None])
    if asked.classes is not None:
        return Examples(x, torch.from_numpy(asked.y[rows][None]), Classes(torch.tensor([len(asked.classes)])))
    y = (asked.y[rows] - asked.mean) / asked.std
    return Examples(x, torch.from_numpy(y.astype(np.float32)[None, :, None]), Real(1))
