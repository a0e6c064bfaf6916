"""The explicit adjoint against unrolling: values, gradients, and how much it keeps."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.errors import InputError
from quickstudy.inner import Params, adjoint, checkpointed, trajectory
from tests.smalltasks import assert_close, numbers

X, Y = numbers("x", 2, 7, 3), numbers("y", 2, 7, 1)


def forward(p: Params, shared: Tensor) -> Tensor:
    """``[T, N, 1]``: a hidden layer of each task's own, an output layer that all share."""
    return torch.tanh(X @ p["w"] + p["b"][:, None]) @ shared


def problem(shared: Tensor, rates: Tensor) -> tuple[Callable[..., Tensor], Callable[..., Params]]:
    def losses(step: int, p: Params) -> Tensor:
        return (forward(p, shared) - Y).square().mean((1, 2)) * (1 + 0.1 * step)

    def update(step: int, p: Params, g: Params) -> Params:
        return {name: p[name] - rates[step] * g[name] * (1 + p[name].square()) for name in p}

    return losses, update


def inputs(steps: int) -> list[Tensor]:
    made = [numbers("w", 2, 3, 4), numbers("b", 2, 4), numbers("shared", 4, 1), numbers("rates", max(steps, 1)).abs()]
    return [tensor.requires_grad_() for tensor in made]


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("every_step", [True, False])
def test_equals_unrolling(steps: int, second_order: bool, every_step: bool) -> None:
    """In the start, shared weights and learned rates; for a loss of the last weights and for one of all."""
    found = []
    for method in ("unrolled", "adjoint"):
        w, b, shared, rates = given = inputs(steps)
        learned = rates.exp() / 10  # not a leaf
        losses, update = problem(shared, learned)
        start = {"w": w, "b": b}
        if method == "unrolled":
            run = list(trajectory(losses, start, steps=steps, update=update, second_order=second_order))
        else:
            run = adjoint(losses, start, steps=steps, update=update, second_order=second_order, reads=[shared, learned])
        assert len(run) == steps + 1
        asked = run if every_step else run[-1:]
        loss = torch.stack([(forward(p, shared) * (k + 1)).sin().sum() for k, p in enumerate(asked)]).sum()
        grads = torch.autograd.grad(loss, given, allow_unused=True)
        found.append([loss.detach(), *(torch.zeros(()) if g is None else g for g in grads)])
    for a, b in zip(*found, strict=True):
        assert_close(a, b, 1e-12)
    assert steps == 0 or found[0][-1].abs().sum() > 1e-3


def test_the_gradient_is_that_of_finite_differences() -> None:
    def end(w: Tensor, b: Tensor, shared: Tensor, rates: Tensor) -> Tensor:
        losses, update = problem(shared, rates)
        *_, phi = adjoint(losses, {"w": w, "b": b}, steps=3, update=update, reads=[shared, rates])
        return torch.cat([phi["w"].flatten(), phi["b"].flatten()])

    assert torch.autograd.gradcheck(end, inputs(3))


class Box:
    """A saved tensor; gone when the graph that saved it is."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def bytes_of(boxes: weakref.WeakSet[Box]) -> int:
    """Bytes of distinct storages that are still held."""
    storages = {box.tensor.untyped_storage().data_ptr(): box.tensor.untyped_storage().nbytes() for box in boxes}
    return sum(storages.values())


def kept(method: str, steps: int) -> tuple[int, int]:
    """What a forward pass keeps, and the most at any time of the backward pass; 200 rows of 50 activations."""
    x, theta = numbers("rows", 1, 200, 2), numbers("theta", 1, 2, 50).requires_grad_()

    def losses(step: int, p: Params) -> Tensor:
        return torch.tanh(x @ p["w"]).square().mean((1, 2))

    def update(step: int, p: Params, g: Params) -> Params:
        return {"w": p["w"] - 0.1 * g["w"]}

    boxes: weakref.WeakSet[Box] = weakref.WeakSet()
    peak = 0

    def pack(tensor: Tensor) -> Box:
        nonlocal peak
        box = Box(tensor)
        boxes.add(box)
        peak = max(peak, bytes_of(boxes))
        return box

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.tensor):
        if method == "adjoint":
            *_, phi = adjoint(losses, {"w": theta}, steps=steps, update=update)
        else:
            run = checkpointed if method == "checkpointed" else trajectory
            *_, phi = run(losses, {"w": theta}, steps=steps, update=update)
        out = losses(steps, phi)
        gc.collect()
        held = peak = bytes_of(boxes)
        out.sum().backward()  # type: ignore[no-untyped-call]
    return held, peak


def test_memory_is_flat_in_the_number_of_steps() -> None:
    """The adjoint keeps 800 bytes of weights more a step, and one step's activations at a time; unrolling them all."""
    weights, activations = 2 * 50 * 8, 200 * 50 * 8
    for of in (0, 1):
        flat = {steps: kept("adjoint", steps)[of] for steps in (1, 5, 10)}
        unrolled = {steps: kept("unrolled", steps)[of] for steps in (1, 5, 10)}
        assert flat[5] - flat[1] <= 4 * weights and flat[10] - flat[5] <= 5 * weights
        assert unrolled[5] - unrolled[1] >= 4 * activations and unrolled[10] - unrolled[5] >= 5 * activations


def test_a_tensor_that_was_not_named_is_refused() -> None:
    w, b, shared, rates = inputs(2)
    losses, update = problem(shared, rates)
    *_, phi = adjoint(losses, {"w": w, "b": b}, steps=2, update=update, reads=[rates])
    with pytest.raises(InputError, match=r"read a tensor of shape \[4, 1\] that asks for a gradient but is not among"):
        phi["w"].sum().backward()  # type: ignore[no-untyped-call]


def test_dropout_draws_the_same_again() -> None:
    dropout, x = nn.Dropout(0.5), numbers("rows", 1, 20, 2)
    theta = numbers("theta", 1, 2, 3).requires_grad_()
    found = []
    for method in ("unrolled", "adjoint"):
        torch.manual_seed(5)

        def losses(step: int, p: Params) -> Tensor:
            return dropout(torch.tanh(x @ p["w"])).square().mean((1, 2))  # type: ignore[no-any-return]

        def update(step: int, p: Params, g: Params) -> Params:
            return {"w": p["w"] - g["w"]}

        run = adjoint if method == "adjoint" else trajectory
        *_, phi = run(losses, {"w": theta}, steps=3, update=update)
        before = torch.get_rng_state()
        found.append(torch.autograd.grad(phi["w"].sum(), theta)[0])
        assert torch.equal(before, torch.get_rng_state())
    assert_close(found[0], found[1], 1e-12)


def test_a_layer_without_second_derivative_is_explained() -> None:
    q = numbers("q", 1, 2, 4, 8)
    theta = numbers("theta", 1, 8).requires_grad_()

    def losses(step: int, p: Params) -> Tensor:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(q * p["w"], q, q).square().mean((1, 2, 3))

    *_, phi = adjoint(losses, {"w": theta}, steps=1, update=lambda step, p, g: {"w": p["w"] - g["w"]})
    with pytest.raises(InputError, match=r"Cannot take a second derivative through this network"):
        phi["w"].sum().backward()  # type: ignore[no-untyped-call]


def test_without_grad_mode_there_is_no_graph() -> None:
    w, b, shared, rates = inputs(2)
    losses, update = problem(shared, rates)
    with torch.no_grad():
        run = adjoint(losses, {"w": w, "b": b}, steps=2, update=update)
    assert len(run) == 3 and not run[-1]["w"].requires_grad


def test_the_steps_are_computed_again_in_the_precision_that_they_had() -> None:
    """Mixed precision around the forward pass alone, as usual: the gradient of unrolling, not that of float32 steps."""
    x, w = numbers("x", 1, 40, 8).float(), numbers("w", 1, 8, 8).float()
    found = {}
    for kind in ("unrolled", "adjoint", "float32"):
        theta = w.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=kind != "float32"):

            def losses(step: int, p: Params) -> Tensor:
                return torch.tanh(x @ p["w"]).float().square().mean((1, 2))

            def update(step: int, p: Params, g: Params) -> Params:
                return {"w": p["w"] - 0.5 * g["w"]}

            method = adjoint if kind == "adjoint" else trajectory
            *_, end = method(losses, {"w": theta}, steps=3, update=update)
        found[kind] = torch.autograd.grad(end["w"].square().sum(), theta)[0]
    assert torch.equal(found["adjoint"], found["unrolled"])
    assert not torch.equal(found["adjoint"], found["float32"])
