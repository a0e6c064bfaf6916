"""A step of plain descent on all weights at once against one weight after the other."""

import torch
from torch import Tensor

from quickstudy.inner import descend, plain_step


def points(asks: bool = True) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "a": torch.randn(2, 3, dtype=torch.float64, requires_grad=asks),
        "b": torch.randn(2, 1, 2, dtype=torch.float64, requires_grad=asks),
    }


def losses(params: dict[str, Tensor]) -> Tensor:
    return params["a"].pow(3).sum(1) * params["b"].square().sum((1, 2)) + params["a"].sin().prod(1)


def by_hand(start: dict[str, Tensor], steps: int, lr: float, second_order: bool) -> dict[str, Tensor]:
    params = start
    for _ in range(steps):
        grads = torch.autograd.grad(losses(params).sum(), tuple(params.values()), create_graph=second_order)
        params = {name: p - lr * g for (name, p), g in zip(params.items(), grads, strict=True)}
    return params


def test_descend_equals_steps_by_hand() -> None:
    for second_order in (True, False):
        found = []
        for run in (lambda s: descend(losses, s, steps=3, lr=0.1, second_order=second_order),  # noqa: B023
                    lambda s: by_hand(s, 3, 0.1, second_order)):  # noqa: B023  # fmt: skip
            start = points()
            end = run(start)  # type: ignore[no-untyped-call]
            first = torch.autograd.grad(losses(end).sum(), tuple(start.values()), create_graph=True)
            second = torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), tuple(start.values()))
            found.append([*end.values(), *first, *second])
        for mine, other in zip(*found, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def test_a_step_needs_no_gradient_of_constants() -> None:
    start = points()
    grads = {name: torch.ones_like(p) for name, p in start.items()}
    moved = plain_step(0.5)(0, start, grads)
    (back,) = torch.autograd.grad(moved["a"].sum(), start["a"])
    torch.testing.assert_close(back, torch.ones_like(back))
    assert not plain_step(0.5)(0, points(asks=False), grads)["a"].requires_grad


def test_a_step_inside_vmap_and_grad() -> None:
    start, grads = points(asks=False), {name: 2 * p for name, p in points(asks=False).items()}
    step = plain_step(0.5)
    each = torch.func.vmap(lambda p, g: step(0, p, g))(start, grads)
    torch.testing.assert_close(each["a"], torch.zeros(2, 3).double())
    slope = torch.func.grad(lambda p: step(0, p, grads)["b"].square().sum())(start)
    torch.testing.assert_close(slope["b"], 2 * (start["b"] - 0.5 * grads["b"]))
