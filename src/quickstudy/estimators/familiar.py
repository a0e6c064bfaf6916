"""Floor 6: whether labelled examples look like what a learner was trained on: a measured statement, not a guess.

Of a learner with a network two scores of a task's features are set beside those of validation tasks, whose classes are
new to the learner as well, so that of tasks like these about one in a hundred is called unlike:

    spread   root mean square of the features, each in deviations of the training examples'; too small is odd, too
    shape    the same after a whitening of 64 random sums of them, which sees what does not go together

Of a learner of rows it is how heavy the tails of the columns are, the mean of z⁴. A score of a task is the median over
its examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quickstudy.data.source import TaskSource
from quickstudy.estimators.doubt import Floats, embedded, has_features
from quickstudy.evaluate.metatest import evaluating
from quickstudy.keys import Key
from quickstudy.learners.learner import AbstractLearner

__all__ = ["MOST", "measure_familiar", "scores_of", "unlike"]

_SUMS = 64
_SHARE = 0.99  # of validation tasks, for all scores together
_FARTHEST = 20.0  # deviations beyond which a feature says no more
_QUANTILES = np.linspace(0, 1, 201)
MOST = 500
"""Examples of a task that are looked at."""


def measure_familiar(
    learner: AbstractLearner,
    training: TaskSource,
    tasks: Callable[[int], TaskSource],
    shots: tuple[int, ...],
    *,
    episodes: int = 200,
) -> dict[str, Any]:
    """The scores of validation tasks, and what they are measured by.

    Args:
        learner: trained; on the CPU.
        training: tasks of classes that it was trained on.
        tasks: makes validation tasks of so many shots.
        shots: for which they are measured.
        episodes: of each.

    Returns:
        ``"reference"``, where it has a network, and each score -> shots -> 201 quantiles, as JSON.
    """
    reference = None
    with evaluating(learner), torch.no_grad():
        if has_features(learner):
            parts = [_features(learner, training, number) for number in range(episodes)]
            reference = _reference(np.concatenate(parts))
        found: dict[str, Any] = {} if reference is None else {"reference": reference}
        for shot in shots:
            source = tasks(shot)
            each = [scores_of(_features(learner, source, number), reference) for number in range(episodes)]
            for name in each[0]:
                values = np.quantile([one[name] for one in each], _QUANTILES)
                found.setdefault(name, {})[str(shot)] = _short(values)
    return found


def _features(learner: AbstractLearner, source: TaskSource, number: int) -> Floats:
    support = source.episodes(range(number, number + 1)).support
    return embedded(learner, support.unlabelled())[support.real[0]].double().numpy()


def _short(values: Any) -> list[float]:
    return [float(f"{value:.5g}") for value in np.asarray(values).ravel()]


def _reference(features: Floats) -> dict[str, Any]:
    """Moments of features ``[n, D]``, and of sums of them, by which others are measured."""
    mean, deviation = features.mean(0), features.std(0)
    deviation = np.maximum(deviation, 1e-3 * np.median(deviation))
    sums = _sums(features, mean, deviation)
    spread = np.cov(sums.T) + 1e-6 * np.eye(sums.shape[1])
    whitening = np.linalg.inv(np.linalg.cholesky(spread))
    about = {"mean": mean, "deviation": deviation, "centre": sums.mean(0), "whitening": whitening}
    return {name: _short(values) for name, values in about.items()}


def _sums(features: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Features in deviations, added up with random signs, ``[n, 64]``."""
    z = np.clip((features - mean) / deviation, -_FARTHEST, _FARTHEST)
    words = Key.of(0, "familiar").bits(np.arange(_SUMS), z.shape[1])
    signs = np.where(words >> np.uint64(63) == 1, 1.0, -1.0)
    return np.asarray(z @ signs.T / math.sqrt(z.shape[1]))


def scores_of(features: Floats, reference: Mapping[str, Any] | None) -> dict[str, float]:
    """The scores of a task.

    Args:
        features: ``[n, D]`` of its examples; of rows their columns.
        reference: by which features are measured; None: they are rows.
    """
    if reference is None:
        deviation = features.std(0)
        told = deviation > 1e-12 * np.abs(features).max(initial=0.0)
        if len(features) < 2 or not told.any():
            return {"tails": 1.0}
        z = (features[:, told] - features[:, told].mean(0)) / deviation[told]
        return {"tails": float((z**4).mean())}
    mean, deviation, centre = (np.asarray(reference[name]) for name in ("mean", "deviation", "centre"))
    whitening = np.asarray(reference["whitening"]).reshape(len(centre), len(centre))
    z = np.clip((features - mean) / deviation, -_FARTHEST, _FARTHEST)
    white = (_sums(features, mean, deviation) - centre) @ whitening.T
    return {name: float(np.median(np.sqrt(np.square(v).mean(1)))) for name, v in (("spread", z), ("shape", white))}


_SAID = {
    "spread": "their features lie farther out than those",
    "crowded": "their features lie closer to the middle than those",
    "shape": "their features go together otherwise than those",
    "tails": "single numbers lie farther from the others of their column than those",
}


def unlike(calibration: Mapping[str, Any] | None, name: str, features: Tensor, shot: float) -> str | None:
    """A sentence where labelled examples look unlike what a learner was trained on; None where not, or unmeasured.

    Args:
        calibration: of the learner.
        name: what it is called.
        features: ``[n, D]`` of the labelled examples; of rows their columns.
        shot: examples a class, on average; in all where there are no classes.
    """
    measured = (calibration or {}).get("familiar")
    if not measured:
        return None
    found = scores_of(features[:MOST].double().numpy(), measured.get("reference"))
    sides = {score: (score, 1.0) for score in found} | ({"crowded": ("spread", -1.0)} if "spread" in found else {})
    share = 1 - (1 - _SHARE) / len(sides)
    for said, (score, sign) in sides.items():
        table = measured[score]
        key = min(table, key=lambda known: (abs(math.log(float(known) / shot)), float(known)))
        limit = float(np.interp(share if sign > 0 else 1 - share, _QUANTILES, table[key]))
        if sign * found[score] > sign * limit:
            return (
                f"These examples look unlike what {name} was trained on: {_SAID[said]} of {100 * share:.3g} in 100 of "
                "its validation tasks. Check it on examples whose answer you know, or take another learner."
            )
    return None
