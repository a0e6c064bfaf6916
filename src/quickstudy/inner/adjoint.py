"""Floor 2: the same derivative as unrolling, with the activations of one step at a time.

Unrolling keeps every activation of every inner step until the backward pass. Here only the weights after each step
are kept. The backward pass goes through the steps from the last to the first; each is computed once more from its
weights, and the cotangent λ is handed on by one vector-Jacobian product:

    λ_k = λ_{k+1} · ∂φ_{k+1}/∂φ_k + (what the loss asks of φ_k itself)

It costs one more evaluation of each step. With the steps, memory grows by the adapted weights alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from quickstudy.errors import InputError
from quickstudy.inner.again import Surroundings
from quickstudy.inner.descent import Params, StepLosses, Update, explained, gradients, reads_more, trajectory


def adjoint(
    losses: StepLosses,
    start: Params,
    *,
    steps: int,
    update: Update,
    second_order: bool = True,
    reads: Sequence[Tensor] = (),
) -> list[Params]:
    """The weights before the first step and after each, like ``trajectory``, with the explicit adjoint behind them.

    Values and gradients equal ``trajectory``'s. Steps that draw random numbers (dropout) draw the same again. The
    weights after each step are kept, activations are not: memory for activations is that of one step.

    Args:
        losses: (step, weights ``[T, ...]``) -> loss ``[T]``; called again in the backward pass.
        start: name -> ``[T, ...]``.
        steps: how many, 0 or more.
        update: (step, weights, gradients) -> the next weights; called again in the backward pass.
        second_order: differentiate through the gradients too.
        reads: every other tensor that ``losses`` and ``update`` read and that is to have a gradient: learned rates,
            weights that are not adapted.

    Returns:
        ``steps + 1`` times name -> ``[T, ...]``.

    Raises:
        InputError: in the backward pass, if a step reads a tensor with a gradient that is not among ``reads``.

    >>> theta = {"w": torch.tensor([[2.0]], requires_grad=True)}
    >>> half = lambda step, p, g: {"w": p["w"] - 0.25 * g["w"]}
    >>> *_, phi = adjoint(lambda step, p: p["w"].square().sum(1), theta, steps=2, update=half)
    >>> torch.autograd.grad(phi["w"].sum(), theta["w"])[0].item()
    0.25
    """
    reads = [tensor for tensor in reads if tensor.requires_grad]
    if steps == 0 or not torch.is_grad_enabled() or not (reads or any(p.requires_grad for p in start.values())):
        return list(trajectory(losses, start, steps=steps, update=update, second_order=second_order))
    program = _Program(losses, update, list(start), steps, len(reads), second_order)
    flat = _Adjoint.apply(program, *start.values(), *reads)  # type: ignore[no-untyped-call]
    n = len(start)
    return [start, *(dict(zip(start, flat[n * step : n * (step + 1)], strict=True)) for step in range(steps))]


@dataclass(eq=False)
class _Program:
    """What the forward pass leaves for the backward pass, beside the weights."""

    losses: StepLosses
    update: Update
    names: list[str]
    steps: int
    n_reads: int
    second_order: bool
    around: list[Surroundings] = field(default_factory=list)

    def replay(self, step: int, before: Sequence[Tensor], reads: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """One step again, with a graph: its weights as leaves, and the weights after it."""
        leaves = [p.detach().requires_grad_() for p in before]

        def computed() -> Params:
            params = dict(zip(self.names, leaves, strict=True))
            grads = gradients(self.losses(step, params), params, create_graph=self.second_order)
            return self.update(step, params, grads)

        after = self.around[step].run(computed)
        outputs = [after[name] for name in self.names]
        strangers = reads_more(outputs, [*leaves, *reads])
        if strangers:
            raise InputError(
                f"The inner steps read a tensor of shape {list(strangers[0].shape)} that asks for a gradient but is "
                "not among reads, so it would get a wrong one. Pass it to adjoint(reads=...), or detach it."
            )
        return leaves, outputs


class _Adjoint(torch.autograd.Function):
    """(start, reads) -> the weights after each step."""

    @staticmethod
    def forward(ctx: Any, program: _Program, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.program = program
        ctx.set_materialize_grads(False)
        start = dict(zip(program.names, inputs[: len(program.names)], strict=True))
        run = trajectory(program.losses, start, steps=program.steps, update=program.update)
        next(run)
        outputs: list[Tensor] = []
        for _ in range(program.steps):
            program.around.append(Surroundings.now(inputs[0].device))
            outputs += [p.clone() for p in _in_order(next(run), program.names)]
        ctx.save_for_backward(*inputs, *outputs)
        return tuple(outputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        program: _Program = ctx.program
        n = len(program.names)
        saved = ctx.saved_tensors
        start, reads, after = saved[:n], saved[n : n + program.n_reads], saved[n + program.n_reads :]
        asked: list[Tensor | None] = [None] * n
        read: list[Tensor | None] = [None] * program.n_reads
        for step in reversed(range(program.steps)):
            asked = _sums(asked, cotangents[n * step : n * (step + 1)])
            before = start if step == 0 else after[n * (step - 1) : n * step]
            leaves, outputs = program.replay(step, before, reads)
            found = _product(outputs, [*leaves, *reads], asked)
            asked, read = found[:n], _sums(read, found[n:])
        return None, *asked, *read


def _product(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], cotangents: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The vector-Jacobian product of one step."""
    asked = [(out, v) for out, v in zip(outputs, cotangents, strict=True) if v is not None and out.requires_grad]
    if not asked:
        return [None] * len(inputs)
    try:
        return list(torch.autograd.grad([out for out, _ in asked], inputs, [v for _, v in asked], allow_unused=True))
    except RuntimeError as error:
        raise explained(error) from error


def _in_order(params: Params, names: Sequence[str]) -> list[Tensor]:
    return [params[name] for name in names]


def _sums(a: Sequence[Tensor | None], b: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [y if x is None else x if y is None else x + y for x, y in zip(a, b, strict=True)]
