"""The floors that the fast recipes promise, trained for real (`make test-all`; about half an hour on 2 cores)."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import quickstudy
from quickstudy.data.omniglot import Omniglot
from quickstudy.evaluate import episode_ci95

pytestmark = pytest.mark.slow


def test_omniglot_protonet_fast(data_root: Path, tmp_path: Path) -> None:
    """One checkpoint for all cells, inductive, 1,000 episodes of the Vinyals test classes."""
    run = quickstudy.train("omniglot-protonet-fast", runs=tmp_path, data_root=data_root)
    for way, shot, query, floor in ((5, 1, 15, 0.978), (5, 5, 15, 0.993), (20, 1, 5, 0.935)):
        found = quickstudy.evaluate(run, way=way, shot=shot, query=query, episodes=1000, data_root=data_root)
        assert found.mean >= floor and not found.transductive, (way, shot, found.mean)


def test_omniglot_maml_fast(data_root: Path, tmp_path: Path) -> None:
    run = quickstudy.train("omniglot-maml-fast", runs=tmp_path, data_root=data_root)
    found = quickstudy.evaluate(run, episodes=1000, data_root=data_root)
    assert found.mean >= 0.78 and not found.transductive, found.mean


def test_sinusoid_maml(tmp_path: Path) -> None:
    """Finn et al. 2017, table 2: 5-shot error after 1, 5 and 10 steps, over three seeds of 4,000 tasks."""
    found: dict[int, list[float]] = {1: [], 5: [], 10: []}
    for seed in range(3):
        run = quickstudy.train("sinusoid-maml", overrides={"seed": seed}, runs=tmp_path)
        for steps, errors in found.items():
            result = quickstudy.evaluate(run, overrides={"learner.test-inner-steps": steps}, report=False)
            assert result.diverged == 0
            errors += result.per_episode
    for steps, bound in ((1, 0.70), (5, 0.38), (10, 0.35)):
        errors_now = np.array(found[steps])
        assert errors_now.mean() + episode_ci95(errors_now) <= bound, (steps, errors_now.mean())


def test_sampling_rate(data_root: Path) -> None:
    """20,000 5-way 1-shot 15-query tasks a second of processor time; the best of some tries, as machines are noisy."""
    source = Omniglot(data_root).tasks("train", way=5, shot=1, query=15, seed=0)
    best = 0.0
    for start in range(0, 40 * 128, 128):
        begun = time.process_time()
        source.episodes(range(start, start + 128))
        best = max(best, 128 / (time.process_time() - begun))
    assert best >= 20_000, best
