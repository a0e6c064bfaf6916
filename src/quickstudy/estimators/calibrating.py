"""Floor 6: what a trained learner's doubts are worth, measured on validation tasks.

Where an estimator has fewer than twenty labelled examples (``doubt.py``) it goes by these: quantiles of two scores of
the queries of validation tasks, of several shots.

    novelty   distance of a query to the nearest labelled example, over the median of those among the labelled
    doubt     one minus the probability of the true class
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from quickstudy.data.source import TaskSource
from quickstudy.episode import Classes, Episode
from quickstudy.estimators.doubt import Floats, embedded, left_out, nearest
from quickstudy.evaluate.metatest import answer, evaluating
from quickstudy.learners.learner import AbstractLearner

__all__ = ["calibrate"]

_SHOTS = (1, 2, 5, 10)
_QUANTILES = np.linspace(0, 1, 201)


def calibrate(
    learner: AbstractLearner, tasks: Callable[[int], TaskSource], *, episodes: int = 200
) -> dict[str, dict[str, list[float]]]:
    """Quantiles of both scores by shots.

    Args:
        learner: trained; on the CPU.
        tasks: makes validation tasks of so many shots.
        episodes: of each.

    Returns:
        ``"novelty"`` and ``"doubt"`` -> shots -> 201 quantiles.
    """
    found: dict[str, dict[str, list[float]]] = {"novelty": {}, "doubt": {}}
    for shot in _SHOTS:
        source = tasks(shot)
        novelty, doubt = [], []
        with evaluating(learner):
            for number in range(episodes):
                episode = source.episodes(range(number, number + 1))
                novelty.append(_novelty(learner, episode))
                doubt.append(_doubt(learner, episode))
        found["novelty"][str(shot)] = _quantiles(novelty)
        found["doubt"][str(shot)] = _quantiles(doubt)
    return found


def _novelty(learner: AbstractLearner, episode: Episode) -> Floats:
    support, query = episode.support, episode.query
    with torch.no_grad():
        known = embedded(learner, support.unlabelled())[support.real[0]]
        asked = embedded(learner, query.unlabelled())[query.real[0]]
    return nearest(known, asked) / max(float(np.median(left_out(known))), 1e-12)


def _doubt(learner: AbstractLearner, episode: Episode) -> Floats:
    query = episode.query
    assert isinstance(query.target, Classes) and query.y is not None
    there = query.labelled[0]
    probable = answer(learner, episode)[0][there].double().softmax(1).numpy()
    return np.asarray(1 - probable[np.arange(len(probable)), query.y[0][there].numpy()])


def _quantiles(parts: list[Any]) -> list[float]:
    values = np.concatenate(parts)
    return [float(f"{value:.6g}") for value in np.quantile(values[np.isfinite(values)], _QUANTILES)]
