"""The training loop: exact resume, interruptions, divergence, and that every chunking gives the same run."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import quickstudy.files
from quickstudy.errors import CheckpointError, InputError, NonFiniteLoss, StorageError
from quickstudy.learners import KNN, MAML, AbstractLearner, ProtoNet
from quickstudy.train import (
    Checkpointing,
    EndEvent,
    History,
    Interrupted,
    JsonLines,
    Silent,
    StepEvent,
    Validation,
    cosine,
    decay_by,
    fit,
    linear,
)
from tests.table import ROWS, make, mlp
from tests.train.small import Small, StopAfter, metrics, same, weights

ROW = {row.name: row for row in ROWS}


RUNS = [
    ("protonet-batchnorm", {"optimizer": "adam", "lr": 0.01}),
    ("maml", {"optimizer": "adamw", "lr": 0.01}),
    ("reptile-published", {"optimizer": "sgd", "lr": 0.5}),
]


@pytest.mark.parametrize(("name", "options"), RUNS, ids=[name for name, _ in RUNS])
def test_a_run_that_goes_on_equals_one_never_stopped(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    """Interrupted between checkpoints, resumed in a new process's worth of objects: same bits, same metrics."""

    def run(folder: Path, stop: int | None = None, resume: bool = False) -> dict[str, Tensor]:
        learner = make(ROW[name])
        resumed_at = 0
        state = folder / "last" / "state.json"
        if resume:
            resumed_at = json.loads(state.read_text())["step"]
        lines = JsonLines(folder / "metrics.jsonl", resumed_at=resumed_at)
        fit(
            learner,
            Small(),
            steps=7,
            tasks_per_step=3,
            schedule=linear(0.1),
            validate=lambda learner: Validation("accuracy", float(next(learner.parameters()).detach().sum()), 0.1),
            validate_every=2,
            callbacks=[lines] if stop is None else [lines, StopAfter(stop)],
            checkpoints=Checkpointing(folder, every=2),
            resume=resume,
            **options,
        )
        return weights(learner)

    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted, match=r"Stopped after step 5 of 7"):
        run(tmp_path / "parts", stop=5)
    assert same(run(tmp_path / "parts", resume=True), whole)
    assert metrics(tmp_path / "parts" / "metrics.jsonl") == metrics(tmp_path / "whole" / "metrics.jsonl")


def test_lines_newer_than_the_checkpoint_are_cut_off(tmp_path: Path) -> None:
    """Killed after step 3, the last one half written, with a checkpoint of step 1."""
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path)
    for step in (1, 2, 3):
        lines.step(StepEvent(step, 7, {"loss": 1.0}, 0.1))
    lines.end(EndEvent(3, "failed"))
    path.write_bytes(path.read_bytes()[:-9])
    assert len(path.read_bytes().splitlines()) == 3
    JsonLines(path, resumed_at=1).end(EndEvent(1, "failed"))
    assert [line["step"] for line in metrics(path)] == [1]


def test_steps_draw_consecutive_tasks_and_chunks_change_nothing() -> None:
    found = []
    for at_once in (None, 2, 1):
        source, learner = Small(), make(ROW["maml"])
        fit(learner, source, steps=3, tasks_per_step=3, tasks_at_once=at_once, lr=0.01)
        assert source.drawn == list(range(9))
        found.append(weights(learner))
    for other in found[1:]:
        for name, value in found[0].items():
            torch.testing.assert_close(other[name], value, rtol=1e-10, atol=1e-10)


def test_loss_falls_and_history_remembers() -> None:
    learner, history = make(ROW["maml"]), History()
    fit(learner, Small(), steps=40, tasks_per_step=4, lr=0.02, callbacks=[history])
    losses = [step["loss"] for step in history.steps]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert {"step", "loss", "accuracy", "grad_norm", "lr"} <= history.steps[0].keys()
    assert not learner.training


def test_best_is_kept(tmp_path: Path) -> None:
    values = iter([0.5, 0.9, 0.7])
    learner = make(ROW["maml"])
    done = fit(
        learner,
        Small(),
        steps=6,
        validate=lambda _: Validation("accuracy", next(values), 0.0),
        validate_every=2,
        checkpoints=Checkpointing(tmp_path),
    )
    assert (done.best, done.best_step) == (0.9, 4)
    assert json.loads((tmp_path / "best" / "state.json").read_text())["step"] == 4
    assert json.loads((tmp_path / "last" / "state.json").read_text())["step"] == 6


def test_errors_are_smaller_is_better() -> None:
    assert Validation("mse", 0.1, 0.0).better_than(0.2) and not Validation("mse", 0.3, 0.0).better_than(0.2)
    assert not Validation("accuracy", float("nan"), 0.0).better_than(None)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [(decay_by(0.5, 2), [1, 1, 0.5, 0.5]), (linear(), [1, 0.75, 0.5, 0.25]), (cosine(0.2), [1, 0.883, 0.6, 0.317])],
)
def test_schedules(schedule: Any, expected: list[float]) -> None:
    assert [schedule(step, 4) for step in range(4)] == pytest.approx(expected, abs=1e-3)


def test_divergence_stops_before_it_is_saved(tmp_path: Path) -> None:
    learner = make(ROW["maml-real"])
    assert isinstance(learner, MAML)
    fit(learner, Small("real"), steps=2, checkpoints=Checkpointing(tmp_path, every=1))
    before = weights(learner)
    learner.loop.lr = 1e200
    with pytest.raises(NonFiniteLoss, match=r"The loss of task 2 became (nan|inf) in step 3, .* training diverged"):
        fit(learner, Small("real"), steps=4, checkpoints=Checkpointing(tmp_path, every=1), resume=True)
    assert same(weights(learner), before)
    other = make(ROW["maml-real"])
    assert fit(other, Small("real"), steps=2, checkpoints=Checkpointing(tmp_path, every=1), resume=True).step == 2
    assert same(weights(other), before)


def test_nan_in_the_data_is_named() -> None:
    with pytest.raises(ValueError, match=r"support\.x: expected finite numbers, found NaN .* in task 1, row 0"):
        fit(make(ROW["maml"]), Small(poison=1), steps=2, tasks_per_step=2)


class FailsAt:
    """A full disk at the n-th call."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    def function(self, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.count()
            return original(*args, **kwargs)

        return call

    def open(self, *args: Any) -> Any:
        """A file whose writes are counted."""
        disk, opened = self, open(*args)

        class File:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *args: Any) -> None:
                opened.close()

            def __getattr__(self, name: str) -> Any:
                return disk.function(opened.write) if name == "write" else getattr(opened, name)

        return File()


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_while_replacing_a_checkpoint(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on to step 4 and fails at its n-th disk call still loads as step 2 or 4, never as nothing."""
    failed = 0
    for nth in range(1, 7):
        folder = tmp_path / str(nth)
        fit(make(ROW["maml"]), Small(), steps=2, checkpoints=Checkpointing(folder))
        fails = FailsAt(nth)
        with monkeypatch.context() as patch:
            if call == "write":
                patch.setattr(quickstudy.files, "open", fails.open, raising=False)
            else:
                patch.setattr(os, call, fails.function(getattr(os, call)))
            try:
                fit(make(ROW["maml"]), Small(), steps=4, checkpoints=Checkpointing(folder), resume=True)
            except StorageError as error:
                assert "No space left on device" in str(error)
                failed += 1
        other = make(ROW["maml"])
        assert fit(other, Small(), steps=4, checkpoints=Checkpointing(folder), resume=True).step == 4
        reference = make(ROW["maml"])
        fit(reference, Small(), steps=4)
        assert same(weights(other), weights(reference))
    assert failed >= 2, "the test injected nothing"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"seed": 1},
            r"last as it was: seed was 0 so far and is now 1\. Go on as before, start a new run, or go on all the same",
        ),
        ({"tasks_per_step": 2}, r"tasks-per-step was 1 so far and is now 2\."),
        ({"tasks_at_once": 1}, r"tasks-at-once was not set so far and is now 1\."),
    ],
)
def test_a_changed_run_does_not_go_on(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    fit(make(ROW["maml"]), Small(), steps=1, checkpoints=Checkpointing(tmp_path))
    with pytest.raises(CheckpointError, match=message):
        fit(make(ROW["maml"]), Small(), steps=2, checkpoints=Checkpointing(tmp_path), resume=True, **change)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(
        InputError,
        match=r"KNN has nothing to meta-train\. .* say train\.steps = 0 in its recipe, and leave --steps out\.$",
    ):
        fit(KNN(), Small(), steps=1)
    with pytest.raises(InputError, match=r"ProtoNet learns classes, but these tasks have 'real' targets"):
        fit(ProtoNet(mlp()), Small("real"), steps=1)
    with pytest.raises(InputError, match=r"steps must be a whole number of at least 1, received 0"):
        fit(ProtoNet(mlp()), Small(), steps=0)
    with pytest.raises(InputError, match=r"Every parameter of ProtoNet is frozen"):
        fit(ProtoNet(mlp().requires_grad_(False)), Small(), steps=1)


class Forgetful(AbstractLearner):
    """A learner whose loss does not depend on its weights: other libraries train it in silence."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    @property
    def traits(self):  # type: ignore[no-untyped-def]
        return ProtoNet(mlp()).traits

    def adapt(self, support, *, state=None, key=None):  # type: ignore[no-untyped-def]
        return None

    def predict(self, state, query, *, key=None):  # type: ignore[no-untyped-def]
        return torch.zeros(query.n_task, query.n_example, 3, requires_grad=True)


def test_weights_outside_the_graph_are_an_error() -> None:
    with pytest.raises(InputError, match=r"No parameter of Forgetful has a gradient"):
        fit(Forgetful(), Small(), steps=1)


class Drops(nn.Module):
    """Dropout draws from torch's global generator."""

    out_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drop = nn.Linear(4, 4), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        dropped: Tensor = self.drop(self.linear(x))
        return dropped


def test_dropout_is_seeded_and_global_generators_are_left_alone() -> None:
    found = []
    for noise in (1, 2):
        torch.manual_seed(0)
        learner = ProtoNet(Drops())
        torch.manual_seed(noise)
        state = torch.get_rng_state()
        history = History()
        fit(learner, Small(), steps=3, callbacks=[history])
        assert torch.equal(state, torch.get_rng_state())
        found.append([step["loss"] for step in history.steps])
    assert found[0] == found[1] and len(set(found[0])) == 3


def test_foreign_batch_norm_is_absorbed_in_order() -> None:
    """torch's own BatchNorm1d in a ProtoNet: after fit its running mean is what torch writes task by task."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)).double()
    learner, source = ProtoNet(net), Small()
    fit(learner, source, steps=1, tasks_per_step=3, lr=1e-12)
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)).double().train()
    episode = Small().episodes(range(3))
    for t in range(3):
        plain(torch.cat([episode.support.x[t], episode.query.x[t]]))  # type: ignore[index]
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(net[1], name), getattr(plain[1], name), rtol=1e-9, atol=1e-9)


class Attends(nn.Module):
    """Self-attention of torch's fused kind, which has no second derivative on a CPU."""

    out_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.inner(x).reshape(-1, 1, 2, 2)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
            mixed: Tensor = nn.functional.scaled_dot_product_attention(rows, rows, rows)
        return mixed.flatten(1)


def test_no_second_derivative_is_said_clearly() -> None:
    learner = MAML(Attends(), 3, inner_steps=2, strategy="loop")
    with pytest.raises(ValueError, match=r"Cannot take a second derivative .* Use first_order=True"):
        fit(learner.double(), Small(), steps=1)


def test_divergence_puts_running_statistics_back() -> None:
    learner = make(ROW["protonet-batchnorm"])
    before = weights(learner)
    calls = iter(range(9))

    class BreaksLater(nn.Module):
        """The second task of the step has no loss that is a number."""

        def forward(self, x: Tensor) -> Tensor:
            return x * (float("nan") if next(calls) == 1 else 1.0)

    assert isinstance(learner, ProtoNet)
    learner.embed.net = nn.Sequential(learner.embed.net, BreaksLater())
    before = weights(learner)
    with pytest.raises(NonFiniteLoss, match="The loss of task 1 became nan in step 1"):
        fit(learner, Small(), steps=1, tasks_per_step=3, tasks_at_once=1)
    assert same(weights(learner), before)


def test_a_frozen_part_in_eval_mode_stays_there() -> None:
    body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).double().requires_grad_(False)
    learner = ProtoNet(nn.Sequential(body, nn.Linear(4, 3).double()))
    body.eval()
    fit(learner, Small(), steps=2)
    assert int(body[1].num_batches_tracked) == 0 and not body.training  # type: ignore[arg-type]
    assert learner.training


def test_a_callback_without_a_method_is_refused() -> None:
    class Steps:
        def step(self, event: StepEvent) -> None:
            raise ValueError("mine")

    with pytest.raises(InputError, match=r"The callback Steps has no method 'validation'\. Derive it from"):
        fit(make(ROW["maml"]), Small(), steps=1, callbacks=[Steps()])  # type: ignore[list-item]

    class Fails(Silent):
        def step(self, event: StepEvent) -> None:
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fit(make(ROW["maml"]), Small(), steps=1, callbacks=[Fails()])
