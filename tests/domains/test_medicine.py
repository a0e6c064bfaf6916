"""Baselines of medicine, figures of patients, the studies, and a whole path on a made-up table."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import quickstudy
from quickstudy.data.grouptasks import GroupTasks
from quickstudy.data.heart import HeartDisease
from quickstudy.data.sinusoid import Sinusoid
from quickstudy.domains.medicine.patients import Said, compared, said_of
from quickstudy.domains.medicine.pooled import PooledAndSupport, Prevalence, pooled, training_patients
from quickstudy.domains.study import Found, study
from quickstudy.episode import Classes, Examples
from quickstudy.errors import InputError
from quickstudy.evaluate import meta_test
from quickstudy.evaluate.intervals import row_ci95
from quickstudy.recipes import load_recipe
from tests.conftest import needed
from tests.data.test_grouptable import made_up, write

STUDIES = ("medicine", "medicine-cleveland", "medicine-hungarian", "medicine-switzerland", "medicine-in-context")


@pytest.fixture(scope="module")
def heart(data_root: Path) -> HeartDisease:
    needed(data_root / "uci-heart-disease")
    return HeartDisease(data_root)


def tasks(heart: HeartDisease, role: str = "train") -> GroupTasks:
    return heart.tasks(role, shot=10, query=[10, 30], seed=0)


def test_baselines_are_fitted_to_training_patients_alone(heart: HeartDisease) -> None:
    x, y = training_patients(tasks(heart))
    assert set(heart.tasks("train", shot=10, query=10, seed=0).training_rows()) <= set(heart.roles["train"])
    assert len(x) == len(y) and np.array_equal(y[:5], heart._table[1][heart.roles["train"]][:5])
    with pytest.raises(InputError, match=r"fitted to patients of a table, received FunctionTasks"):
        training_patients(Sinusoid().tasks("train", shot=2, query=2, seed=0))


def test_pooled_and_support_is_one_regression(heart: HeartDisease) -> None:
    """A support row that counts five times is five rows."""
    x, y = training_patients(tasks(heart))
    episode = tasks(heart, "test").episodes(range(2))
    assert isinstance(episode.support.x, torch.Tensor) and episode.support.y is not None
    learner = PooledAndSupport(x, y, weight=5.0, c=0.1)
    said = learner.predict(learner.adapt(episode.support), episode.query.unlabelled())
    for t in range(2):
        more_x = np.repeat(episode.support.x[t].double().numpy(), 5, 0)
        more_y = np.repeat(episode.support.y[t].numpy(), 5)
        model = LogisticRegression(C=0.1, max_iter=5000, tol=1e-8).fit(
            np.concatenate([x, more_x]), np.concatenate([y, more_y])
        )
        expected = model.predict_proba(episode.query.x[t].numpy())[:, 1]  # type: ignore[index]
        assert said[t].softmax(1)[:, 1].numpy() == pytest.approx(expected, abs=2e-3)


def test_pooled_models_do_not_look_at_the_support(heart: HeartDisease) -> None:
    source = tasks(heart)
    learner = pooled(lambda: LogisticRegression(max_iter=1000))(source.shape, source)
    result = meta_test(learner, tasks(heart, "test"), episodes=5)
    assert result.metric == "auroc" and {"accuracy", "brier", "nll", "sensitivity"} <= set(result.others)
    assert 0.5 < result.mean < 0.95


def test_prevalence() -> None:
    support = Examples(torch.zeros(1, 4, 2), torch.tensor([[0, 1, 1, 1]]), Classes(torch.tensor([2])))
    said = Prevalence().predict(Prevalence().adapt(support), support.unlabelled())
    assert said.softmax(2)[0, 0].tolist() == pytest.approx([2 / 6, 4 / 6])


def test_intervals_are_over_patients(heart: HeartDisease) -> None:
    """As a test reports them; and differences are of the same patients."""
    source = tasks(heart, "test")
    train = tasks(heart)
    rival = pooled(lambda: LogisticRegression(max_iter=1000))(train.shape, train)
    said = {"a": said_of(rival, source, 12), "b": said_of(Prevalence(), source, 12)}
    result = meta_test(rival, source, episodes=12)
    table = compared(said, "auroc")
    assert table["a"] == ((result.mean, result.ci95_rows), (0, 0))
    assert result.ci95_rows is not None and result.ci95_rows > 3 * result.ci95, "episodes ask for the same patients"
    assert table["b"][1] == pytest.approx((0.5 - result.mean, result.ci95_rows)), "prevalence ranks nobody"
    other = result.others["brier"]
    assert compared(said, "brier")["a"][0] == pytest.approx((other.mean, other.ci95_rows))


def test_differences_are_in_pairs() -> None:
    effects = np.array([0.1, -0.3, 0.2])
    one, other = (Said(None, {"auroc": mean}, {"auroc": effects}) for mean in (0.7, 0.8))  # type: ignore[arg-type]
    table = compared({"one": one, "other": other}, "auroc")
    assert table["other"][0] == (0.8, row_ci95(effects)) and table["other"][1] == pytest.approx((0.1, 0.0))


@pytest.mark.parametrize("name", STUDIES)
def test_studies_are_of_recipes_that_ship(name: str) -> None:
    found = study(name)
    recipe = load_recipe(found.recipe, found.overrides)
    assert (
        found.plain is not None and load_recipe(found.plain, found.overrides).data == recipe.data
    ) or "context" in name
    assert any("No medical device" in note for note in found.notes)


def test_the_report_has_the_fields_sections(heart: HeartDisease, data_root: Path, monkeypatch: Any) -> None:
    from quickstudy.domains.medicine import study as room

    monkeypatch.setenv("QUICKSTUDY_DATA", str(data_root))
    monkeypatch.setattr(room, "EPISODES", 12)
    source = heart.tasks("test", shot=10, query=[10, 400], seed=0)
    train = tasks(heart)
    rival = pooled(lambda: LogisticRegression(max_iter=1000))(train.shape, train)
    found = Found(Prevalence(), {"10 labelled patients": source}, {"logistic, other hospitals": rival})
    titles = [section.title for section in study("medicine").sections(found)]
    assert [title.split(",")[0].split(" that")[0] for title in titles] == [
        "Calibration and abstention",
        "Over patients",
        "Conformal sets",
    ]


def test_a_table_of_ones_own_from_file_to_figure(tmp_path: Path) -> None:
    """Each patient has a line of their own: who learns it from five rows is better than who answers with the mean."""
    path = write(tmp_path / "t.csv", made_up(60, 14))
    overrides = {"data.file": str(path), "data.group": "patient", "data.target": "y", "data.time": "day"}
    run = quickstudy.train("table-maml-fast", overrides={**overrides, "train.steps": 80}, runs=tmp_path / "runs")
    result = quickstudy.evaluate(run, episodes=15)
    assert result.metric == "mae" and result.source["groups"] == 15
    spread = np.std([float(row["y"]) for row in made_up(60, 14)])
    assert result.mean < 0.7 * spread
