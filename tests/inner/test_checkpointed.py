"""Activation checkpointing per inner step: values, derivatives of every order, randomness, and how much is kept."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quickstudy.doctor.memory import saved_bytes
from quickstudy.errors import InputError
from quickstudy.inner import Adam, Params, adjoint, checkpointed, trajectory, unroll
from quickstudy.inner.scaled import scaled
from tests.inner.test_adjoint import forward, inputs, kept, problem
from tests.smalltasks import assert_close, numbers


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("every_step", [True, False])
def test_equals_unrolling_bit_for_bit(steps: int, second_order: bool, every_step: bool) -> None:
    """In the start, shared weights and learned rates, none of which is named."""
    found = []
    for method in (trajectory, checkpointed):
        w, b, shared, rates = given = inputs(steps)
        losses, update = problem(shared, rates.exp() / 10)
        run = list(method(losses, {"w": w, "b": b}, steps=steps, update=update, second_order=second_order))
        assert len(run) == steps + 1
        asked = run if every_step else run[-1:]
        loss = torch.stack([(forward(p, shared) * (k + 1)).sin().sum() for k, p in enumerate(asked)]).sum()
        grads = torch.autograd.grad(loss, given, allow_unused=True)
        found.append([loss.detach(), *(torch.zeros(()) if g is None else g for g in grads)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert steps == 0 or found[0][-1].abs().sum() > 1e-3


def test_the_first_and_the_second_derivative_are_those_of_finite_differences() -> None:
    def end(w: Tensor, b: Tensor, shared: Tensor, rates: Tensor) -> Tensor:
        losses, update = problem(shared, rates)
        *_, phi = checkpointed(losses, {"w": w, "b": b}, steps=2, update=update)
        return torch.cat([phi["w"].flatten()[:3], phi["b"].flatten()[:2]])

    assert torch.autograd.gradcheck(end, inputs(2))
    assert torch.autograd.gradgradcheck(end, inputs(2))


def test_memory_is_flat_in_the_number_of_steps() -> None:
    """As the adjoint's: 800 bytes of weights more a step, and one step's activations at a time."""
    weights, activations = 2 * 50 * 8, 200 * 50 * 8
    for of in (0, 1):
        flat = {steps: kept("checkpointed", steps)[of] for steps in (1, 5, 10)}
        assert flat[5] - flat[1] <= 4 * weights and flat[10] - flat[5] <= 5 * weights
    assert kept("checkpointed", 10)[1] > activations  # of one step there are some


def counted(method: Callable[..., Iterable[Params]], calls: list[int], theta: Tensor) -> Tensor:
    def losses(step: int, p: Params) -> Tensor:
        calls.append(step)
        return torch.tanh(p["w"]).square().sum(1)

    def update(step: int, p: Params, g: Params) -> Params:
        return {"w": p["w"] - 0.1 * g["w"]}

    *_, phi = method(losses, {"w": theta}, steps=3, update=update)
    return phi["w"].square().sum()


def test_each_step_is_computed_twice_and_a_graph_that_is_kept_once_more() -> None:
    calls: list[int] = []
    theta = numbers("theta", 1, 4).requires_grad_()
    loss = counted(checkpointed, calls, theta)
    assert calls == [0, 1, 2]
    first = torch.autograd.grad(loss, theta, retain_graph=True)[0]
    assert calls == [0, 1, 2, 2, 1, 0]
    again = torch.autograd.grad(loss, theta, retain_graph=True)[0]
    assert torch.equal(first, again)
    unrolled = torch.autograd.grad(counted(trajectory, [], theta), theta)[0]
    assert torch.equal(first, unrolled)


def test_a_graph_that_nobody_differentiates_goes_without_the_collector() -> None:
    """Nothing that a step holds holds the step."""
    theta = numbers("theta", 1, 4).requires_grad_()
    held: list[weakref.ref[Any]] = []

    class Held:
        pass

    def losses(step: int, p: Params, held_by: Held) -> Tensor:
        return torch.tanh(p["w"]).square().sum(1)

    def run(*, backward: bool) -> None:
        mark = Held()
        held.append(weakref.ref(mark))
        update = lambda step, p, g: {"w": p["w"] - 0.1 * g["w"]}  # noqa: E731
        *_, phi = checkpointed(lambda step, p: losses(step, p, mark), {"w": theta}, steps=3, update=update)
        if backward:  # of a graph that is kept, so that the last step stays filled
            torch.autograd.grad(phi["w"].sum(), theta, retain_graph=True)

    gc.collect()
    gc.disable()
    try:
        run(backward=False)
        run(backward=True)
        assert [reference() for reference in held] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("method", [checkpointed, adjoint])
def test_dropout_draws_the_same_again(method: Callable[..., Iterable[Params]]) -> None:
    dropout, x = nn.Dropout(0.5), numbers("rows", 1, 20, 2)
    theta = numbers("theta", 1, 2, 3).requires_grad_()
    found = []
    for run in (trajectory, method):
        torch.manual_seed(5)

        def losses(step: int, p: Params) -> Tensor:
            return dropout(torch.tanh(x @ p["w"])).square().mean((1, 2))  # type: ignore[no-any-return]

        *_, phi = run(losses, {"w": theta}, steps=3, update=lambda step, p, g: {"w": p["w"] - g["w"]})
        torch.rand(7)  # the generators have gone on when the gradient is taken
        before = torch.get_rng_state()
        found.append(torch.autograd.grad(phi["w"].sum(), theta)[0])
        assert torch.equal(before, torch.get_rng_state())
    assert_close(found[0], found[1], 1e-12)


@pytest.mark.parametrize("method", [checkpointed, adjoint])
def test_steps_are_computed_again_in_short_numbers_and_with_the_scale_that_they_had(
    method: Callable[..., Iterable[Params]],
) -> None:
    """Around the forward pass alone, as in training; so small a loss has no gradient in float16 without its scale."""
    x, w = numbers("x", 1, 40, 8).float(), numbers("w", 1, 8, 8).float()
    found = []
    for run, scale in ((trajectory, 2.0**16), (method, 2.0**16), (trajectory, 1.0)):
        theta = w.clone().requires_grad_()
        with torch.autocast("cpu", torch.float16), scaled(scale):

            def losses(step: int, p: Params) -> Tensor:
                return torch.tanh(x @ p["w"]).float().square().mean((1, 2)) * 1e-6

            *_, end = run(losses, {"w": theta}, steps=2, update=lambda step, p, g: {"w": p["w"] - 5e5 * g["w"]})
        found.append(torch.autograd.grad(end["w"].square().sum(), theta)[0])
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2], rtol=1e-3)


def test_hooks_around_it_hear_what_is_kept() -> None:
    """Who counts, or moves to another device, what a graph saves."""
    theta = numbers("theta", 1, 4).requires_grad_()
    with saved_bytes() as count:
        loss = counted(checkpointed, [], theta)
        held = count.now
        grad = torch.autograd.grad(loss, theta)[0]
        assert 0 < held < count.peak
    assert torch.equal(grad, torch.autograd.grad(counted(trajectory, [], theta), theta)[0])


def test_with_an_optimiser_that_has_a_state() -> None:
    w, b, shared, rates = inputs(3)
    losses, _ = problem(shared, rates)
    found = []
    for checkpoint in (False, True):
        phi, memory = unroll(losses, {"w": w, "b": b}, Adam(0.1), steps=3, checkpoint=checkpoint)
        loss = phi["w"].sin().sum() + sum(m.sum() for m in memory.values())
        found.append(torch.autograd.grad(loss, (w, b, shared)))
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


def refused(losses: Callable[[int, Params], Tensor], theta: Tensor, match: str) -> None:
    *_, phi = checkpointed(losses, {"w": theta}, steps=1, update=lambda step, p, g: {"w": p["w"] - g["w"]})
    with pytest.raises(InputError, match=match):
        phi["w"].sum().backward()  # type: ignore[no-untyped-call]


def test_what_does_not_do_the_same_twice_is_refused() -> None:
    calls: list[int] = []

    def grows(step: int, p: Params) -> Tensor:
        calls.append(step)
        return torch.tanh(p["w"] * torch.ones(len(calls), 1, 4).double()).square().sum((0, 2))

    def longer(step: int, p: Params) -> Tensor:
        calls.append(step)
        w = p["w"]
        for _ in calls:
            w = torch.tanh(w)
        return w.square().sum(1)

    theta = numbers("theta", 1, 4).requires_grad_()
    refused(grows, theta, r"saved a tensor \[1, 1, 4\] of torch\.float64 at first, and in its place one \[2, 1, 4\]")
    calls.clear()
    refused(longer, theta, r"saved \d+ tensors at first and \d+ the second time: it does not do the same twice")


@pytest.mark.parametrize("which", ["start", "shared"])
def test_weights_that_were_written_to_before_the_gradient_are_refused(which: str) -> None:
    w, b, shared, rates = inputs(2)
    losses, update = problem(shared, rates)
    *_, phi = checkpointed(losses, {"w": w, "b": b}, steps=2, update=update)
    with torch.no_grad():
        (w if which == "start" else shared).add_(1.0)
    with pytest.raises(InputError, match=r"was written to after the step, before its derivative was taken"):
        phi["w"].sum().backward()  # type: ignore[no-untyped-call]


def test_without_grad_mode_there_is_no_graph() -> None:
    w, b, shared, rates = inputs(2)
    losses, update = problem(shared, rates)
    with torch.no_grad():
        run = list(checkpointed(losses, {"w": w, "b": b}, steps=2, update=update))
    assert len(run) == 3 and not run[-1]["w"].requires_grad
