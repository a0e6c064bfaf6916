"""Training in float16: scaled losses, those of the inner loop too; steps that overflow are computed again."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from quickstudy.data import Sinusoid
from quickstudy.errors import InputError, NonFiniteLoss
from quickstudy.inner import gradients
from quickstudy.inner.scaled import scaled
from quickstudy.learners import MAML
from quickstudy.train import Checkpointing, History, Interrupted, fit, load_checkpoint, stepping
from quickstudy.train.precision import LossScale, Precision
from tests.train.inturn import side_by_side, values
from tests.train.small import StopAfter, same, weights
from tests.train.test_precision import a_maml, run


def test_training_in_fp16_goes_where_float32_goes() -> None:
    plain, (found, losses) = run("float32", steps=7), run("fp16", steps=7)
    assert plain[1] != losses and losses == pytest.approx(plain[1], rel=0.01)
    for name, value in plain[0].items():
        assert found[name].dtype == torch.float32
        assert (found[name] - value).norm() <= 0.01 * value.norm() + 0.01


def test_inner_gradients_that_float16_has_no_room_for_are_there_all_the_same() -> None:
    """The loss of a task is so small that its gradients vanish in float16, unless it is scaled."""

    def gradient_of(scale: float, dtype: torch.dtype) -> Tensor:
        w = torch.full((1, 1), 1e-3, requires_grad=True)
        with torch.autocast("cpu", torch.float16, enabled=dtype == torch.float16), scaled(scale):
            out = torch.nn.functional.linear(torch.full((1, 1), 1e-5), w)
            return gradients((out.float() * 1e-3).sum()[None], {"w": w})["w"]

    exact = gradient_of(1.0, torch.float32)
    assert float(gradient_of(1.0, torch.float16)) == 0
    torch.testing.assert_close(gradient_of(2.0**16, torch.float16), exact, rtol=2e-3, atol=0.0)


def test_a_step_that_overflows_is_computed_again_and_a_run_goes_on_with_its_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of these tasks the eighth step's gradient has no room in float16 times 65,536, but times half as much."""

    def trained(folder: Path, *, stop: int | None = None, resume: bool = False) -> tuple[Any, History]:
        learner, history = a_maml(), History()
        callbacks: list[Any] = [history] if stop is None else [history, StopAfter(stop)]
        source = Sinusoid().tasks("train", shot=10, seed=0)
        options: dict[str, Any] = {"tasks_per_step": 4, "precision": "fp16", "callbacks": callbacks}
        fit(learner, source, steps=11, checkpoints=Checkpointing(folder, every=4), resume=resume, **options)
        return weights(learner), history

    whole, history = trained(tmp_path / "whole")
    lowered = {record["step"]: record["scale"] for record in history.steps if "scale" in record}
    assert lowered == {8: 2.0**15} and all(0 < record["loss"] < 10 for record in history.steps)
    with pytest.raises(Interrupted):
        trained(tmp_path / "parts", stop=9)
    assert load_checkpoint(tmp_path / "parts" / "last").state["loss_scale"] == [2.0**15, 2]
    again, _ = trained(tmp_path / "parts", resume=True)
    assert same(again, whole)
    before, after = (load_checkpoint(tmp_path / folder / "last") for folder in ("whole", "parts"))
    assert before.state["loss_scale"] == after.state["loss_scale"] == [2.0**15, 4]
    monkeypatch.setattr(stepping, "LossScale", partial(LossScale, 2.0**15))  # as if the scale had fitted all along
    fitting, quiet = trained(tmp_path / "fitting")
    assert same(fitting, whole) and not any("scale" in record for record in quiet.steps)


def test_a_training_that_diverges_ends_in_fp16_too() -> None:
    learner = a_maml()
    assert isinstance(learner, MAML)
    learner.loop.lr = 1e30
    before = weights(learner)
    with pytest.raises(NonFiniteLoss, match=r"The loss of task \d became (nan|inf) in step \d,"):
        run("fp16", learner=learner, steps=40)
    assert same(weights(learner), before)


def test_the_scale_is_doubled_after_two_thousand_steps_that_held() -> None:
    scale = LossScale(4.0)
    for _ in range(1999):
        scale.held()
    assert scale.value == 4.0
    scale.held()
    assert (scale.value, scale.good) == (8.0, 0)
    assert scale.lower() and (scale.value, scale.good) == (4.0, 0)
    assert LossScale(2.0).lower() and not LossScale(1.0).lower()


def test_fp16_is_not_traced() -> None:
    with pytest.raises(InputError, match=r"Cannot compute steps by compile = 'trace' in fp16, whose scale changes"):
        run("fp16", compile="trace")


def test_ranks_in_fp16() -> None:
    """The step that overflows on one rank is computed again on all."""
    whole = run_of_logs("fp16")
    divided = values(side_by_side(lambda ranks: run_of_logs("fp16", ranks=ranks), 2))
    for found, history in divided:
        for name, value in whole[0].items():
            torch.testing.assert_close(found[name], value, rtol=2e-3, atol=1e-4)
        if history.steps:
            assert [record.get("scale") for record in history.steps] == [
                record.get("scale") for record in whole[1].steps
            ]


def run_of_logs(precision: Precision, **options: Any) -> tuple[dict[str, Tensor], History]:
    learner, history = a_maml(), History()
    source = Sinusoid().tasks("train", shot=10, seed=0)
    fit(
        learner,
        source,
        steps=10,
        tasks_per_step=4,
        optimizer="sgd",
        precision=precision,
        callbacks=[history],
        **options,
    )
    return weights(learner), history
