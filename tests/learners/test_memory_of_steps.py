"""The switch ``memory`` of the learners that unroll: the adjoint, and checkpoints of each step, against unrolling."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.learners import learners
from quickstudy.learners.boil import BOIL
from quickstudy.learners.cavia import CAVIA
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.maml import MAML
from quickstudy.learners.mamlpp import MAMLPlusPlus
from quickstudy.learners.metacurvature import MetaCurvature
from quickstudy.learners.metasgd import MetaSGD
from quickstudy.learners.parts.headed import Part
from quickstudy.learners.parts.innerloop import Memory
from quickstudy.learners.protomaml import ProtoMAML
from quickstudy.learners.unicornmaml import UnicornMAML
from quickstudy.train.compiled import Compiled
from tests.learners.test_oracles_unrolled import A, B, Q, S, W, grads_of, made, same
from tests.smalltasks import WAY, Slope, mlp, quadratic, smooth_conv, tasks

OF_MANY_STEPS: dict[str, Callable[[Memory], AbstractLearner]] = {
    part: partial(lambda part, m: MAML(mlp("task"), WAY, inner_steps=3, inner_lr=0.2, part=part, memory=m), part)
    for part in get_args(Part)
} | {
    "first order": lambda m: MAML(mlp("task"), WAY, inner_steps=3, inner_lr=0.2, first_order=True, memory=m),
    "transductive": lambda m: MAML(mlp("transductive"), WAY, transductive=True, memory=m),
    "vmap": lambda m: MAML(mlp("task"), WAY, strategy="vmap", memory=m),
    "loop": lambda m: MAML(mlp("task"), WAY, strategy="loop", memory=m),
    "conv": lambda m: MAML(smooth_conv(), WAY, inner_steps=2, out_features=12, memory=m),
    "boil": lambda m: BOIL(mlp("task"), WAY, inner_steps=2, memory=m),
    "meta-sgd": lambda m: MetaSGD(mlp("task"), WAY, inner_steps=2, memory=m),
    "meta-curvature": lambda m: MetaCurvature(mlp("task"), head="shared", inner_steps=2, memory=m),
    "protomaml": lambda m: ProtoMAML(mlp("task"), inner_steps=2, memory=m),
    "unicorn-maml": lambda m: UnicornMAML(mlp("task"), first_order=False, memory=m),
    "maml++": lambda m: MAMLPlusPlus(mlp("task"), WAY, inner_steps=3, multi_step_until=100, memory=m),
    "maml++ of both orders": lambda m: MAMLPlusPlus(mlp("task"), WAY, inner_steps=2, first_order_until=2, memory=m),
    "cavia": lambda m: CAVIA(mlp("task"), WAY, inner_steps=2, memory=m),
}


@pytest.mark.parametrize("name", OF_MANY_STEPS)
def test_what_is_computed_once_more_gives_the_gradient_of_unrolling(name: str) -> None:
    """Of what is adapted, what is only read, and learned rates; by checkpoints to the last bit."""
    unrolled, checkpointed, by_adjoint = (
        grads_of(made(partial(OF_MANY_STEPS[name], memory)), tasks()) for memory in get_args(Memory)
    )
    same(unrolled, checkpointed, 0.0)
    same(unrolled, by_adjoint)
    assert len(unrolled) > 6 and sum(float(grad.abs().sum()) for grad in unrolled.values()) > 1e-3


def test_every_learner_that_unrolls_is_among_them() -> None:
    """ANIL's steps keep next to nothing, and first-order learners nothing, that could be computed again."""
    named = {name for name in learners.names() if "memory" in signature(learners.get(name)).parameters}
    assert named == {"maml"} | {name for name in OF_MANY_STEPS if name in learners.names()}


@pytest.mark.parametrize("memory", get_args(Memory))
def test_what_layers_write_in_training_is_written_once(memory: Memory) -> None:
    """A layer of others that counts its calls in a buffer, and reads it: steps computed again leave no trace."""

    class Counting(nn.Module):
        out_features = 6
        calls: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 6)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return torch.tanh(self.linear(x) * (1 + 0.1 * self.calls))

    learners = [made(lambda m=m: MAML(Counting(), WAY, inner_steps=3, memory=m)).train() for m in ("unrolled", memory)]
    found = [grads_of(learner, tasks()) for learner in learners]
    same(found[0], found[1])
    assert [float(dict(learner.named_buffers())["model.net.calls"]) for learner in learners] == [0.0, 0.0]


@pytest.mark.parametrize("memory", ["checkpointed", "adjoint"])
def test_on_a_quadratic(memory: Memory) -> None:
    learner = MAML(Slope(W), 1, "real", inner_steps=4, inner_lr=0.3, head="none", memory=memory)
    shrink = (1 - 0.3 * A) ** 4
    grad = grads_of(learner, quadratic(A, S, B, Q))["model.net.w"]
    assert float(grad) == pytest.approx(B * (S + shrink * (W - S) - Q) * shrink)


@pytest.mark.parametrize("memory", ["checkpointed", "adjoint"])
def test_a_trace_holds_steps_that_are_computed_twice_and_refuses_those_that_draw(memory: Memory) -> None:
    """What is read and not adapted is handed to a trace in both passes; what is drawn would not be the same."""
    learner = made(lambda: MAML(mlp("task"), WAY, inner_steps=2, part="biases", memory=memory)).train()
    plain = grads_of(learner, tasks())
    learner.zero_grad()
    out, backward = Compiled(learner, "trace")(tasks(), of=1)
    backward()
    found = {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}
    same(plain, found | {"loss": out.loss.sum()})
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5))
    draws = made(lambda: MAML(net, WAY, inner_steps=2, out_features=8, memory=memory)).train()
    with pytest.raises(
        InputError, match=r"Cannot compile inner steps that draw random numbers \(dropout\) and are comp"
    ):
        Compiled(draws, "trace")(tasks(), of=1)
