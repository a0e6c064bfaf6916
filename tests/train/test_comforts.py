"""Clipping, averages of weights, early ends and torch's schedules: right, and exact where a run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from typing_extensions import override

from quickstudy.errors import InputError, UnknownName
from quickstudy.learners import AbstractLearner
from quickstudy.train import (
    Average,
    Checkpointing,
    History,
    Interrupted,
    JsonLines,
    Silent,
    StepEvent,
    Trained,
    Validation,
    constant,
    cosine,
    fit,
    load_checkpoint,
    of_torch,
    warmed,
)
from tests.table import ROWS, make
from tests.train.small import Small, StopAfter, metrics, same, weights

ROW = {row.name: row for row in ROWS}


class Weights(Silent):
    """Keeps the weights after each step: those that the optimiser moves."""

    def __init__(self, learner: nn.Module) -> None:
        self.learner, self.after = learner, list[dict[str, Tensor]]()

    @override
    def step(self, event: StepEvent) -> None:
        self.after.append(weights(self.learner))


AVERAGES = [Average("ema", decay=0.6), Average("swa", start=0.3, every=2)]


@pytest.mark.parametrize("average", AVERAGES, ids=lambda average: average.name)
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_with_an_average_a_run_that_goes_on_equals_one_never_stopped(
    average: Average, stop: int, tmp_path: Path
) -> None:
    def run(folder: Path, stop: int | None = None, resume: bool = False) -> dict[str, Tensor]:
        learner = make(ROW["protonet-batchnorm"])
        lines = JsonLines(folder / "metrics.jsonl", resumed_at=stop or 0 if resume else 0)
        fit(
            learner,
            Small(),
            steps=8,
            tasks_per_step=2,
            lr=0.05,
            average=average,
            clip_norm=0.5,
            validate=lambda learner: Validation("accuracy", float(next(learner.parameters()).detach().sum()), 0.1),
            validate_every=2,
            callbacks=[lines] if stop is None or resume else [lines, StopAfter(stop)],
            checkpoints=Checkpointing(folder, every=3),
            resume=resume,
        )
        return weights(learner)

    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", stop=stop)
    assert same(run(tmp_path / "parts", stop=stop, resume=True), whole)
    assert metrics(tmp_path / "parts" / "metrics.jsonl") == metrics(tmp_path / "whole" / "metrics.jsonl")
    parts = (load_checkpoint(tmp_path / folder / "last") for folder in ("whole", "parts"))
    one, other = ((found.learner, found.moved, found.optimizer) for found in parts)
    assert all(same(a, b) for a, b in zip(one, other, strict=True))
    assert same(one[0], whole) and not same(one[0], one[1])


def test_the_plain_mean_is_that_of_torchs_averaged_model() -> None:
    learner = make(ROW["maml"])
    seen = Weights(learner)
    reference = AveragedModel(make(ROW["maml"]), use_buffers=True)
    fit(learner, Small(), steps=10, lr=0.05, average=Average("swa", start=0.5, every=2), callbacks=[seen])
    other = make(ROW["maml"])
    for step in (6, 8, 10):
        other.load_state_dict(seen.after[step - 1])
        reference.update_parameters(other)
    for name, value in reference.module.state_dict().items():
        torch.testing.assert_close(weights(learner)[name], value)
    assert not same(weights(learner), seen.after[-1])


def test_the_moving_average_is_the_sum_that_its_formula_says() -> None:
    learner = make(ROW["maml"])
    seen = Weights(learner)
    fit(learner, Small(), steps=30, lr=0.05, average=Average("ema", decay=0.7), callbacks=[seen])
    expected: dict[str, Tensor] = {}
    for n, now in enumerate(seen.after):
        kept = min(0.7, (1 + n) / (10 + n)) if n else 0.0
        expected = {name: kept * expected.get(name, value) + (1 - kept) * value for name, value in now.items()}
    for name, value in expected.items():
        torch.testing.assert_close(weights(learner)[name], value, rtol=1e-10, atol=1e-12)


def test_an_average_is_what_is_validated_and_training_goes_on_from_the_weights_themselves() -> None:
    def trained(average: Average | None) -> tuple[Weights, list[dict[str, Tensor]]]:
        learner, measured = make(ROW["protonet-batchnorm"]), list[dict[str, Tensor]]()

        def validate(found: AbstractLearner) -> Validation:
            measured.append(weights(found))
            return Validation("accuracy", 0.5, 0.0)

        seen = Weights(learner)
        options: dict[str, Any] = {"validate": validate, "validate_every": 2, "callbacks": [seen]}
        fit(learner, Small(), steps=6, lr=0.05, average=average, **options)
        return seen, measured

    plain, measured_plain = trained(None)
    averaged, measured = trained(Average("ema", decay=0.9))
    assert all(map(same, plain.after, averaged.after))
    assert same(measured_plain[-1], plain.after[-1]) and not same(measured[-1], averaged.after[-1])


def test_a_long_gradient_is_shortened_and_a_short_one_left_alone() -> None:
    def moved(clip: float | None) -> tuple[Tensor, float]:
        learner, history = make(ROW["maml"]), History()
        before = torch.cat([p.detach().reshape(-1).clone() for p in learner.parameters()])
        fit(learner, Small(), steps=1, optimizer="sgd", lr=1.0, clip_norm=clip, callbacks=[history])
        after = torch.cat([p.detach().reshape(-1) for p in learner.parameters()])
        return before - after, history.steps[0]["grad_norm"]

    free, norm = moved(None)
    assert float(free.norm()) == pytest.approx(norm)
    cut, said = moved(norm / 4)
    assert said == norm  # what is logged is what it was
    torch.testing.assert_close(cut, free / 4, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(moved(norm * 4)[0], free)


def scripted(values: list[float], folder: Path, *, patience: int | None, resume: bool = False) -> Trained:
    """A run whose validations, after steps 2, 4 ..., find these values."""
    at = {2 * (number + 1): value for number, value in enumerate(values)}
    steps = [0]

    class Counts(Silent):
        @override
        def step(self, event: StepEvent) -> None:
            steps[0] = event.step

    return fit(
        make(ROW["maml"]),
        Small(),
        steps=2 * len(values),
        validate=lambda _: Validation("accuracy", at[steps[0]], 0.0),
        validate_every=2,
        patience=patience,
        callbacks=[Counts()],
        checkpoints=Checkpointing(folder, every=3),
        resume=resume,
    )


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([0.5, 0.6, 0.4, 0.6, 0.7, 0.1], 8),  # the best at 4; 6 and 8 bring nothing better
        ([0.5, 0.4, 0.6, 0.5, 0.7, 0.1], 12),  # never twice in a row but at the end
        ([0.5, 0.4, 0.3, 0.9, 0.9, 0.9], 6),
        ([float("nan")] * 6, 4),
    ],
)
def test_patience_counts_validations_without_a_better_one(values: list[float], ends: int, tmp_path: Path) -> None:
    assert scripted(values, tmp_path, patience=2).step == ends
    state = json.loads((tmp_path / "last" / "state.json").read_text())
    assert (state["step"], state["ended"]) == (ends, True)
    again = scripted(values, tmp_path, patience=2, resume=True)  # it has ended, and stays so
    assert again.step == ends
    assert scripted(values, tmp_path / "whole", patience=None).step == 12


def test_what_makes_no_sense_is_refused() -> None:
    learner = make(ROW["maml"])
    with pytest.raises(InputError, match=r"Training cannot end early after 3 validations: there are none"):
        fit(learner, Small(), steps=2, patience=3)
    with pytest.raises(InputError, match=r"patience must be a whole number of at least 1, received 0"):
        fit(learner, Small(), steps=2, patience=0)
    with pytest.raises(InputError, match=r"clip_norm must be a number above 0, received -1"):
        fit(learner, Small(), steps=2, clip_norm=-1)
    with pytest.raises(InputError, match=r"There is no average called 'mean'. Use 'ema' or 'swa'"):
        Average("mean")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"needs 0 <= decay < 1, .* received decay = 1.0"):
        Average("ema", decay=1.0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("OneCycleLR", {"max_lr": 0.3}),
        ("CosineAnnealingWarmRestarts", {"T_0": 4}),
        ("MultiStepLR", {"milestones": [3, 6], "gamma": 0.5}),
        ("PolynomialLR", {"total_iters": 8, "power": 2.0}),
    ],
)
def test_schedules_of_torch_are_those_of_torch(name: str, options: dict[str, Any]) -> None:
    history = History()
    fit(make(ROW["maml"]), Small(), steps=10, lr=0.1, schedule=of_torch(name, options, 0.1), callbacks=[history])
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    extra = {"total_steps": 10, "cycle_momentum": False} if name == "OneCycleLR" else {}
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, **options, **extra)
    for step in history.steps:
        assert step["lr"] == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def test_schedules_of_torch_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"no scheduler .* called 'OneCycle'. Did you mean 'OneCycleLR'"):
        of_torch("OneCycle", {}, 0.1)
    with pytest.raises(
        UnknownName, match=r"no scheduler .* that goes by the step alone called 'ReduceLROnPlateau'"
    ) as caught:
        of_torch("ReduceLROnPlateau", {}, 0.1)
    assert "_LRScheduler" not in str(caught.value)
    with pytest.raises(InputError, match=r"torch's scheduler StepLR cannot be used with \{'step': 3\}: .*'step'"):
        of_torch("StepLR", {"step": 3}, 0.1)
    with pytest.raises(InputError, match=r"leave cycle_momentum of OneCycleLR out"):
        of_torch("OneCycleLR", {"max_lr": 1.0, "cycle_momentum": True}, 0.1)


def test_warmup_rises_in_a_line_and_then_the_schedule_has_the_steps_that_are_left() -> None:
    rate = warmed(cosine(), 4)
    assert [rate(step, 12) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert [rate(step, 12) for step in range(4, 12)] == [cosine()(step, 8) for step in range(8)]
    assert warmed(constant(), 2)(5, 10) == 1.0


# --- memory that does not suffice ---------------------------------------------------------------


def short_of_memory(learner: AbstractLearner, room: int, error: type[BaseException] = torch.OutOfMemoryError) -> None:
    """Only so many tasks can be computed together."""
    real = learner.meta_loss

    def meta_loss(episode: Any, *, key: Any = None) -> Any:
        if episode.n_task > room:
            raise error("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return real(episode, key=key)

    learner.meta_loss = meta_loss  # type: ignore[method-assign]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_where_memory_is_short_half_as_many_tasks_are_computed_and_a_run_goes_on_so(
    error: type[BaseException], tmp_path: Path
) -> None:
    def run(folder: Path, room: int | None, at_once: int | None, **more: Any) -> tuple[dict[str, Tensor], History]:
        learner, history = make(ROW["protonet-batchnorm"]), History()
        if room is not None:
            short_of_memory(learner, room, error)
        options: dict[str, Any] = {"tasks_per_step": 7, "tasks_at_once": at_once, "lr": 0.05, "callbacks": [history]}
        fit(learner, Small(), steps=4, checkpoints=Checkpointing(folder, every=2), **(options | more))
        return weights(learner), history

    found, history = run(tmp_path / "short", 2, None)
    assert [step["tasks_at_once"] for step in history.steps] == [2.0] * 4  # 7, 4, 2
    portions, quiet = run(tmp_path / "two", None, 2)
    assert same(found, portions) and "tasks_at_once" not in quiet.steps[0]
    assert load_checkpoint(tmp_path / "short" / "last").state["tasks_at_once"] == 2
    whole, _ = run(tmp_path / "whole", None, None)
    for name, value in whole.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", 2, None, callbacks=[StopAfter(3)])
    again, _ = run(tmp_path / "parts", None, None, resume=True)  # on a larger machine, as it began
    assert same(again, found)


def test_another_number_of_tasks_at_once_that_is_accepted_is_taken(tmp_path: Path) -> None:
    """Not the one to which it was halved while more were asked for."""
    history = History()
    for steps, room, at_once in ((2, 2, None), (3, 7, 1)):
        learner = make(ROW["protonet-batchnorm"])
        short_of_memory(learner, room)
        checkpoints = Checkpointing(tmp_path, every=1, accept_changes=True)
        options: dict[str, Any] = {"tasks_per_step": 7, "tasks_at_once": at_once, "callbacks": [history]}
        fit(learner, Small(), steps=steps, checkpoints=checkpoints, resume=True, **options)
    assert [step.get("tasks_at_once") for step in history.steps] == [2.0, 2.0, None]


@pytest.mark.parametrize(
    "words",
    [
        "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
        "to allocate 80000000000 bytes. Error code 12 (Cannot allocate memory)",
        "[enforce fail at alloc_cpu.cpp:80] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.",
    ],
)
def test_memory_that_runs_out_in_the_backward_pass_is_met_in_the_same_way(words: str) -> None:
    """In the words of torch's allocators on a CPU; what the failed attempt had added to gradients is gone."""
    found = []
    for short in (True, False):
        learner, history = make(ROW["maml-tasknorm"]), History()
        if short:
            fails_backward(learner, room=2, words=words)
        options: dict[str, Any] = {"tasks_per_step": 6, "tasks_at_once": None if short else 2, "callbacks": [history]}
        fit(learner, Small(), steps=2, lr=0.05, **options)
        assert history.steps[-1].get("tasks_at_once") == (2.0 if short else None)  # 6, 3, 2
        found.append(weights(learner))
    assert same(*found)


def fails_backward(learner: AbstractLearner, room: int, words: str) -> None:
    """The gradient of more tasks than there is room for cannot be computed."""
    real = learner.meta_loss

    def no_room(gradient: Tensor) -> None:
        raise RuntimeError(words)

    def meta_loss(episode: Any, *, key: Any = None) -> Any:
        out = real(episode, key=key)
        if episode.n_task > room:
            out.loss.register_hook(no_room)  # type: ignore[no-untyped-call]
        return out

    learner.meta_loss = meta_loss  # type: ignore[method-assign]


def test_a_task_that_alone_has_no_room_ends_the_run_with_the_weights_before() -> None:
    learner = make(ROW["protonet-batchnorm"])
    before = weights(learner)
    short_of_memory(learner, 0)
    with pytest.raises(torch.OutOfMemoryError, match=r"out of memory"):
        fit(learner, Small(), steps=2, tasks_per_step=4)
    assert same(weights(learner), before)
