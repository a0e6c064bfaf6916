"""A run goes on as it was; whatever is otherwise is named, and done only where somebody says that it is meant."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from quickstudy import api
from quickstudy.errors import CheckpointError, InputError
from quickstudy.reports import report
from quickstudy.train import Silent, StepEvent
from quickstudy.train.checkpoint import versions
from tests.cli.conftest import Command
from tests.train.small import same, weights

HOW = "Go on as before, start a new run, or go on all the same with --accept-changes (accept_changes=True)"


@pytest.fixture
def run(tmp_path: Path, trained: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs" / trained.name))


def state(run: Path, which: str = "last") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "checkpoints" / which / "state.json").read_text())
    return found


def test_each_changed_setting_is_named(quickstudy: Command, run: Path) -> None:
    keys = ("--optimizer.lr", "0.01")
    assert quickstudy("train", run, "--resume", *keys).status == 2
    changes = ("--train.lr", "0.01", "--train.clip-norm", "1", "--train.optimizer", "sgd", "--net.hidden", "[8]")
    done = quickstudy("train", run, "--resume", *changes)
    assert done.status == 2 and HOW in done.err
    for said in (
        "train.lr was 0.002 so far and is now 0.01",
        "train.clip-norm was not set so far and is now 1.0",
        'train.optimizer was "adam" so far and is now "sgd"',
        "net.hidden was [40, 40] so far and is now [8]",
    ):
        assert said in done.err, said
    assert "changes" not in state(run) and "inner-lr = 0.001" in (run / "recipe.toml").read_text()


def test_many_changes_are_counted(quickstudy: Command, run: Path) -> None:
    more = {"train.lr": 1, "train.tasks-per-step": 2, "train.momentum": 0.5, "train.optimizer": "sgd"}
    more |= {"train.weight-decay": 0.1, "train.validate-every": 5, "train.validate-episodes": 3}
    done = quickstudy(
        "train", run, "--resume", *[str(part) for key, value in more.items() for part in (f"--{key}", value)]
    )
    assert done.status == 2 and ", and 2 more changed. Go on" in done.err


def test_the_same_value_is_no_change(quickstudy: Command, run: Path) -> None:
    done = quickstudy(
        "train", run, "--resume", "--learner.inner-lr", "0.001", "--steps", "24", "--evaluate.episodes", "7"
    )
    assert done.status == 0, done.err
    assert state(run)["step"] == 24 and "changes" not in state(run)


def test_a_recipe_whose_newest_run_was_by_other_settings(quickstudy: Command, run: Path) -> None:
    asked = ("sinusoid-maml", "--steps", "20", "--train.validate-every", "10", "--train.validate-episodes", "10")
    done = quickstudy("train", *asked, "--resume", "--runs", run.parent, "--train.lr", "0.5")
    assert done.status == 2
    assert f"with these settings in {run.parent} to go on with. The newest is {run}: train.lr was 0.002 so" in done.err
    done = quickstudy("train", *asked, "--resume", "--accept-changes", "--runs", run.parent, "--train.lr", "0.5")
    assert done.status == 0 and done.out == f"{run}\n", done.err


def test_accepted_changes_are_kept(quickstudy: Command, run: Path, tmp_path: Path) -> None:
    done = quickstudy("train", run, "--resume", "--accept-changes", "--steps", "24", "--train.lr", "0.01")
    assert done.status == 0, done.err
    changed = [{"step": 20, "changed": {"train.lr": [0.002, 0.01]}}]
    assert state(run)["changes"] == changed and state(run)["step"] == 24
    assert "lr = 0.01" in (run / "recipe.toml").read_text()
    rates = {
        line["step"]: line["lr"]
        for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        if "lr" in line
    }
    assert (rates[20], rates[21]) == (0.002, 0.01)
    # From here on that is the run's recipe, which needs no word; another change adds to the history.
    assert quickstudy("train", run, "--resume", "--steps", "26").status == 0
    assert state(run)["changes"] == changed
    assert quickstudy("train", run, "--resume", "--train.lr", "0.002").status == 2
    more = ("--accept-changes", "--train.optimizer", "sgd", "--steps", "28")
    assert quickstudy("train", run, "--resume", *more).status == 0
    assert state(run)["changes"][1:] == [{"step": 26, "changed": {"train.optimizer": ["adam", "sgd"]}}]
    shown = quickstudy("show", run).out
    assert "# after step 20: train.lr changed from 0.002 to 0.01\n" in shown
    assert json.loads(quickstudy("show", run, "--json").out)["changes"][0]["step"] == 20
    page = report([run], out=tmp_path / "page.html", episodes=0).read_text()
    assert "maml was changed on the way: after step 20, train.lr changed from 0.002 to 0.01." in page
    quickstudy("evaluate", run, "--episodes", "3")
    assert (
        "The run was changed on the way: after step 26, train.optimizer changed from"
        in (run / "report.html").read_text()
    )


class Dies(Silent):
    """As a process that is killed while the checkpoint is due: the recipe is written and the checkpoint is not."""

    def step(self, event: StepEvent) -> None:
        del event

    def saving(self, step: int) -> None:
        raise KeyboardInterrupt


def test_what_was_accepted_is_accepted_though_killed_at_once(run: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        api.train(
            run, resume=True, accept_changes=True, overrides={"train.steps": 22, "train.lr": 0.5}, callbacks=[Dies()]
        )
    assert "lr = 0.5" in (run / "recipe.toml").read_text() and "changes" not in state(run)
    assert api.train(run, resume=True).trained.step == 22
    assert state(run)["changes"] == [{"step": 20, "changed": {"train.lr": [0.002, 0.5]}}]


def test_what_no_word_allows(run: Path) -> None:
    with pytest.raises(InputError, match=r"by the seed 1: its own, 0, is a part of its name and draws every task"):
        api.train(run, resume=True, accept_changes=True, overrides={"seed": 1})
    with pytest.raises(CheckpointError, match=r"is not of this learner: its '\S+' is "):
        api.train(run, resume=True, accept_changes=True, overrides={"net.hidden": [40, 41], "train.steps": 24})
    with pytest.raises(InputError, match=r"Changes are accepted of a run that goes on .*: give --resume"):
        api.train("sinusoid-maml", accept_changes=True)
    assert state(run)["step"] == 20 and "hidden = [40, 40]" in (run / "recipe.toml").read_text()


def test_fewer_steps(run: Path) -> None:
    api.train(run, resume=True, overrides={"train.steps": 40}, callbacks=[])
    with pytest.raises(InputError, match=r"Cannot go on to 30 steps: this run is to have 40"):
        api.train(run, resume=True, overrides={"train.steps": 30})
    with pytest.raises(CheckpointError, match=r"to step 30: it is of step 40\. Ask for more steps"):
        api.train(run, resume=True, accept_changes=True, overrides={"train.steps": 30})


def begun(tmp_path: Path, **more: Any) -> Path:
    overrides = {"train.steps": 8, "train.tasks-per-step": 2} | {name.replace("__", "."): more[name] for name in more}
    return api.train("sinusoid-maml", overrides=overrides, runs=tmp_path, device="cpu").path


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"train__schedule": {"name": "cosine"}}, "the cosine schedule"),
        ({"train__average": {"name": "swa", "start": 0.5}}, "the start of the swa average"),
    ],
)
def test_steps_that_others_were_laid_out_for(tmp_path: Path, more: dict[str, Any], what: str) -> None:
    run = begun(tmp_path, **more)
    with pytest.raises(InputError, match=rf"Cannot go on to 12 steps: {what} of this run was laid out for 8\. Resume"):
        api.train(run, resume=True, overrides={"train.steps": 12})
    api.train(run, resume=True, accept_changes=True, overrides={"train.steps": 12})
    assert state(run)["changes"] == [{"step": 8, "changed": {"train.steps": [8, 12]}}]


def test_an_average_that_is_wanted_no_more(tmp_path: Path) -> None:
    """Training goes on from the weights that moved, not from their average."""
    run, plain = begun(tmp_path, train__average={"name": "ema"}), begun(tmp_path)
    dropped = api.train(run, resume=True, accept_changes=True, overrides={"train.steps": 10, "train.average": None})
    whole = api.train(plain, resume=True, overrides={"train.steps": 10})
    assert same(weights(dropped.learner), weights(whole.learner))


def test_another_precision(tmp_path: Path) -> None:
    run = begun(tmp_path)
    found = api.train(
        run, resume=True, accept_changes=True, overrides={"train.steps": 10, "train.precision": "float64"}
    )
    assert found.trained.step == 10 and {p.dtype for p in found.learner.parameters()} == {torch.float64}


def test_best_so_far_is_of_the_same_validations(run: Path) -> None:
    """Another number of validation tasks makes another figure: what was best is no measure any more."""
    with_state(run, best=0.0)
    changes = {"train.steps": 30, "train.validate-episodes": 11}
    found = api.train(run, resume=True, accept_changes=True, overrides=changes).trained
    assert found.best_step == 30 and found.best is not None and found.best > 0


# --- other data, another version ----------------------------------------------------------------


def with_state(run: Path, **changes: Any) -> None:
    """The checkpoint as another data set or version would have left it, with digests that are right."""
    from quickstudy.train.checkpoint import _state_digest

    for which in ("last", "best"):
        about = state(run, which) | changes
        about["state_sha256"] = _state_digest(about)
        (run / "checkpoints" / which / "state.json").write_text(json.dumps(about))


def test_other_data(quickstudy: Command, run: Path) -> None:
    before = state(run)
    with_state(run, identity=before["identity"] | {"source_hash": "0123456789abcdef"})
    done = quickstudy("train", run, "--resume", "--steps", "22")
    assert done.status == 1
    mine = before["identity"]["source_hash"][:12]
    assert (
        "last as it was: the content hash of the data set sinusoid was "
        f'"0123456789ab" so far and is now "{mine}". Other examples are in that place: bring the old ones back'
    ) in done.err
    assert quickstudy("train", run, "--resume", "--accept-changes", "--steps", "22").status == 0
    assert state(run)["changes"] == [
        {"step": 20, "changed": {"the content hash of the data set sinusoid": ["0123456789ab", mine]}}
    ]


def test_another_version(quickstudy: Command, run: Path) -> None:
    with_state(run, made_by={"quickstudy": "0.0.7", "torch": torch.__version__})
    done = quickstudy("train", run, "--resume", "--steps", "22")
    now = versions()["quickstudy"]
    assert done.status == 1
    assert f'the version of quickstudy was "0.0.7" so far and is now "{now}". Another version may compute' in done.err
    assert quickstudy("train", run, "--resume", "--accept-changes", "--steps", "22").status == 0
    assert state(run)["changes"][0]["changed"] == {"the version of quickstudy": ["0.0.7", now]}
    assert quickstudy("train", run, "--resume", "--steps", "24").status == 0


def test_another_torch_is_said(quickstudy: Command, run: Path) -> None:
    with_state(run, made_by={"quickstudy": versions()["quickstudy"], "torch": "2.0.1"})
    done = quickstudy("train", run, "--resume", "--steps", "22")
    assert done.status == 0, done.err
    assert (
        f"was trained by torch 2.0.1 so far, and this is {torch.__version__}: it goes on, but its last digits"
        in done.err
    )
    assert "torch 2.0.1" not in quickstudy("train", run, "--resume", "--steps", "24").err


def test_a_checkpoint_of_before_all_this(quickstudy: Command, run: Path) -> None:
    """It keeps a digest of its recipe alone, and no version; the same recipe goes on, another is refused."""
    from quickstudy.train.checkpoint import _state_digest

    about = {key: value for key, value in state(run).items() if key not in ("settings", "made_by", "optimizer_name")}
    about["state_sha256"] = _state_digest(about)
    (run / "checkpoints" / "last" / "state.json").write_text(json.dumps(about))
    recipe = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(recipe.replace("inner-lr = 0.001", "inner-lr = 0.002"))
    done = quickstudy("train", run, "--resume", "--steps", "22")
    assert done.status == 1 and "last as it was: the recipe's hash was" in done.err
    (run / "recipe.toml").write_text(recipe)
    assert quickstudy("train", run, "--resume", "--steps", "22").status == 0


# --- folders that are no runs, or half of one ----------------------------------------------------


@pytest.mark.parametrize(
    ("gone", "status", "sentence"),
    [
        (("recipe.toml",), 2, "Cannot go on with {run}: its recipe.toml is gone, though checkpoints is there. Copy"),
        (("environment.json",), 0, ""),
        (("metrics.jsonl",), 0, ""),
        (("checkpoints/last/weights.safetensors",), 1, "weights.safetensors is missing"),
        (("checkpoints/last/state.json",), 1, "state.json is missing"),
        (("checkpoints/best",), 0, ""),
    ],
)
def test_half_a_run(quickstudy: Command, run: Path, gone: tuple[str, ...], status: int, sentence: str) -> None:
    for name in gone:
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = quickstudy("train", run, "--resume", "--steps", "22")
    assert done.status == status, done.err
    assert sentence.format(run=run) in done.err and "Traceback" not in done.err


def test_a_foreign_folder(quickstudy: Command, tmp_path: Path) -> None:
    done = quickstudy("train", tmp_path, "--resume")
    assert done.status == 2 and f"{tmp_path} is not a run: it holds no recipe.toml." in done.err
