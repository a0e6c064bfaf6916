"""Floor 5: figures of patients, not of tasks: tasks of one hospital ask for the same patients again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.grouptasks import GroupTasks
from quickstudy.evaluate.calibration import Answers

__all__ = ["compared", "patient_means", "patients_of", "squared_errors", "with_interval"]

Floats: TypeAlias = NDArray[np.float64]


def patients_of(source: GroupTasks, episodes: int) -> NDArray[np.int64]:
    """``[n]``, which row of the table each answer to tasks 0 .. ``episodes`` - 1 is about."""
    return np.concatenate(source.rows_of(range(episodes)))


def patient_means(values: Floats, patient: NDArray[np.int64]) -> Floats:
    """Each patient's mean over the tasks that asked for them, by their numbers."""
    _, place = np.unique(patient, return_inverse=True)
    return np.asarray(np.bincount(place, values) / np.bincount(place))


def with_interval(values: Floats) -> tuple[float, float]:
    """Mean and half-width of the usual 95 % interval over patients."""
    return float(values.mean()), float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


def squared_errors(found: Answers) -> Floats:
    """(p - y)² of each answer, of two classes."""
    errors: Floats = np.square(found.p[:, 1] - found.y)
    return errors


def compared(
    found: Mapping[str, Answers], patient: NDArray[np.int64]
) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
    """Method -> Brier score, and by how much it is above the first method's; both with intervals over patients."""
    each = {name: patient_means(squared_errors(one), patient) for name, one in found.items()}
    first = next(iter(each.values()))
    return {name: (with_interval(mine), with_interval(mine - first)) for name, mine in each.items()}
