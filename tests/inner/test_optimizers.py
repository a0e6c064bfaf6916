"""Differentiable optimisers against ``torch.optim``, and their derivatives against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from quickstudy import native
from quickstudy.episode import values_unread
from quickstudy.errors import InputError
from quickstudy.inner import (
    Adagrad,
    Adam,
    AdamW,
    InnerOptimizer,
    RMSprop,
    Sgd,
    make_optimizer,
    optimize,
    safe_sqrt,
    unroll,
)
from tests.smalltasks import assert_close, numbers

rate = st.floats(1e-3, 0.5)
fraction = st.floats(0.0, 0.99)
decay = st.sampled_from([0.0, 0.1])
eps = st.sampled_from([1e-8, 1e-3])


def sgd(draw: Any) -> tuple[InnerOptimizer, Callable[[list[Tensor]], torch.optim.Optimizer]]:
    momentum = draw(fraction)
    nesterov = momentum > 0 and draw(st.booleans())
    options = {
        "momentum": momentum,
        "nesterov": nesterov,
        "dampening": 0.0 if nesterov else draw(fraction),
        "weight_decay": draw(decay),
    }
    lr = draw(rate)
    return Sgd(lr, **options), lambda p: torch.optim.SGD(p, lr=lr, **options)


def adam(draw: Any) -> tuple[InnerOptimizer, Callable[[list[Tensor]], torch.optim.Optimizer]]:
    lr, beta1, beta2, e, w = draw(rate), draw(fraction), draw(fraction), draw(eps), draw(decay)
    if draw(st.booleans()):
        kind: Any = torch.optim.AdamW
        ours: InnerOptimizer = AdamW(lr, beta1, beta2, e, w)
    else:
        kind, ours = torch.optim.Adam, Adam(lr, beta1, beta2, e, w)
    return ours, lambda p: kind(p, lr=lr, betas=(beta1, beta2), eps=e, weight_decay=w)


def rmsprop(draw: Any) -> tuple[InnerOptimizer, Callable[[list[Tensor]], torch.optim.Optimizer]]:
    lr = draw(rate)
    options = {
        "alpha": draw(st.floats(0.1, 0.99)),
        "eps": draw(eps),
        "weight_decay": draw(decay),
        "momentum": draw(st.sampled_from([0.0, 0.9])),
        "centered": draw(st.booleans()),
    }
    return RMSprop(lr, **options), lambda p: torch.optim.RMSprop(p, lr=lr, **options)


def adagrad(draw: Any) -> tuple[InnerOptimizer, Callable[[list[Tensor]], torch.optim.Optimizer]]:
    lr = draw(rate)
    options = {
        "lr_decay": draw(decay),
        "weight_decay": draw(decay),
        "initial_accumulator_value": draw(st.sampled_from([0.0, 0.5])),
        "eps": draw(st.sampled_from([1e-10, 1e-3])),
    }
    return Adagrad(lr, **options), lambda p: torch.optim.Adagrad(p, lr=lr, **options)


@pytest.mark.parametrize("kind", [sgd, adam, rmsprop, adagrad], ids=lambda kind: kind.__name__)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_step_for_step_as_torch(kind: Any, data: st.DataObject) -> None:
    """Any options: the weights after each of 7 steps, for two tasks.

    Both are given the same gradients, whatever the weights, so that rounding has nothing to grow by.
    """
    ours, theirs = kind(data.draw)
    params = {"w": numbers("w", 2, 5), "b": numbers("b", 2, 2)}
    grads = [{name: numbers(f"{name} {step}", *p.shape) for name, p in params.items()} for step in range(7)]
    for step, given_ in enumerate(grads):
        given_["w"][:, 0] = 0  # exactly
        given_["w"][1] *= 10.0**-step
    torchs = [{name: p[t].clone().requires_grad_() for name, p in params.items()} for t in range(2)]
    optimisers = [theirs(list(one.values())) for one in torchs]
    state = ours.init(params)
    for given_ in grads:
        params, state = ours.update(params, given_, state)
        for t in range(2):
            for name, p in torchs[t].items():
                p.grad = given_[name][t].clone()
            optimisers[t].step()
            for name, p in torchs[t].items():
                assert_close(params[name][t], p.detach(), 1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_unroll_and_optimize_walk_as_torch(optimizer: str) -> None:
    """Seven steps on a loss, its gradients taken where each stands."""
    start, target = numbers("start", 2, 5), numbers("target", 2, 5)
    ours = make_optimizer(optimizer, 0.1)
    losses = [lambda p: (p["w"] - target).pow(4).sum(1)] * 7
    plain, _, history = optimize(losses, {"w": start}, ours)
    unrolled, _ = unroll(lambda step, p: losses[step](p), {"w": start}, ours, steps=7)
    with native.kernels("torch"):
        recorded, *_ = optimize(losses, {"w": start}, ours)
    assert torch.equal(recorded["w"], unrolled["w"].detach()) and history.shape == (7, 2)
    assert_close(plain["w"], recorded["w"], 1e-14)  # without a graph Adam is torch's fused one, which rounds otherwise
    kind: Any = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
        "adagrad": torch.optim.Adagrad,
    }[optimizer]
    for t in range(2):
        w = start[t].clone().requires_grad_()
        theirs = kind([w], lr=0.1)
        for _ in range(7):
            theirs.zero_grad()
            (w - target[t]).pow(4).sum().backward()  # type: ignore[no-untyped-call]
            theirs.step()
        assert_close(plain["w"][t], w.detach(), 1e-12)


fused = pytest.mark.parametrize("optimizer", [Adam(0.1, weight_decay=0.1), AdamW(0.1, 0.0)], ids=repr)


def steps_of(optimizer: Adam | AdamW, start: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights and state after three steps, by name."""
    params = start
    with torch.no_grad():
        for step in range(3):
            # Laid out from the last axis to the first: a convolution's gradients come in layouts of their own.
            drawn = {name: numbers(f"{name} {step}", *reversed(p.shape)) for name, p in start.items()}
            grads = {name: grad.permute(*reversed(range(grad.dim()))) for name, grad in drawn.items()}
            params, state = optimizer.update(params, grads, state)
    return params | state


@fused
def test_a_step_without_a_graph_writes_into_nothing_it_was_given(optimizer: Adam | AdamW) -> None:
    """Weights that share memory (θ, repeated for each task), gradients and weights in other layouts among them."""
    theta = numbers("theta", 3, 4)
    start = {"shared": theta.expand(2, 3, 4), "turned": numbers("turned", 2, 4, 3).transpose(1, 2)}
    state = optimizer.init(start)
    before = {name: value.clone() for name, value in (start | state).items()}
    found = steps_of(optimizer, start, state)
    assert all(torch.equal(value, before[name]) for name, value in (start | state).items())
    with native.kernels("torch"):
        expected = steps_of(optimizer, start, state)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.dtype == expected[name].dtype and not value.requires_grad
        assert_close(value, expected[name], 1e-14)


@fused
def test_tasks_that_took_different_numbers_of_steps(optimizer: Adam | AdamW) -> None:
    """Each goes on as it would alone, though the fused operator knows one number."""
    start = {"w": numbers("start", 2, 3)}
    fresh = optimizer.init(start)
    late = {name: value + 1 if value.dtype == torch.int64 else value + 0.5 for name, value in fresh.items()}
    mixed = {name: torch.cat([value[:1], late[name][1:]]) for name, value in fresh.items()}
    together = steps_of(optimizer, start, mixed)
    for t, state in enumerate((fresh, late)):
        with native.kernels("torch"):
            alone = steps_of(optimizer, start, state)
        for name, value in together.items():
            assert_close(value[t], alone[name][t], 1e-12)


def test_the_fused_operator_is_what_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the tests above compare operators with themselves; and not where C is not wanted, or someone records."""
    calls: list[Any] = []
    operator = torch._fused_adam_
    monkeypatch.setattr(torch, "_fused_adam_", lambda *given, **options: calls.append(operator(*given, **options)))
    start = {"w": numbers("start", 2, 3)}
    steps_of(Adam(0.1), start, Adam(0.1).init(start))
    assert len(calls) == 3
    with native.kernels("torch"):
        steps_of(Adam(0.1), start, Adam(0.1).init(start))
    steps_of(Adam(torch.tensor([0.1, 0.2])), start, Adam(0.1).init(start))
    with values_unread():
        steps_of(Adam(0.1), start, Adam(0.1).init(start))
    Adam(0.1).update(start, start, Adam(0.1).init(start))
    assert len(calls) == 3


ALL = [
    Sgd(0.1, momentum=0.9),
    Sgd(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    Adam(0.1),
    AdamW(0.1),
    RMSprop(0.1),
    RMSprop(0.1, centered=True, momentum=0.5),
    Adagrad(0.1),
]


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_finite_derivatives_at_zero_gradients(optimizer: InnerOptimizer) -> None:
    """The loss is flat in the first weight: its gradient is exactly 0 in every step; both derivatives are finite."""
    theta = torch.tensor([[0.0, 0.7]], dtype=torch.float64, requires_grad=True)
    end, _ = unroll(lambda step, p: (p["w"] ** 3).sum(1), {"w": theta}, optimizer, steps=4)
    (first,) = torch.autograd.grad(end["w"].sin().sum(), theta, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), theta)
    assert torch.isfinite(first).all() and torch.isfinite(second).all()
    assert first[0, 1] != 0 and second[0, 1] != 0


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_derivatives_in_start_and_rate(optimizer: Any) -> None:
    """First and second derivatives by central differences (gradcheck and gradgradcheck), one rate a task."""
    target = numbers("target", 2, 3)

    def end(theta: Tensor, lr: Tensor) -> Tensor:
        phi, _ = unroll(
            lambda step, p: (p["w"] - target).pow(4).sum(1), {"w": theta}, replace(optimizer, lr=lr), steps=3
        )
        return phi["w"]

    inputs = (numbers("theta", 2, 3).requires_grad_(), torch.tensor([0.05, 0.1], dtype=torch.float64).requires_grad_())
    assert torch.autograd.gradcheck(end, inputs, rtol=1e-5, atol=1e-6)
    assert torch.autograd.gradgradcheck(end, inputs, rtol=1e-4, atol=1e-5)


def test_first_order_unroll_holds_gradients_constant() -> None:
    theta = torch.tensor([[2.0]], dtype=torch.float64, requires_grad=True)
    lr = torch.tensor(0.25, dtype=torch.float64, requires_grad=True)
    phi, _ = unroll(lambda step, p: p["w"].square().sum(1), {"w": theta}, Sgd(lr), steps=2, second_order=False)
    grads = torch.autograd.grad(phi["w"].sum(), (theta, lr))
    assert [float(g) for g in grads] == [1.0, -(4.0 + 2.0)]  # the gradients 2w at w = 2 and w = 1


def test_an_unroll_goes_on_and_keeps_no_graph_without_grad() -> None:
    start = {"w": numbers("start", 2, 5).requires_grad_()}

    def losses(step: int, p: dict[str, Tensor]) -> Tensor:
        return p["w"].pow(4).sum(1)

    with torch.no_grad():
        whole, _ = unroll(losses, start, Adam(0.1), steps=5)
        half, memory = unroll(losses, start, Adam(0.1), steps=2)
        rest, _ = unroll(losses, half, Adam(0.1), steps=3, state=memory)
    assert torch.equal(whole["w"], rest["w"]) and not whole["w"].requires_grad
    assert unroll(losses, start, Adam(0.1), steps=0)[0] is start


def test_safe_sqrt() -> None:
    x = torch.tensor([0.0, 1e-310, 0.25, 9.0], dtype=torch.float64, requires_grad=True)
    root = safe_sqrt(x)
    assert torch.equal(root, x.detach().sqrt())
    (first,) = torch.autograd.grad(root.sum(), x, create_graph=True)
    assert first.tolist() == [0.0, 0.0, 1.0, 1 / 6]
    (second,) = torch.autograd.grad(first.sum(), x)
    assert_close(second, torch.tensor([0.0, 0.0, -2.0, -1 / 108], dtype=torch.float64))
    assert safe_sqrt(torch.tensor(-1.0)).isnan()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match=r"nesterov=True needs a momentum above 0 and dampening=0"):
        Sgd(0.1, nesterov=True)
    with pytest.raises(InputError, match=r"An optimiser's weight_decay must be a number of at least 0, received -1"):
        AdamW(0.1, weight_decay=-1)
    with pytest.raises(
        InputError, match=r"no inner optimiser called 'lion'. Known: adagrad, adam, adamw, rmsprop, sgd"
    ):
        make_optimizer("lion", 0.1)
    assert make_optimizer("adamw", 0.1, beta1=0.0) == AdamW(0.1, 0.0)
    assert make_optimizer("rmsprop", 0.1) == RMSprop(0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
def test_step_for_step_as_torch_in_low_precision(name: str, dtype: torch.dtype) -> None:
    """Within some roundings of each other, however many steps were taken; at the same distance from where it began."""
    ours = make_optimizer(name, 0.01)
    kind: Any = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}.get(name)
    kind = kind or {"rmsprop": torch.optim.RMSprop, "adagrad": torch.optim.Adagrad}[name]
    start = torch.zeros(2, 5, dtype=dtype)  # where small steps are not rounded away
    params, state = {"w": start}, ours.init({"w": start})
    theirs = start[0].clone().requires_grad_()
    optimiser = kind([theirs], lr=0.01)
    for step in range(12):
        grad = (1 + 0.5 * numbers(f"grad {step}", 1, 5)).to(dtype).expand(2, 5)
        params, state = ours.update(params, {"w": grad}, state)
        theirs.grad = grad[0].clone()
        optimiser.step()
        torch.testing.assert_close(params["w"][1], theirs.detach(), rtol=32 * torch.finfo(dtype).eps, atol=0)
        assert params["w"].dtype == dtype and (params["w"] != 0).all()


@pytest.mark.parametrize("optimizer", [Adam(0.01), AdamW(0.01)], ids=repr)
def test_a_first_step_of_adam_keeps_its_digits(optimizer: InnerOptimizer) -> None:
    """It is the rate, up to eps: the two corrections, of which one is 0.001, cancel."""
    start = {"w": torch.zeros(1, 3)}
    params, _ = optimizer.update(start, {"w": torch.tensor([[1.0, -2.0, 30.0]])}, optimizer.init(start))
    torch.testing.assert_close(params["w"], torch.tensor([[-0.01, 0.01, -0.01]]), rtol=5e-7, atol=0)


@pytest.mark.parametrize(
    ("attempt", "sentence"),
    [
        (lambda: Sgd(-1.0), r"An optimiser's lr must be a number of at least 0, received -1\.0"),
        (lambda: Sgd(float("nan")), r"lr must be a number of at least 0, received nan"),
        (lambda: Sgd(0.1, momentum=-0.5), r"momentum must be a number of at least 0, received -0\.5"),
        (lambda: Sgd(0.1, dampening=float("nan")), r"dampening must be a number, received nan"),
        (lambda: Adam(0.1, beta1=1.0), r"An optimiser's beta1 must be at least 0 and below 1, received 1\.0"),
        (lambda: AdamW(0.1, beta2=-0.1), r"beta2 must be at least 0 and below 1, received -0\.1"),
        (lambda: RMSprop(0.1, alpha=float("nan")), r"alpha must be at least 0 and below 1, received nan"),
        (lambda: RMSprop(-0.1), r"lr must be a number of at least 0, received -0\.1"),
        (lambda: Adagrad(0.1, lr_decay=-1.0), r"lr_decay must be a number of at least 0, received -1\.0"),
    ],
)
def test_options_out_of_range_are_refused(attempt: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        attempt()


@pytest.mark.parametrize(
    "optimizer", [Adam(0.1), AdamW(0.1), RMSprop(0.1), Adagrad(0.1)], ids=lambda o: type(o).__name__
)
def test_an_eps_that_half_precision_cannot_hold(optimizer: Adam | AdamW | RMSprop | Adagrad) -> None:
    """0 / (0 + eps) would be NaN; a larger eps, or bfloat16, does."""
    weights = {"w": torch.ones(1, 2), "half": torch.ones(1, 2, dtype=torch.float16)}
    name = type(optimizer).__name__
    with pytest.raises(InputError, match=rf"{name} cannot train weights of float16: its eps of 1e-\d+, .* bfloat16"):
        optimizer.init(weights)
    zeros = {name: torch.zeros_like(p) for name, p in weights.items()}
    enough = replace(optimizer, eps=1e-4)
    after, _ = enough.update(weights, zeros, enough.init(weights))
    assert all(bool(p.isfinite().all()) for p in after.values())
    coarse = {"w": torch.ones(1, 2, dtype=torch.bfloat16)}
    assert (
        optimizer.update(coarse, {"w": torch.zeros_like(coarse["w"])}, optimizer.init(coarse))[0]["w"].isfinite().all()
    )
    exact = {"w": torch.ones(1, 2)}
    replace(optimizer, eps=0.0).init(exact)  # as torch allows


def test_what_cannot_be_unrolled() -> None:
    start = {"w": torch.ones(1, 2)}
    with pytest.raises(InputError, match=r"Cannot take -1 steps\. Give 0 or more"):
        unroll(lambda step, p: p["w"].sum(1), start, Sgd(0.1), steps=-1)
    theirs = torch.optim.Adam([nn.Parameter(torch.ones(2))])
    with pytest.raises(
        InputError, match=r"torch\.optim\.Adam writes into .* Use the one of quickstudy\.inner, such as Adam"
    ):
        unroll(lambda step, p: p["w"].sum(1), start, theirs, steps=1)  # type: ignore[arg-type]
