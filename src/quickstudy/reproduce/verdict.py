"""Floor 6: whether a published figure was reproduced: a pure function of figures.

    |ours - paper| <= 1.96 sqrt(se_ours² + se_paper²) + 0.3 points        reproduced
    or ours lies within the band of independent re-runs

Ours is the mean over finished seeds, at least three of them. Its standard error has two parts: what one seed differs
from another by, and what these episodes differ from others by (all seeds are tested on the same ones). Where a paper
prints no interval its standard error counts as 0. Points make no sense of an error such as a mean squared one: there
the allowance is 10 % of the paper's figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.evaluate.intervals import Z95
from quickstudy.metrics import metric

__all__ = ["ALLOWANCE", "LEAST_SEEDS", "RELATIVE", "Kind", "SeedFigure", "Target", "Verdict", "judge"]

LEAST_SEEDS = 3
ALLOWANCE = 0.003  # of fractions: 0.3 points
RELATIVE = 0.1  # of errors

Kind: TypeAlias = Literal[
    "reproduced",
    "above",
    "below",
    "budget-limited",
    "diverged",
    "too few seeds",
    "no published figure verified",
    "not run",
]


@dataclass(frozen=True)
class SeedFigure:
    """What one seed gave.

    Args:
        seed: its number.
        mean: over the test's episodes; a fraction where the metric is shown in percent.
        ci95: half-width of its interval over episodes.
        step: steps of training that were done.
        steps: that the protocol asks for.
        diverged: training ended before that, as its loss was no number.
    """

    seed: int
    mean: float
    ci95: float
    step: int
    steps: int
    diverged: bool = False

    @property
    def finished(self) -> bool:
        """Whether training was not cut short."""
        return self.step >= self.steps and not self.diverged


@dataclass(frozen=True)
class Target:
    """What a paper says, and what others found; units as in :class:`SeedFigure`.

    Args:
        mean: the paper's.
        se: its standard error; 0 where it prints no interval.
        band: the lowest and the highest of independent re-runs; None where there are fewer than two.
    """

    mean: float
    se: float = 0.0
    band: tuple[float, float] | None = None


@dataclass(frozen=True)
class Verdict:
    """What is to be said.

    Args:
        kind: in a word or two.
        mean: over the seeds that count; None if there are none.
        ci95: half-width of Student's 95 % interval over them; None for fewer than two.
        seeds: which they are: the finished ones, or where there are none all that were begun.
        difference: ours less the paper's; None without either.
        allowed: how large that may be.
        better: whether the difference is to the good.
        in_band: whether ours lies within the band of re-runs.
        cut: seeds whose training was cut short, or diverged.
    """

    kind: Kind
    mean: float | None = None
    ci95: float | None = None
    seeds: tuple[int, ...] = ()
    difference: float | None = None
    allowed: float | None = None
    better: bool = False
    in_band: bool = False
    cut: tuple[int, ...] = ()


def judge(target: Target | None, figures: Sequence[SeedFigure], metric_name: str) -> Verdict:
    """Whether the figures are the paper's.

    Args:
        target: what the paper says; None where no published figure was verified.
        figures: one a seed, tested on the same episodes.
        metric_name: of ``quickstudy.metrics``.
    """
    finished = [one for one in figures if one.finished]
    cut = tuple(sorted(one.seed for one in figures if not one.finished))
    counted = finished or list(figures)
    if not counted:
        return Verdict("not run")
    means = np.array([one.mean for one in counted])
    ours = float(means.mean())
    found = Verdict("not run", ours, _interval(means), tuple(sorted(one.seed for one in counted)), cut=cut)
    if target is None:
        return replace(found, kind="no published figure verified")
    percent = metric(metric_name).percent
    allowed = Z95 * math.hypot(_standard_error(counted), target.se)
    allowed += ALLOWANCE if percent else RELATIVE * abs(target.mean)
    difference = ours - target.mean
    in_band = target.band is not None and target.band[0] <= ours <= target.band[1]
    better = (difference < 0) == metric(metric_name).smaller_is_better and difference != 0
    found = replace(found, difference=difference, allowed=allowed, in_band=in_band, better=better)
    if len(finished) < LEAST_SEEDS:
        ended: Kind = "diverged" if any(one.diverged for one in figures) else "budget-limited"
        return replace(found, kind=ended if cut else "too few seeds")
    near = math.isfinite(ours) and abs(difference) <= allowed
    return replace(found, kind="reproduced" if near or in_band else "above" if difference > 0 else "below")


def _standard_error(figures: Sequence[SeedFigure]) -> float:
    """Of the mean over seeds: between seeds, and between episodes, which all seeds share."""
    means = np.array([one.mean for one in figures])
    if not np.isfinite(means).all():
        return 0.0
    between = float(means.std(ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else 0.0
    shared = float(np.mean([one.ci95 for one in figures])) / Z95
    return math.hypot(between, shared if math.isfinite(shared) else 0.0)


def _interval(means: NDArray[np.float64]) -> float | None:
    from scipy.special import stdtrit  # scipy takes longer to import than all of quickstudy

    n = len(means)
    if n < 2 or not np.isfinite(means).all():
        return None
    return float(stdtrit(n - 1, 0.975) * means.std(ddof=1) / math.sqrt(n))
