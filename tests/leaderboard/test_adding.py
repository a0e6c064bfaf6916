"""A result becomes a row once its checkpoint was tested again; what is refused, and that nothing is ever replaced."""

from __future__ import annotations

import json
import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quickstudy import api
from quickstudy.errors import CheckpointError, DataError, InputError
from quickstudy.evaluate import Result
from quickstudy.evaluate.kept import save_kept
from quickstudy.evaluate.result import Other
from quickstudy.evaluate.robustness import Robustness
from quickstudy.leaderboard import add, read_board
from quickstudy.leaderboard import again as testing
from quickstudy.leaderboard.again import _compare, sample_of
from quickstudy.leaderboard.entry import Checked, read_entry
from quickstudy.recipes import load_recipe
from quickstudy.reproduce import reproduce
from quickstudy.reproduce.record import commit
from quickstudy.train.checkpoint import _state_digest
from tests.data.picturesmade import folder_of_pictures
from tests.evaluate.fakes import NearestMean, Points
from tests.leaderboard.rows import made, robust
from tests.reproduce.tiny import use_tiny_claims

SMALL = {"train.steps": 6, "train.tasks-per-step": 2, "train.validate-every": 3, "train.validate-episodes": 4}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run and its test; whoever changes it takes a copy."""
    made = api.train("sinusoid-maml-fast", overrides=SMALL, runs=tmp_path_factory.mktemp("runs"), device="cpu")
    api.evaluate(made, episodes=40, report=False)
    return made.path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / trained.name))


def result_of(run: Path) -> Path:
    (path,) = run.glob("evaluations/*.json")
    return path


def changed(path: Path, **changes: Any) -> Path:
    """A copy elsewhere, with other fields."""
    copy = path.parents[2] / "copy.json"
    copy.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return copy


def test_a_result_is_tested_again_and_added(run: Path, tmp_path: Path) -> None:
    added = add(result_of(run), results=tmp_path / "results", by="A. Person")
    assert added.new and added.path.parent == tmp_path / "results" / "leaderboard"
    entry = read_entry(added.path)
    about, result = entry.about, Result.load(result_of(run))
    assert added.path.name == f"maml-{result.id}.json" and entry.result.id == result.id
    assert (about.row, about.recipe, about.seed, about.steps) == ("maml", "sinusoid-maml-fast", 0, 6)
    assert about.by == "A. Person" and about.recipe_hash == result.recipe_hash
    assert about.train_seconds is not None and about.train_seconds > 0
    assert about.energy is not None and "10 W a busy core" in about.energy.assumption
    assert about.weights_sha256 == json.loads((run / "checkpoints/best/state.json").read_text())["weights_sha256"]
    assert about.checked is not None and about.checked.episodes == tuple(sample_of(result, 20))
    assert about.checked.difference < 1e-5 and "0.001 of itself" in about.checked.tolerance
    assert about.checked.commit == commit(), "by which sources it was tested again"
    assert about.settings is not None and about.settings["train"]["steps"] == 6, "others can train it again"
    again = load_recipe(about.recipe, SMALL)
    assert again.model_dump(mode="json", by_alias=True, exclude_none=True) == about.settings
    (row,) = (row for table in read_board(tmp_path / "results", papers=False).tables for row in table.rows)
    assert row.checked and row.marks == ("checked",)


def test_robustness_of_the_same_checkpoint_comes_along(run: Path, tmp_path: Path) -> None:
    result = Result.load(result_of(run))
    folder = run / "evaluations" / "robustness"
    folder.mkdir()
    (folder / "other.json").write_text(json.dumps(robust(result, source_hash="0" * 64)))
    assert read_entry(add(result_of(run), results=tmp_path / "one").path).about.robustness is None
    (folder / "same.json").write_text(json.dumps(robust(result)))
    found = read_entry(add(result_of(run), results=tmp_path / "two").path).about.robustness
    assert found is not None and found.figures[1].name == "20 % wrong labels"
    (folder / "same.json").write_text("{")
    with pytest.warns(UserWarning, match=r"Passed over: Cannot read .*same\.json as robustness figures"):
        assert read_entry(add(result_of(run), results=tmp_path / "three").path).about.robustness is None


def test_a_row_gets_robustness_that_was_measured_later(run: Path, tmp_path: Path) -> None:
    """Nothing else of it changes, and what it has is not replaced."""
    first = add(result_of(run), results=tmp_path, by="somebody")
    before = read_entry(first.path)
    folder = run / "evaluations" / "robustness"
    folder.mkdir()
    for figures in (alone := robust(before.result, figures=(), not_asked={}), robust(before.result)):
        (folder / "some.json").write_text(json.dumps(figures))
        again = add(result_of(run), results=tmp_path, by="somebody else")
        found = read_entry(first.path)
        assert again.robustness_added and not again.new and found.about.robustness is not None
        assert found.result == before.result
        assert found.about.model_copy(update={"robustness": None}) == before.about
        content = first.path.read_bytes()
        assert not add(result_of(run), results=tmp_path).robustness_added and first.path.read_bytes() == content
    (folder / "some.json").write_text(json.dumps(alone))
    assert not add(result_of(run), results=tmp_path).robustness_added and first.path.read_bytes() == content


def test_figures_of_fewer_episodes_do_not_take_the_place_of_more(run: Path, tmp_path: Path) -> None:
    """What a test says of itself stays of all its episodes; what was asked of fewer comes beside it."""
    result = Result.load(result_of(run))
    folder = run / "evaluations" / "robustness"
    folder.mkdir()
    whole = robust(result)
    figures = Robustness.from_json(json.dumps(whole)).figures
    (folder / "alone.json").write_text(json.dumps(robust(result, figures=figures[:1], not_asked={})))
    path = add(result_of(run), results=tmp_path).path
    few = robust(result, episodes=2, figures=tuple(replace(one, episodes=2) for one in figures))
    (folder / "few.json").write_text(json.dumps(few))
    assert add(result_of(run), results=tmp_path).robustness_added
    both = read_entry(path).about.robustness
    assert both is not None and both.is_whole and both.episodes == result.episodes
    assert [one.episodes for one in both.figures] == [result.episodes, 2]
    (folder / "alone.json").unlink()
    content = path.read_bytes()
    assert not add(result_of(run), results=tmp_path).robustness_added and path.read_bytes() == content
    (folder / "whole.json").write_text(json.dumps(whole))
    assert add(result_of(run), results=tmp_path).robustness_added
    found = read_entry(path).about.robustness
    assert found is not None and json.loads(found.to_json()) == whole


def test_the_same_row_again_is_said_and_unchanged(run: Path, tmp_path: Path) -> None:
    first = add(result_of(run), results=tmp_path)
    before = first.path.read_bytes()
    again = add(result_of(run), results=tmp_path, by="somebody else", sample=3)
    assert not again.new and again.path == first.path and first.path.read_bytes() == before
    assert len(again.checked.episodes) == 3, "what was tested again now, not by whoever added it"
    for name, other, said in (
        ("weights_sha256", "0" * 64, r"has other weights_sha256 \('0000"),
        ("row", "my learner", r"has other row \('my learner'\)\. No row is ever replaced"),
        ("steps", 7, r"has other steps \(7\)"),
        ("train_seconds", 0.1, r"has other train_seconds \(0\.1\)"),
    ):
        content = json.loads(before)
        content["provenance"][name] = other
        first.path.write_text(json.dumps(content))
        with pytest.raises(InputError, match=rf"cannot be added: .*maml-.*\.json is of the same recipe.* {said}"):
            add(result_of(run), results=tmp_path)


def test_nobody_chooses_the_episodes(trained: Path) -> None:
    result = Result.load(result_of(trained))
    first = sample_of(result, 10)
    assert len(set(first)) == 10 and first == sorted(first) and max(first) < 40
    assert sample_of(result, 10) == first == sample_of(replace(result, seconds=99.0), 10)
    assert sample_of(replace(result, mean=result.mean + 1e-9), 10) != first
    assert sample_of(result, 100) == list(range(40))
    with pytest.raises(InputError, match="Cannot test 0 episodes again"):
        add(result_of(trained), sample=0)
    with pytest.raises(
        InputError, match=r"Cannot add a row by 'me\\n': a name has no characters that cannot be printed"
    ):
        add(result_of(trained), by="me\n")


def test_figures_that_do_not_come_out_are_refused(run: Path, tmp_path: Path) -> None:
    result = Result.load(result_of(run))
    figures = [0.9 * one for one in result.per_episode]
    scaled = {name: 0.9 * getattr(result, name) for name in ("mean", "ci95", "median")}
    scaled |= {"mean_converged": scaled["mean"], "ci95_converged": scaled["ci95"]}
    copy = changed(result_of(run), per_episode=figures, **scaled)
    said = r"copy\.json cannot be added: episode \d+ has mse .* there, and the checkpoint gives .*evaluate the run"
    with pytest.raises(InputError, match=said):
        add(copy, run, results=tmp_path / "results")
    assert not (tmp_path / "results").exists()
    # One that was forged in a single place is found by as many as one looks at.
    figures = list(result.per_episode)
    figures[7] += 40 * (0.1 + result.mean)
    values = replace(result, per_episode=tuple(figures))
    mean = sum(figures) / 40
    half = 1.96 * (sum((one - mean) ** 2 for one in figures) / 39) ** 0.5 / 40**0.5
    values = replace(values, mean=mean, ci95=half, mean_converged=mean, ci95_converged=half)
    replace(values, median=statistics.median(figures)).save(copy)
    with pytest.raises(InputError, match=r"episode 7 has mse"):
        add(copy, run, results=tmp_path / "results", sample=40)


def test_another_learners_or_datas_name_is_refused(run: Path, tmp_path: Path) -> None:
    """Figures and checkpoint are right, and the row would stand under a name that is not."""
    copy = changed(result_of(run), learner="protonet")
    with pytest.raises(InputError, match=r"its learner is 'protonet', and .*recipe\.toml trained 'maml'\. Evaluate"):
        add(copy, run, results=tmp_path / "results")
    copy = changed(result_of(run), learner_seed=7)
    with pytest.raises(InputError, match=r"its learner_seed is 7, and `quickstudy evaluate` tests all learners with 0"):
        add(copy, run, results=tmp_path / "results")
    for name, other in (("data", "omniglot"), ("split", "vinyals/test"), ("shot", 1)):
        copy = changed(result_of(run), **{name: other})
        with pytest.raises(InputError, match=rf"copy\.json cannot be right\. {name} is .*, and source\.{name} is"):
            add(copy, run, results=tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_no_run_is_at_hand(run: Path, tmp_path: Path) -> None:
    copy = changed(result_of(run))
    with pytest.raises(InputError, match=r"copy\.json cannot be added: no run is at hand .* Name its folder: --run"):
        add(copy, results=tmp_path)
    with pytest.raises(InputError, match="There is no run"):
        add(copy, tmp_path / "nowhere", results=tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("inner-lr = 0.01", "inner-lr = 0.02", r"recipe\.toml was edited after its training \(its checkpoint 'last'"),
        ("episodes = 4000", "episodes = 500", r"it was measured by the recipe \w{12}, and .* is \w{12}\. Name the run"),
    ],
)
def test_a_recipe_that_was_edited_is_refused(run: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    text = (run / "recipe.toml").read_text()
    assert old in text, text
    (run / "recipe.toml").write_text(text.replace(old, new))
    with pytest.raises(InputError, match=said) as told:
        add(result_of(run), results=tmp_path)
    assert result_of(run).name in str(told.value)


def test_another_checkpoint_than_stated_is_refused(run: Path, tmp_path: Path) -> None:
    copy = changed(result_of(run), provenance={"weights_sha256": "0" * 64})
    with pytest.raises(InputError, match=r"it states a checkpoint with the SHA-256 000000000000 .*trained on since"):
        add(copy, run, results=tmp_path)
    copy = changed(result_of(run), provenance={"recipe_hash": "0" * 64})
    with pytest.raises(InputError, match=r"provenance\.recipe_hash says that the recipe 000000000000 was trained"):
        add(copy, run, results=tmp_path)
    copy = changed(result_of(run), checkpoint="")
    with pytest.raises(InputError, match=r"checkpoint is '', and a row says which one was tested"):
        add(copy, run, results=tmp_path)
    shutil.rmtree(run / "checkpoints" / "best")
    with pytest.raises(InputError, match=r"it is of the checkpoint 'best', and there is no .*best\. Copy the run"):
        add(result_of(run), results=tmp_path)


def test_a_changed_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    weights = run / "checkpoints" / "best" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cut off or was changed \(its SHA-256 is not the one"):
        add(result_of(run), results=tmp_path)


def test_other_tasks_and_other_settings_are_refused(run: Path, tmp_path: Path) -> None:
    result = Result.load(result_of(run))
    copy = changed(result_of(run), source=result.source | {"noise": 3})
    with pytest.raises(InputError, match=r"its tasks have noise 3, and those of the run have null\. Give what"):
        add(copy, run, results=tmp_path)
    copy = changed(result_of(run), source_hash="0" * 64)
    with pytest.raises(InputError, match=r"measured on data of other content \(source_hash 000000000000\) than lies"):
        add(copy, run, results=tmp_path)
    copy = changed(result_of(run), transductive=True)
    with pytest.raises(InputError, match=r"transductive is True and balanced_prior False there, and its learner is"):
        add(copy, run, results=tmp_path)


def test_what_a_test_changed_is_given_again(run: Path, tmp_path: Path) -> None:
    other = {"learner.test_inner_steps": 3}
    result = api.evaluate(run, episodes=10, overrides=other, report=False)
    file = run / "evaluations" / f"{result.id}.json"
    with pytest.raises(InputError, match=r"give these here, too \(such as --learner\.test-inner-steps 10\)"):
        add(file, results=tmp_path)
    entry = read_entry(add(file, results=tmp_path, overrides=other).path)
    assert entry.about.overrides == {"learner.test-inner-steps": 3}
    (row,) = (row for table in read_board(tmp_path, papers=False).tables for row in table.rows)
    assert row.marks == ("learner.test-inner-steps 3", "checked"), "told from the run as it was trained"


def test_classes_that_were_trained_on_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("QUICKSTUDY_KERNELS", "torch")  # nothing is compiled for so few pictures
    folder = folder_of_pictures(tmp_path / "mine", [f"kind {n}" for n in range(9)])
    small: dict[str, Any] = {"train.steps": 2, "train.validate-every": 0, "net.filters": 4, "data.size": 16}
    small |= {f"episodes.{role}.{size}": 2 for role in ("train", "test") for size in ("way", "query")}
    made = api.train(
        "images-protonet-fast", overrides={**small, "data.folder": str(folder)}, runs=tmp_path / "runs", device="cpu"
    )
    api.evaluate(made, episodes=6, report=False)
    file = result_of(made.path)
    added = add(file, results=tmp_path / "results")
    assert len(added.checked.episodes) == 6 and read_entry(added.path).about.data is not None
    # By what the run kept: somebody divided the data otherwise when it was trained.
    split = json.loads((made.path / "split.json").read_text())
    split["train"].append(split["test"][0])
    (made.path / "split.json").write_text(json.dumps(split))
    with pytest.raises(InputError, match=r"cannot be added\. Cannot test .* it was trained on them \(split\.json\)"):
        add(file, results=tmp_path / "others")
    # By the classes and pictures themselves.
    monkeypatch.setattr("quickstudy.leaderboard.adding.used_by", lambda recipe, data: {"trained": test_of(data)})

    def test_of(data: Any) -> Any:
        return data.tasks("test", way=2, shot=1, query=1, seed=0)

    with pytest.raises(InputError, match=rf"{file.name} cannot be added: 'kind \d'.* classes that the run was trained"):
        add(file, results=tmp_path / "others")
    assert not (tmp_path / "others").exists()


def test_every_metric_is_tested_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forged Brier score beside a true accuracy is no row."""
    brier: list[float | None] = [0.2 + 0.001 * number for number in range(50)]
    brier[3] = None  # not defined there
    true = replace(made(0.8), others={"brier": Other(mean=0.2, ci95=0.01, per_episode=tuple(brier))})

    def asked(learner: Any, source: Any, *, episodes: int, first: int, seed: int) -> Result:
        return replace(
            true,
            episodes=1,
            per_episode=true.per_episode[first : first + 1],
            others={"brier": Other(mean=0.2, ci95=0.01, per_episode=tuple(brier[first : first + 1]))},
        )

    def again(result: Result) -> Checked:
        return testing.tested_again(Path("a.json"), NearestMean(), Points(), result, 50, None)

    monkeypatch.setattr("quickstudy.leaderboard.again.meta_test", asked)
    assert again(true).difference == 0
    for forged in (0.19, None):
        values = tuple(forged if number == 7 else value for number, value in enumerate(brier))
        with pytest.raises(InputError, match=r"a\.json cannot be added: episode 7 has brier .* the checkpoint gives"):
            again(replace(true, others={"brier": Other(mean=0.2, ci95=0.01, per_episode=values)}))
    with pytest.raises(InputError, match=r"its metric is accuracy, auroc, and the run's tasks .* accuracy, brier\."):
        again(replace(true, others={"auroc": true.others["brier"]}))


def test_an_option_that_a_learner_got_since_is_no_edit(run: Path, tmp_path: Path) -> None:
    for which in ("best", "last"):
        state = run / "checkpoints" / which / "state.json"
        about = json.loads(state.read_text())
        assert about["settings"].pop("learner.memory") == "unrolled"
        about["identity"]["recipe"] = "0" * 64  # a digest of what there was then
        state.write_text(json.dumps(about | {"state_sha256": _state_digest(about)}))
    assert add(result_of(run), results=tmp_path / "results").new


def test_a_claim_is_kept_by_what_was_tested_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_claims(tmp_path / "claims", monkeypatch)
    given: dict[str, Any] = {"runs": tmp_path / "runs", "results": tmp_path / "results", "device": "cpu"}
    (record,) = reproduce("one", seeds=(0,), **given).records
    run = tmp_path / "runs" / "one-s0-001"
    added = read_entry(add(record.path, run, results=tmp_path / "results").path).about
    assert (added.claim, added.protocol) == ("one", record.about.protocol), "so that a later claim takes it for no seed"
    # The same training, tested otherwise, is not what the paper did, whatever its file says.
    others: list[tuple[dict[str, Any], dict[str, Any]]] = [({"shot": 7}, {}), ({}, {"learner.test-inner-steps": 3})]
    for sizes, changes in others:
        result = api.evaluate(run, checkpoint="last", overrides=changes, report=False, **sizes)
        file = tmp_path / "forged.json"
        save_kept(file, result, {"claim": "one"})
        other = add(file, run, results=tmp_path / "results", overrides=changes)
        assert other.new and read_entry(other.path).about.claim is None


def test_data_that_is_not_at_hand_is_no_excuse(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tested on other data, where the run kept nothing of its own that could be held against it."""

    def missing(recipe: Any, data: Any) -> Any:
        raise DataError("There is no file x.npz.")

    datas = iter([{"name": "a"}, {"name": "b"}])
    monkeypatch.setattr("quickstudy.leaderboard.adding.data_of", lambda recipe: next(datas))
    monkeypatch.setattr("quickstudy.leaderboard.adding.used_by", missing)
    said = rf"{result_of(run).name} cannot be added: nobody can tell .* keeps nothing to compare\. There is no file x"
    with pytest.raises(InputError, match=said):
        add(result_of(run), results=tmp_path / "results")


def test_a_tie_that_round_off_decides_is_no_forgery() -> None:
    result, numbers = made(0.8), list(range(20))
    same = [result.per_episode[number] for number in numbers]

    def flipped(*places: int, by: float = 1 / 75) -> list[float]:
        return [one + by * (place in places) for place, one in enumerate(same)]

    path = Path("a.json")
    assert _compare(path, result, numbers, same) == 0
    assert _compare(path, result, numbers, flipped(3, 9)) == pytest.approx(1 / 75)
    with pytest.raises(InputError, match="episode 12 has accuracy"):
        _compare(path, result, numbers, flipped(3, 9, 12))
    with pytest.raises(InputError, match="episode 3 has accuracy"):
        _compare(path, result, numbers, flipped(3, by=2 / 75))
    errors = replace(result, metric="mse")
    assert _compare(path, errors, numbers, [one * 1.0005 for one in same]) > 0
    with pytest.raises(InputError, match="episode 0 has mse"):
        _compare(path, errors, numbers, [one * 1.002 for one in same])
    with pytest.raises(InputError, match="episode 19 has mse"):
        _compare(path, errors, numbers, [*same[:-1], float("inf")])
