"""What measures the fields' comparisons: it trains once, goes on with what was stopped, and writes each row down."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import quickstudy
from quickstudy.domains.study import Column, Rival, Study, study
from quickstudy.errors import UnknownName
from quickstudy.evaluate.kept import load_kept
from quickstudy.evaluate.robustness import Robustness
from quickstudy.learners.knn import KNN
from quickstudy.recipes import load_recipe
from quickstudy.recipes.load import digest_of_file
from quickstudy.reproduce.budget import StopsAt
from quickstudy.train import Interrupted

results: Any = importlib.import_module("benchmarks.results")  # for mypy the folder of that name is it


@pytest.fixture
def small() -> Study:
    """The one-shot challenge with tiny networks, trained for two steps."""
    rivals = (Rival("pixels + k-NN", lambda shape, training: KNN()),)
    overrides = {"net.filters": 4, "train.steps": 2}
    return replace(study("one-shot"), rivals=rivals, overrides=overrides, plain=None, also=("omniglot-runs-maml-fast",))


def test_a_study_from_nothing_to_its_files(
    small: Study, tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(**more: Any) -> Any:
        return results.run(small, tmp_path / "runs", tmp_path / "results", data_root, **more)

    table = measured()
    assert [row.name for row in table.rows] == ["protonet", "maml", "pixels + k-NN"]
    files = sorted((tmp_path / "results" / "one-shot").iterdir())
    assert [path.name.partition("--")[0] for path in files] == ["maml", "pixels-+-k-nn", "protonet"]
    result, about = load_kept(files[2])
    assert (result.episodes, result.learner, result.data) == (20, "protonet", "omniglot-runs")
    assert about["recipe_said"] == digest_of_file("omniglot-runs-protonet-fast") != about["recipe_hash"]
    robust = Robustness.from_json(json.dumps(about["robustness"]))
    assert robust.stands_beside(result) and robust.figures[0].value == pytest.approx(result.mean)
    assert about["recipe"] == "omniglot-runs-protonet-fast" and about["train_seconds"] > 0 and not about["baseline"]
    assert {"command", "commit", "versions", "column", "order"} <= about.keys()
    assert load_kept(files[1])[1]["baseline"]
    (run,) = (tmp_path / "runs").glob("omniglot-runs-protonet-fast-*")
    assert "Siamese network" in (run / "one-shot.html").read_text()

    # Once more: nothing is trained, and of rows that are not asked for the files are taken.
    monkeypatch.setattr(quickstudy, "train", lambda *given, **named: pytest.fail("trained again"))
    before = {path: path.stat().st_mtime_ns for path in files}
    again = measured(only=["maml"])
    assert [row.name for row in again.rows] == ["protonet", "maml", "pixels + k-NN"]
    assert [path for path in files if path.stat().st_mtime_ns != before[path]] == [files[0]]
    with pytest.raises(UnknownName, match=r"no row of one-shot called 'mamml'\. Did you mean 'maml'"):
        measured(only=["mamml"])


def test_all_figures_of_robustness_where_they_are_asked_for(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside rows of classes, on each column's own data; what these cannot be asked has its reason."""
    monkeypatch.setattr("quickstudy.stressing.WAYS", (2, 50))
    monkeypatch.setattr("quickstudy.stressing.SHOTS", (1,))
    columns = (Column("kinds", {"way": 3, "shot": 1, "query": 4}), Column("pairs", {"way": 2, "shot": 1, "query": 4}))
    few = replace(study("medicine-pictures"), overrides={"net.filters": 4, "train.steps": 1}, plain=None)
    few = replace(few, columns=columns, episodes=30, rivals=(Rival("pixels + k-NN", lambda shape, training: KNN(), 6),))
    slow = Rival("slow", lambda shape, training: KNN(), 4, unasked="It takes hours.")
    results.run(replace(few, rivals=(slow,)), tmp_path / "r", tmp_path / "s", data_root, ["slow"], robustness=20)
    for path in (tmp_path / "s" / few.name).glob("slow--*"):
        robust = Robustness.from_json(json.dumps(load_kept(path)[1]["robustness"]))
        assert list(robust.not_asked.values()) == ["It takes hours."]
        assert [one.episodes for one in robust.figures[:4]] == [4] * 4
    results.run(few, tmp_path / "runs", tmp_path / "results", data_root, robustness=20)
    found = {path.stem: load_kept(path) for path in (tmp_path / "results" / few.name).iterdir()}
    assert len(found) == 4
    for name, (result, about) in found.items():
        robust = Robustness.from_json(json.dumps(about["robustness"]))
        assert robust.is_whole and robust.stands_beside(result) and robust.learner == about["row"]
        assert robust.episodes == result.episodes == (6 if about["baseline"] else 30)
        way = 3 if name.endswith("kinds") else 2
        asked = {one.name: one for one in robust.figures}
        assert asked["20 % wrong labels"].episodes == min(20, result.episodes)
        assert {"20 % wrong labels", "queries turned by 90°", "1-shot", "2-way"} <= asked.keys()
        assert robust.source["way"] == way and ("unknown classes, by probability" in asked) == (way == 2)
        assert "it has only 3 classes" in robust.not_asked["50-way"]
        assert about["command"].endswith("medicine-pictures --robustness 20")
    # Measured again without them, they stay; of another result they do not.
    results.run(few, tmp_path / "runs", tmp_path / "results", data_root)
    again = {path.stem: load_kept(path)[1] for path in (tmp_path / "results" / few.name).iterdir()}
    for name, about in again.items():
        assert (about["robustness"], about["command"]) == (found[name][1]["robustness"], found[name][1]["command"])
    results.run(replace(few, episodes=24), tmp_path / "runs", tmp_path / "results", data_root)
    for path in (tmp_path / "results" / few.name).iterdir():
        _, about = load_kept(path)
        assert about["baseline"] or not Robustness.from_json(json.dumps(about["robustness"])).is_whole
        assert about["command"].endswith(" --robustness 20") == about["baseline"]


def test_a_run_that_was_stopped_is_gone_on_with(
    small: Study, tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(small.recipe, small.overrides)
    with pytest.raises(Interrupted):
        quickstudy.train(recipe, runs=tmp_path, data_root=data_root, ranks=1, callbacks=[StopsAt(1e-9)])
    (stopped,) = tmp_path.iterdir()
    asked: list[Any] = []
    train = quickstudy.train

    def watched(*given: Any, **named: Any) -> Any:
        asked.append((given[0], named.get("resume", False)))
        return train(*given, **named)

    monkeypatch.setattr(quickstudy, "train", watched)
    found = results._Runner(small, tmp_path, data_root).trained(small.recipe)
    assert found.folder.path == stopped and asked == [(stopped, True)]
    assert results._Runner(small, tmp_path, data_root).trained(small.recipe).folder.path == stopped
    assert len(asked) == 1, "what is finished is not trained again"
    other = results._Runner(replace(small, overrides={**small.overrides, "train.steps": 3}), tmp_path, data_root)
    assert other.trained(small.recipe).folder.path != stopped, "by another recipe: another run"
