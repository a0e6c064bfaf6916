"""quickstudy.train, .evaluate and .load from Python."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

import quickstudy
from quickstudy.data.sinusoid import Sinusoid
from quickstudy.errors import InputError
from quickstudy.recipes import load_recipe
from quickstudy.train import History

SHORT = {"train.steps": 4, "train.tasks_per_step": 2}


def test_training_returns_the_run(tmp_path: Path) -> None:
    history = History()
    run = quickstudy.train("sinusoid-maml", overrides=SHORT, runs=tmp_path, callbacks=[history])
    assert run.path == tmp_path / "sinusoid-maml-s0-001"
    assert run.trained.step == 4
    assert len(history.steps) == 4
    assert run.recipe.train.tasks_per_step == 2
    loaded = quickstudy.load(run.path).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in run.learner.state_dict().items())


def test_nothing_is_printed_unless_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = quickstudy.train("sinusoid-maml", overrides=SHORT, runs=tmp_path)
    quickstudy.evaluate(run, episodes=4)
    assert capsys.readouterr() == ("", "")
    quickstudy.train("sinusoid-maml", overrides=SHORT, runs=tmp_path, progress=True)
    assert "finished after 4 steps" in capsys.readouterr().err


def test_progress_of_an_evaluation_goes_to_who_asks(tmp_path: Path) -> None:
    run = quickstudy.train("sinusoid-maml", overrides=SHORT, runs=tmp_path)
    told: list[tuple[int, int]] = []
    quickstudy.evaluate(run.path, episodes=20, tasks_at_once=8, progress=lambda *news: told.append(news), report=False)
    assert told == [(8, 20), (16, 20), (20, 20)]
    assert not run.folder.report.exists()


def test_a_recipe_object(tmp_path: Path) -> None:
    recipe = load_recipe("sinusoid-maml", {"train.steps": 3})
    assert quickstudy.train(recipe, runs=tmp_path).trained.step == 3
    with pytest.raises(InputError, match="Cannot apply overrides to a Recipe that is resolved already"):
        quickstudy.train(recipe, overrides=SHORT, runs=tmp_path)


def test_loading_needs_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = quickstudy.train("sinusoid-maml", overrides=SHORT, runs=tmp_path)
    monkeypatch.delattr(Sinusoid, "tasks")
    learner = quickstudy.load(run.path)
    assert not learner.training


def test_the_best_checkpoint_is_tested_where_there_is_one(tmp_path: Path) -> None:
    overrides = {**SHORT, "train.validate-every": 2, "train.validate-episodes": 4}
    run = quickstudy.train("sinusoid-maml", overrides=overrides, runs=tmp_path)
    assert run.trained.best is not None
    assert quickstudy.evaluate(run, episodes=4, report=False).checkpoint == "best"
    assert quickstudy.evaluate(run, episodes=4, checkpoint="last", report=False).checkpoint == "last"


def test_runs_of_other_seeds_are_tested_on_the_same_tasks(tmp_path: Path) -> None:
    a, b = (
        quickstudy.evaluate(
            quickstudy.train("sinusoid-maml", overrides={**SHORT, "seed": seed}, runs=tmp_path),
            episodes=8,
            report=False,
        )
        for seed in (0, 1)
    )
    assert (a.source, a.source_hash) == (b.source, b.source_hash)
    assert a.per_episode != b.per_episode


def test_global_generators_are_left_alone(tmp_path: Path) -> None:
    def states() -> tuple[object, ...]:
        return random.getstate(), str(np.random.get_state()), torch.random.get_rng_state().tolist()

    before = states()
    run = quickstudy.train("sinusoid-maml", overrides=SHORT, runs=tmp_path)
    quickstudy.evaluate(run, episodes=4)
    quickstudy.load(run.path)
    assert states() == before


def test_a_run_with_pictures_has_an_episode_in_its_report(tmp_path: Path) -> None:
    overrides = {"train.steps": 2, "train.validate-episodes": 4, "net.filters": 4}
    run = quickstudy.train("glyphs-protonet-fast", overrides=overrides, runs=tmp_path)
    result = quickstudy.evaluate(run, way=3, shot=2, episodes=4)
    assert (result.way, result.shot, result.query) == (3, 2, 15)
    page = run.folder.report.read_text(encoding="utf-8")
    assert "3-way 2-shot" in page
    assert "Task 0 of glyphs, as protonet answers it" in page
    assert "query of class A, predicted" in page


def test_what_learns_nothing_is_tested_as_it_is(tmp_path: Path) -> None:
    """No steps: a baseline, or a network as it was drawn; the run is like any other."""
    run = quickstudy.train("sinusoid-maml", overrides={"train.steps": 0}, runs=tmp_path)
    assert run.trained.step == 0
    drawn = quickstudy.evaluate(run, episodes=50)
    assert drawn.mean == quickstudy.evaluate(run.path, episodes=50, report=False).mean
    assert quickstudy.train(run.path, runs=tmp_path, resume=True).trained.step == 0
    trained = quickstudy.train("sinusoid-maml", overrides={"train.steps": 50}, runs=tmp_path)
    assert quickstudy.evaluate(trained, episodes=50).mean < drawn.mean
