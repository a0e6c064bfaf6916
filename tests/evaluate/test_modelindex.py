"""The metadata of a model card: the hub's own client reads it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import quickstudy
from quickstudy.evaluate.modelindex import model_index
from quickstudy.evaluate.result import Other, Result
from tests.evaluate.fakes import a_result
from tests.leaderboard.rows import infinite, made

hub = pytest.importorskip("huggingface_hub")


def parsed(name: str, *results: Result) -> list[Any]:
    data = hub.ModelCard(f"---\n{model_index(name, results)}---\n# A card\n").data
    assert data.model_name == name
    found: list[Any] = data.eval_results
    return found


def test_the_hub_reads_it() -> None:
    ece = Other(mean=0.05, ci95=0.01, per_episode=(0.05,) * 50)
    accuracy, error = parsed('a "name": #1', made(0.8, others={"ece": ece}))
    assert accuracy.metric_type == "accuracy" and accuracy.metric_value == pytest.approx(0.8, abs=0.02)
    assert accuracy.dataset_args["way"] == 5 and accuracy.dataset_args["episodes"] == 50
    assert accuracy.metric_args["transductive"] is False and accuracy.metric_args["ci95"] > 0
    assert accuracy.dataset_split == "test" and accuracy.dataset_name == "digits"
    assert (error.metric_type, error.metric_value) == ("ece", 0.05)


def test_kinds_and_awkward_numbers() -> None:
    text = a_result([0.2, 0.4], data="fewrel, wiki", way=(5, 10))
    assert parsed("x", text)[0].task_type == "text-classification"
    assert parsed("x", text)[0].dataset_args["way"] == [5, 10]
    found = parsed("x", infinite([1.0, math.inf], data="sinusoid"))[0]
    assert found.metric_value == math.inf and found.task_type == "few-shot-regression"
    small = parsed("x", a_result([1e-9, 1e-9], metric="mse", way=None, mean=1e-9))[0]
    assert small.metric_value == 1e-9, "a number, as YAML reads it"
    assert parsed("x", a_result([1.0, 2.0], metric="return", way=None))[0].task_type == "reinforcement-learning"
    assert len(parsed("x", text, text)) == 2


def test_cards_of_saved_learners_have_it() -> None:
    folder = Path(quickstudy.__file__).parent / "shipped"
    cards = sorted(folder.glob("*/README.md"))
    assert len(cards) >= 6
    for card in cards:
        data = hub.ModelCard(card.read_text(encoding="utf-8")).data
        saved = json.loads((card.parent / "learner.json").read_text(encoding="utf-8"))
        means = [one["mean"] for one in saved["results"]]
        assert (
            means and [one.metric_value for one in data.eval_results if one.metric_type in ("accuracy", "mse")] == means
        )
