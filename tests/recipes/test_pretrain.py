"""Recipes of learners that are trained on plain labelled batches: what they say, what they refuse, what they train."""

import hashlib
import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from quickstudy import api
from quickstudy.data.batches import BatchSource
from quickstudy.data.source import TaskShape
from quickstudy.errors import InputError
from quickstudy.learners.metabaseline import MetaBaseline
from quickstudy.progress import Line, TrainingProgress
from quickstudy.recipes import Recipe, build, load_recipe, parse_recipe, recipe_hash, to_toml
from quickstudy.recipes.fitting import curves_of
from quickstudy.runlist import list_runs
from quickstudy.runs import identity, which_checkpoint
from quickstudy.train import Interrupted, RunFolder, Silent, StepEvent
from tests.cli.test_progress import Clock

TWO_PHASES = """
name = "two"
[learner]
name = "meta-baseline"
[net]
name = "conv4"
filters = 4
[data]
name = "glyphs"
[episodes.test]
way = 3
shot = 1
query = 2
[pretrain]
steps = 4
batch = 8
optimizer = "sgd"
lr = 0.05
momentum = 0.9
weight-decay = 5e-4
[train]
steps = 3
tasks-per-step = 2
validate-every = 2
validate-episodes = 4
"""


SHAPE = TaskShape((1, 28, 28), "classes", 3, 9)


def parse(text: str = TWO_PHASES, **overrides: Any) -> Recipe:
    """`train__lr=1` stands for the key `train.lr`."""
    keys = {key.replace("__", ".").replace("_", "-"): value for key, value in overrides.items()}
    return parse_recipe(text, source="mine.toml", overrides=keys)


def of(learner: str, **overrides: Any) -> Recipe:
    """The recipe with another learner and one phase."""
    return parse(TWO_PHASES.replace("meta-baseline", learner), **overrides).model_copy(update={"pretrain": None})


def test_what_a_recipe_says_of_a_first_phase() -> None:
    recipe = parse()
    assert recipe.pretrain is not None
    assert (recipe.pretrain.steps, recipe.pretrain.batch, recipe.pretrain.schedule.name) == (4, 8, "constant")
    assert (recipe.pretrain.momentum, recipe.pretrain.weight_decay) == (0.9, 5e-4)
    assert recipe.episodes.train == recipe.episodes.test
    assert parse_recipe(to_toml(recipe), source="again.toml") == recipe
    assert "[pretrain]\nsteps = 4\n" in to_toml(recipe)
    assert (
        to_toml(recipe).index("[episodes.test]")
        < to_toml(recipe).index("[pretrain]")
        < to_toml(recipe).index("[train]")
    )


def test_hashes_of_recipes_without_batches_did_not_change() -> None:
    """What could be said before has the hash that it had; what is new counts where it is said."""
    recipe = load_recipe("sinusoid-maml")
    document = recipe.model_dump(mode="json", exclude={"name"})
    del document["pretrain"], document["evaluate"]["precision"]
    for name in ("batch", "weight_decay", "momentum", "compile", "warmup", "clip_norm", "average", "patience"):
        del document["train"][name]
    assert hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest() == recipe_hash(recipe)
    assert identity(recipe, SHAPE) == identity(recipe.model_copy(update={"pretrain": None}), SHAPE)
    assert identity(parse(), SHAPE) != identity(parse(pretrain__lr=0.1), SHAPE)
    assert parse(train__lr=0.5) != parse()
    hashes = {
        recipe_hash(parse(**changes))
        for changes in (
            {},
            {"pretrain__steps": 5},
            {"pretrain__momentum": 0.5},
            {"train__weight_decay": 0.1},
            {"train__optimizer": "sgd", "train__momentum": 0.9},
            {"train__optimizer": "sgd"},
            {"train__clip_norm": 1.0},
            {"train__average": {"name": "ema"}},
            {"train__average": {"name": "swa"}},
            {"train__warmup": 1},
        )
    }
    assert len(hashes) == 10


def test_sources_of_both_phases() -> None:
    built = build(parse())
    assert isinstance(built.learner, MetaBaseline) and built.batches is None
    assert isinstance(built.pretrain, BatchSource) and built.pretrain.settings["batch"] == 8
    layer = built.learner.classifier.layer
    assert layer is not None and layer.out_features == built.train.shape.classes == built.pretrain.shape.outputs
    alone = build(of("baseline", train__tasks_per_step=1))
    assert alone.pretrain is None and alone.batches is not None and alone.batches.settings["batch"] == 64
    assert build(of("baseline", train__tasks_per_step=1, train__batch=5)).batches.settings["batch"] == 5  # type: ignore[union-attr]


MISTAKES = [
    (
        "protonet",
        {},
        r"The learner 'protonet' is trained on tasks alone, not on plain .* Remove the table \[pretrain\]",
    ),
    (
        "baseline",
        {},
        r"'baseline' is trained on plain labelled batches in \[train\] already\. Remove the table \[pretra",
    ),
    ("baseline", {"pretrain": None}, r"'baseline' is trained on plain .*: instead of tasks-per-step and tasks-at-once"),
    (
        "protonet",
        {"pretrain": None, "batch": 8},
        r"'protonet' is trained on tasks, not .*: instead of train\.batch, say",
    ),
    (
        "rfs",
        {"pretrain": None, "distil": True},
        r"'rfs', with these options, is trained twice .* add a table \[pretrain",
    ),
]


@pytest.mark.parametrize(("learner", "changes", "message"), MISTAKES)
def test_phases_that_a_learner_does_not_have(learner: str, changes: dict[str, Any], message: str) -> None:
    overrides: dict[str, Any] = {"train__batch": changes["batch"]} if "batch" in changes else {}
    if "distil" in changes:
        overrides |= {"learner__distil": True, "train__tasks_per_step": 1}
    recipe = parse(TWO_PHASES.replace("meta-baseline", learner), **overrides)
    with pytest.raises(InputError, match=message):
        build(recipe.model_copy(update={"pretrain": None}) if "pretrain" in changes else recipe)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"pretrain__batch": 0}, r"pretrain\.batch: expected a number from 1 on, found 0"),
        ({"pretrain__stesp": 3}, r"no key called 'pretrain\.stesp'\. Did you mean 'pretrain\.steps'"),
        ({"train__momentum": 0.9}, r"train: momentum is an option of optimizer = 'sgd'"),
        ({"pretrain__optimizer": "adam"}, r"pretrain: momentum is an option of optimizer = 'sgd'"),
        ({"train__weight_decay": -1}, r"train\.weight-decay: expected a number from 0 on, found -1"),
    ],
)
def test_mistakes_in_the_tables(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(**overrides)


def test_a_data_set_without_classes() -> None:
    recipe = load_recipe("sinusoid-maml", {"learner.name": "fine-tune"})
    built = build(recipe)
    assert built.batches is None and built.learner.traits.phases == ("episodes",)


class _StopAfter(Silent):
    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, event: StepEvent) -> None:
        if event.step == self.at:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("stop", [4])
def test_a_run_of_two_phases_goes_on(stop: int, tmp_path: Path) -> None:
    """Through the run folder: the same metrics and weights, whichever phase was interrupted."""

    def content(run: Path) -> tuple[bytes, list[dict[str, Any]]]:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        kept = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
        return (run / "checkpoints" / "last" / "weights.safetensors").read_bytes(), kept

    whole = api.train(parse(), runs=tmp_path / "whole", device="cpu")
    assert whole.trained.step == 7
    with pytest.raises(Interrupted, match=rf"Stopped after step {stop} of 7"):
        api.train(parse(), runs=tmp_path / "parts", device="cpu", callbacks=[_StopAfter(stop)])
    parts = api.train(parse(), runs=tmp_path / "parts", device="cpu", resume=True)
    assert content(parts.path) == content(whole.path)
    phases = [line["phase"] for line in content(whole.path)[1] if "phase" in line]
    assert phases == ["batches"] * 4 + ["episodes"] * 3
    (found,) = list_runs(tmp_path / "parts")
    assert (found.step, found.steps) == (7, 7)
    result = api.evaluate(parts.path, episodes=4, device="cpu")
    assert result.episodes == 4
    assert "batches: loss" in parts.folder.report.read_text()


def test_the_first_phase_alone(tmp_path: Path) -> None:
    """`train.steps = 0` beside [pretrain]: steps of the first phase are done, and their result is tested."""
    run = api.train(parse(train__steps=0), runs=tmp_path, device="cpu")
    assert run.trained.step == 4
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "phase" in line] == [1, 2, 3, 4]
    assert api.evaluate(run, episodes=4, device="cpu", report=False).episodes == 4
    further = api.train(run.path, overrides={"train.steps": 3}, resume=True, device="cpu")
    whole = api.train(parse(), runs=tmp_path / "whole", device="cpu")
    name = "checkpoints/last/weights.safetensors"
    assert further.trained.step == 7 and (further.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_the_best_of_an_earlier_phase_is_not_tested(tmp_path: Path) -> None:
    """Stopped in the second phase before it was measured: the last weights, not the best ones of the first phase."""
    with pytest.raises(Interrupted, match="Stopped after step 5 of 7"):
        api.train(parse(), runs=tmp_path, device="cpu", callbacks=[_StopAfter(5)])
    (run,) = list_runs(tmp_path)
    assert (run.path / "checkpoints" / "best").is_dir() and run.best is None
    assert which_checkpoint(RunFolder(run.path)) == "last"
    api.train(run.path, resume=True, device="cpu")
    assert which_checkpoint(RunFolder(run.path)) == "best"


def test_curves_of_two_phases_of_batches_are_two() -> None:
    """A teacher and its student."""
    records = [{"step": step, "phase": "batches", "phase_number": step // 3, "loss": 1.0} for step in range(1, 6)]
    curves = curves_of(records, "x")
    assert [(curve.quantity, list(curve.steps)) for curve in curves] == [
        ("batches: loss", [1, 2]),
        ("batches, second time: loss", [3, 4, 5]),
    ]


def test_curves_of_two_phases_are_two() -> None:
    records = [{"step": 1, "phase": "batches", "loss": 8.0}, {"step": 2, "phase": "episodes", "loss": 1.0}]
    curves = curves_of([*records, {"step": 3, "loss": 0.5}], "x")
    assert [(curve.quantity, list(curve.steps)) for curve in curves] == [("batches: loss", [1]), ("loss", [2, 3])]


def test_progress_says_the_phase_and_counts_its_own_steps() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = TrainingProgress(Line(stream, clock), clock)
    for step in range(1, 5):
        clock.now += 10.0
        progress.step(StepEvent(step, 10, {"loss": 1.0}, 10.0, "batches"))
    for step in range(5, 8):
        clock.now += 20.0
        progress.step(StepEvent(step, 10, {"loss": 1.0}, 20.0))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "step 1/10 on batches  loss 1  0.1 steps/s  1:30 left"
    assert lines[4] == "step 5/10  loss 1  0.05 steps/s  1:40 left"
    assert lines[6] == "step 7/10  loss 1  0.05 steps/s  1:00 left"
