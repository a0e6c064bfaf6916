"""Phases: plain labelled batches, tasks, or first the one, then the other; in one run, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quickstudy.data.batches import BatchSource
from quickstudy.data.source import TaskSource
from quickstudy.episode import Examples
from quickstudy.errors import CheckpointError, InputError, NonFiniteLoss
from quickstudy.learners import MAML, AbstractLearner, ProtoNet
from quickstudy.learners.baseline import Baseline
from quickstudy.learners.metabaseline import MetaBaseline
from quickstudy.learners.rfs import RFS
from quickstudy.nets import MLP
from quickstudy.train import (
    Checkpointing,
    History,
    Interrupted,
    JsonLines,
    Pretraining,
    Silent,
    StepEvent,
    Trained,
    Validation,
    ValidationEvent,
    cosine,
    fit,
    linear,
)
from tests.data.test_classtasks import STORE, source
from tests.train.small import StopAfter, metrics, same, weights

TASKS = source(way=4, shot=2, query=2)
CLASSES = len(STORE.classes)


def seeded(build: Callable[[], AbstractLearner]) -> AbstractLearner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().double().eval()


class Drops(nn.Module):
    """A network with everything that a run has to remember or to draw: batch norm and dropout."""

    out_features = 5

    def __init__(self) -> None:
        super().__init__()
        self.body, self.drop = MLP(4, (6, 5), norm="batch"), nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        dropped: Tensor = self.drop(self.body(x.flatten(1)))
        return dropped


def meta_baseline() -> AbstractLearner:
    return seeded(lambda: MetaBaseline(Drops(), classes=CLASSES))


def distilled() -> AbstractLearner:
    return seeded(lambda: RFS(Drops(), classes=CLASSES, distil=True))


def pretraining(steps: int = 4, **options: Any) -> Pretraining:
    given: dict[str, Any] = {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
    return Pretraining(TASKS.batches(16), steps, **given, schedule=cosine(), **options)


SECOND: dict[str, Any] = {"steps": 3, "tasks_per_step": 2, "optimizer": "adamw", "lr": 0.01, "schedule": linear(0.1)}


def test_two_phases_equal_two_runs_by_hand() -> None:
    """The second begins with a fresh optimiser, schedule and first task, from the weights of the first."""
    learner, history = meta_baseline(), History()
    done = fit(learner, TASKS, pretrain=pretraining(), seed=3, callbacks=[history], **SECOND)
    assert done == Trained(7)
    by_hand, first, second = meta_baseline(), History(), History()
    options = {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3, "schedule": cosine()}
    fit(by_hand, TASKS.batches(16), steps=4, seed=3, callbacks=[first], **options)  # type: ignore[arg-type]
    between = weights(by_hand)
    fit(by_hand, TASKS, seed=3, callbacks=[second], **SECOND)
    assert same(weights(learner), weights(by_hand)) and not same(between, weights(by_hand))
    alone = [*first.steps, *({**step, "step": step["step"] + 4} for step in second.steps)]
    assert history.steps == alone
    assert [step["phase"] for step in history.steps] == ["batches"] * 4 + ["episodes"] * 3
    assert [step["phase_number"] for step in history.steps] == [0] * 4 + [1] * 3
    assert [step["lr"] for step in history.steps][3:5] == pytest.approx([0.05 * 0.1464, 0.01], rel=1e-3)


def test_the_first_phase_against_torch() -> None:
    """Momentum, weight decay and the schedule, written out with torch.optim."""
    learner, plain = (seeded(lambda: Baseline(MLP(4, (6, 5)), classes=CLASSES)) for _ in range(2))
    assert isinstance(plain, Baseline) and plain.base.classifier.layer is not None
    batches = TASKS.batches(8)
    fit(learner, batches, steps=3, optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=0.01, schedule=linear())
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for step in range(3):
        batch = batches.batch(step)
        assert isinstance(batch.x, Tensor) and batch.y is not None
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 3)
        optimizer.zero_grad()
        features = plain.base.embed.net(batch.x[0].double().flatten(1) / 255)
        nn.functional.cross_entropy(plain.base.classifier.layer(features), batch.y[0]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for mine, theirs in zip(learner.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("kind", ["meta-baseline", "rfs"])
def test_a_run_that_goes_on_equals_one_never_stopped(kind: str, stop: int, tmp_path: Path) -> None:
    """Interrupted within either phase, at the boundary (4) and on both its sides: same bits, same metrics."""

    def run(folder: Path, stop: int | None = None, resume: bool = False) -> dict[str, Tensor]:
        learner = meta_baseline() if kind == "meta-baseline" else distilled()
        state = folder / "last" / "state.json"
        resumed_at = json.loads(state.read_text())["step"] if resume else 0
        lines = JsonLines(folder / "metrics.jsonl", resumed_at=resumed_at)
        second = SECOND if kind == "meta-baseline" else {"steps": 3, "optimizer": "adam", "lr": 0.01}
        fit(
            learner,
            TASKS if kind == "meta-baseline" else TASKS.batches(8),
            pretrain=pretraining(),
            validate=lambda learner: Validation("accuracy", float(next(learner.parameters()).detach().sum()), 0.1),
            validate_every=2,
            callbacks=[lines] if stop is None else [lines, StopAfter(stop)],
            checkpoints=Checkpointing(folder, every=100),
            resume=resume,
            **second,
        )
        return weights(learner)

    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted, match=rf"Stopped after step {stop} of 7"):
        run(tmp_path / "parts", stop=stop)
    assert same(run(tmp_path / "parts", resume=True), whole)
    assert metrics(tmp_path / "parts" / "metrics.jsonl") == metrics(tmp_path / "whole" / "metrics.jsonl")
    validated = [line["step"] for line in metrics(tmp_path / "whole" / "metrics.jsonl") if "ci95" in line]
    assert validated == [2, 4, 6, 7], "measured in both phases"


def test_the_first_phase_alone(tmp_path: Path) -> None:
    """No step of the second: the first by itself, to be gone on from as if it had never stopped."""
    for kind in (meta_baseline, distilled):
        second = SECOND if kind is meta_baseline else {"steps": 3, "lr": 0.01}
        data, folder = TASKS if kind is meta_baseline else TASKS.batches(8), Checkpointing(tmp_path / kind.__name__)
        none = {**second, "steps": 0, "schedule": None}
        learner, first = kind(), kind()
        done = fit(learner, data, pretrain=pretraining(), checkpoints=folder, **none)
        assert done == Trained(4)
        if kind is meta_baseline:
            options = {name: getattr(pretraining(), name) for name in PRETRAIN_FIELDS}
            fit(first, TASKS.batches(16), steps=4, **options)
            assert same(weights(learner), weights(first))
        again, whole = kind(), kind()
        assert fit(again, data, pretrain=pretraining(), checkpoints=folder, resume=True, **none) == Trained(4)
        assert same(weights(again), weights(learner)), "going on with what is finished began the second phase"
        further = {**second, "schedule": None}
        fit(again, data, pretrain=pretraining(), checkpoints=folder, resume=True, **further)
        fit(whole, data, pretrain=pretraining(), **further)
        assert same(weights(again), weights(whole))


@pytest.mark.parametrize("stop", [None, 4, 5])
def test_the_best_of_a_phase_is_no_measure_of_the_next(stop: int | None, tmp_path: Path) -> None:
    """High accuracies over all training classes, then lower ones on tasks: two runs of one have a best each."""
    found = {2: 0.9, 4: 0.8, 6: 0.3, 7: 0.4}
    seen = list[tuple[int, bool]]()

    class Watch(Silent):
        at = 0

        def step(self, event: StepEvent) -> None:
            self.at = event.step

        def validation(self, event: ValidationEvent) -> None:
            seen.append((event.step, event.best))

    def run(*more: Silent, resume: bool = False) -> Trained:
        watch = Watch()
        return fit(
            meta_baseline(),
            TASKS,
            pretrain=pretraining(),
            validate=lambda _: Validation("accuracy", found[watch.at], 0.1),
            validate_every=2,
            callbacks=[watch, *more],
            checkpoints=Checkpointing(tmp_path),
            resume=resume,
            **SECOND,
        )

    if stop is not None:
        with pytest.raises(Interrupted, match="Stopped after step"):
            run(StopAfter(stop))
        last = json.loads((tmp_path / "last" / "state.json").read_text())
        assert (last["best"], last["best_step"]) == ((0.9, 2) if stop == 4 else (None, None))
    assert run(resume=stop is not None) == Trained(7, 0.4, 7)
    assert seen == [(2, True), (4, False), (6, True), (7, True)]
    assert json.loads((tmp_path / "best" / "state.json").read_text())["step"] == 7


def test_more_steps_of_the_second_phase(tmp_path: Path) -> None:
    """A run of 4 + 1 steps that goes on to 4 + 3 equals one of 4 + 3."""
    options = {**SECOND, "schedule": None}
    for steps, resume in ((1, False), (3, True)):
        learner = meta_baseline()
        given = options | {"steps": steps}
        where = Checkpointing(tmp_path)
        done = fit(learner, TASKS, pretrain=pretraining(), checkpoints=where, resume=resume, **given)
    whole = meta_baseline()
    fit(whole, TASKS, pretrain=pretraining(), **options)
    assert done.step == 7 and same(weights(learner), weights(whole))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"pretrain": None},
            r"its first phase has 4 steps and is to have 0 now, by which the steps that are done would count otherwise",
        ),
        ({"pretrain": pretraining(5)}, r"its first phase has 4 steps and is to have 5 now"),
    ],
)
def test_a_changed_first_phase_does_not_go_on(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    fit(meta_baseline(), TASKS, pretrain=pretraining(), checkpoints=Checkpointing(tmp_path), **SECOND)
    given = {"pretrain": pretraining(), **SECOND, **change}
    with pytest.raises(CheckpointError, match=message):
        fit(meta_baseline(), TASKS, checkpoints=Checkpointing(tmp_path), resume=True, **given)


def test_the_student_is_born_again_at_the_boundary() -> None:
    """The teacher is what the first phase learned, to the last bit; the student began anew, from the learner's seed."""
    first = distilled()
    assert isinstance(first, RFS) and first.teacher is not None
    learner = distilled()
    assert isinstance(learner, RFS) and learner.teacher is not None
    fit(learner, TASKS.batches(8), pretrain=pretraining(), steps=1, lr=1e-30)
    plain = seeded(lambda: RFS(Drops(), classes=CLASSES))
    assert isinstance(plain, RFS)
    fit(plain, TASKS.batches(16), steps=4, **{k: getattr(pretraining(), k) for k in PRETRAIN_FIELDS})
    assert same(weights(learner.teacher), weights(plain.base))
    assert not any(part.training for part in learner.teacher.modules())
    start = next(iter(learner.base.parameters()))
    assert not torch.equal(start, next(iter(plain.base.parameters())))
    assert not torch.equal(start, next(iter(first.base.parameters())))
    again = distilled()
    assert isinstance(again, RFS)
    fit(again, TASKS.batches(8), pretrain=pretraining(), steps=1, lr=1e-30)
    assert same(weights(learner), weights(again))


PRETRAIN_FIELDS = ("optimizer", "lr", "momentum", "weight_decay", "schedule")


def test_batches_are_drawn_one_a_step_and_loss_falls() -> None:
    drawn, history = list[int](), History()
    batches = TASKS.batches(32)

    class Watched(type(batches)):  # type: ignore[misc]
        def __init__(self) -> None:
            self.__dict__ |= batches.__dict__

        def batch(self, step: int) -> Examples:
            drawn.append(step)
            return batches.batch(step)

    learner = seeded(lambda: Baseline(MLP(4, (32, 32)), classes=CLASSES))
    fit(learner, Watched(), steps=150, lr=0.03, callbacks=[history])
    assert drawn == list(range(150))
    losses = [step["loss"] for step in history.steps]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert {"loss", "accuracy", "grad_norm", "lr"} <= history.steps[0].keys()


def test_divergence_names_the_batch() -> None:
    learner = seeded(lambda: Baseline(MLP(4, (6,)), classes=CLASSES))
    with torch.no_grad():
        next(learner.parameters()).fill_(float("inf"))
    with pytest.raises(NonFiniteLoss, match=r"The loss of batch 0 became nan in step 1, though its inputs are finite"):
        fit(learner, TASKS.batches(8), steps=1)


def _batches() -> BatchSource:
    return TASKS.batches(8)


def _protonet() -> AbstractLearner:
    return ProtoNet(MLP(4))


def _baseline(classes: int | None = CLASSES) -> AbstractLearner:
    return Baseline(MLP(4), classes=classes)


ON_BATCHES = r"is trained on plain labelled batches"
REFUSED: dict[str, tuple[AbstractLearner, TaskSource | BatchSource, dict[str, Any], str]] = {
    "tasks": (_baseline(), TASKS, {}, rf"Baseline {ON_BATCHES}, not on tasks\. Give batches of the task source"),
    "batches": (_protonet(), _batches(), {}, r"ProtoNet is trained on tasks, not on plain .* Give the task source"),
    "pretrain": (
        _protonet(),
        TASKS,
        {"pretrain": pretraining()},
        r"ProtoNet is trained in one phase, on tasks\.",
    ),
    "pretrain-batches": (
        _baseline(),
        _batches(),
        {"pretrain": pretraining()},
        r"in one phase, on plain labelled",
    ),
    "once": (distilled(), _batches(), {}, r"RFS is trained twice on plain .* Say by pretrain how the first is done"),
    "no-steps": (meta_baseline(), TASKS, {"pretrain": pretraining(0)}, r"pretrain\.steps must be .* received 0"),
    "no-batches": (
        meta_baseline(),
        TASKS,
        {"pretrain": Pretraining(TASKS, 1)},  # type: ignore[arg-type]
        r"must be .* received ClassTasks",
    ),
    "per-step": (_baseline(), _batches(), {"tasks_per_step": 2}, rf"{ON_BATCHES}, which are not made of tasks: leave"),
    "momentum": (
        _protonet(),
        TASKS,
        {"momentum": 0.9},
        r"Momentum 0\.9 is an option of the optimiser 'sgd'; 'adam'",
    ),
    "optimiser": (
        _protonet(),
        TASKS,
        {"optimizer": "lion"},
        r"There is no optimiser called 'lion'\. Known: adam, ",
    ),
    "classes": (_baseline(None), _batches(), {}, r"the number of training classes is not known\. Pass classes="),
    "too-few": (_baseline(9), _batches(), {}, r"batches number 40 classes, but the learner was built for classes=9"),
}


@pytest.mark.parametrize(("learner", "given", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_so(
    learner: AbstractLearner, given: TaskSource | BatchSource, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        fit(learner, given, **({"steps": 1} | options))


def test_learners_of_tasks_have_no_batch_loss() -> None:
    with pytest.raises(InputError, match=r"MAML is not trained on plain labelled batches\. Train it on tasks: leave"):
        MAML(MLP(4), 3).batch_loss(TASKS.batches(4).batch(0))
