"""Sums of terms with coefficients that are fitted; each term is a product of sizes that says where cost comes from.

    time     = a portions + b passes + c inner work + d outer work + e updates of weights
    memory   = a + b weights + c weights of tasks + d maps of inner steps + e maps of one pass
    ranks    = a + b tasks of the rank + c messages + d bytes          processor time of one rank
    traffic  = a messages + b bytes of the gradient's ring              bytes that one rank sends

Coefficients are not negative (nothing costs less than nothing), and the *relative* errors are squared and summed, so
that a step of 10 ms counts as much as one of a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

__all__ = ["MEMORY", "RANKS", "TIME", "TRAFFIC", "Divided", "Fit", "Model", "fit", "foretold", "left_out", "typical"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Divided:
    """A step that ranks share.

    Args:
        ranks: how many.
        tasks: of the step.
        weights: numbers in the gradient.
        task_work: how much one task is, in units of one's own (operations, say).
    """

    ranks: int
    tasks: int
    weights: int
    task_work: float = 1.0

    @property
    def mine(self) -> int:
        """Tasks of the rank that has most."""
        return -(-self.tasks // self.ranks)

    @property
    def ring_bytes(self) -> float:
        """What each rank of a ring sends to sum a gradient in float32: its parts go round twice."""
        return 2 * (self.ranks - 1) / self.ranks * 4 * self.weights


@dataclass(frozen=True)
class Model:
    """A sum of terms.

    Args:
        unit: of what is foretold.
        terms: a term's name and its value for one setting.
    """

    unit: str
    terms: dict[str, Callable[[Any], float]]

    def rows(self, settings: Sequence[Any]) -> Array:
        """``[settings, terms]``."""
        return np.array([[term(each) for term in self.terms.values()] for each in settings], dtype=float)


@dataclass(frozen=True)
class Fit:
    """A model with coefficients.

    Args:
        model: which one.
        coefficients: one a term.
    """

    model: Model
    coefficients: Array

    def __call__(self, settings: Sequence[Any]) -> Array:
        """What is foretold of each setting."""
        found: Array = self.model.rows(settings) @ self.coefficients
        return found

    @property
    def record(self) -> dict[str, float]:
        """Term -> coefficient."""
        return {name: float(f"{value:.4g}") for name, value in zip(self.model.terms, self.coefficients, strict=True)}


TIME = Model(
    "ms",
    {
        "portion": lambda s: s.portions,
        "pass of a task": lambda s: s.tasks * (s.steps + 1),
        "10^9 operations, inner": lambda s: s.tasks * s.steps * s.support * s.operations / 1e9,
        "10^9 operations, outer": lambda s: s.tasks * (s.support + s.queries) * s.operations / 1e9,
        "10^6 weights moved": lambda s: s.tasks * s.steps * s.weights / 1e6,
    },
)
MEMORY = Model(
    "MB",
    {
        "step": lambda s: 1.0,
        "MB of weights": lambda s: 4 * s.weights / 1e6,
        "MB of tasks' weights": lambda s: 4 * s.together * s.steps * s.weights / 1e6,
        "MB of maps, inner": lambda s: s.together * s.steps * s.support * s.map_bytes / 1e6,
        "MB of maps, outer": lambda s: s.together * (s.support + s.queries) * s.map_bytes / 1e6,
    },
)
RANKS = Model(
    "ms",
    {
        "step": lambda d: 1.0,
        "task": lambda d: d.mine * d.task_work,
        "other rank": lambda d: d.ranks - 1,
        "10^6 bytes": lambda d: d.ring_bytes / 1e6,
    },
)
TRAFFIC = Model("bytes", {"other rank": lambda d: d.ranks - 1, "byte of the ring": lambda d: d.ring_bytes})


def fit(model: Model, settings: Sequence[Any], measured: Sequence[float]) -> Fit:
    """The coefficients that explain best what was measured.

    Args:
        model: what is fitted.
        settings: as its terms take them.
        measured: of each setting, above 0.

    Raises:
        ValueError: a number is not above 0, or there are fewer settings than two.
    """
    y = np.asarray(measured, dtype=float)
    if len(y) < 2 or len(y) != len(settings) or not (np.isfinite(y) & (y > 0)).all():
        raise ValueError(f"Cannot fit {len(settings)} settings to {len(y)} numbers: expected two or more, all above 0.")
    rows = model.rows(settings) / y[:, None]
    scale = np.abs(rows).max(axis=0)
    scale[scale == 0] = 1.0  # a term that is nothing everywhere gets no coefficient
    found, _ = nnls(rows / scale, np.ones(len(y)))
    return Fit(model, found / scale)


def left_out(model: Model, settings: Sequence[Any], measured: Sequence[float]) -> Array:
    """Relative error of each setting, foretold by a fit to all the others; nothing of fewer than three settings.

    Args:
        model: what is fitted.
        settings: as its terms take them.
        measured: of each setting.
    """
    errors = []
    for n in range(len(settings) if len(settings) > 2 else 0):
        others = [each for m, each in enumerate(settings) if m != n]
        known = [value for m, value in enumerate(measured) if m != n]
        errors.append(float(fit(model, others, known)([settings[n]])[0]) / measured[n] - 1)
    return np.array(errors)


def foretold(
    model: Model, known: Sequence[Any], measured: Sequence[float], asked: Sequence[Any], truth: Sequence[float]
) -> Array:
    """Relative errors of settings that a fit to others foretells.

    Args:
        model: what is fitted.
        known: what it is fitted to.
        measured: of these.
        asked: what is foretold.
        truth: what was measured of these.
    """
    return np.array(fit(model, known, measured)(asked) / np.asarray(truth, dtype=float) - 1)


def typical(errors: Array) -> float:
    """Root of the mean square of relative errors, as a share.

    >>> round(typical(np.array([0.03, -0.04])), 4)
    0.0354
    """
    return math.sqrt(float(np.mean(np.square(errors)))) if len(errors) else float("nan")
