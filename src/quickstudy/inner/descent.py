"""Floor 2: differentiable gradient descent on a loss per task.

The losses of T tasks are summed and differentiated once. As nothing couples the tasks, the derivative of the
sum with respect to one task's weights is that task's own gradient.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from quickstudy.errors import InputError
from quickstudy.inner.scaled import inner_scale
from quickstudy.nets.apply import Params as Params
from quickstudy.nets.secondorder import misses_first_derivative, misses_second_derivative, once_differentiable_names

TaskLosses: TypeAlias = Callable[[Params], Tensor]
StepLosses: TypeAlias = Callable[[int, Params], Tensor]
"""(number of the step, weights ``[T, ...]``) -> loss ``[T]``."""
Update: TypeAlias = Callable[[int, Params, Params], Params]
"""(number of the step, weights, gradients) -> weights after the step; all ``[T, ...]`` by name."""


def gradients(
    losses: Tensor, params: Params, *, create_graph: bool = False, guard: bool = True, times: float = 1.0
) -> Params:
    """Each task's gradient of its own loss.

    Args:
        losses: ``[T]``.
        params: name -> ``[T, ...]``.
        create_graph: keep what is needed to differentiate the gradient itself (second order).
        guard: with ``create_graph``, look through the graph for functions that their authors allow to be differentiated
            once only: torch would leave their part out of the second derivative without a word, and so it complains.
        times: what to multiply the gradients with; the losses are, so that it costs no operator.

    Returns:
        Name -> ``[T, ...]``.

    Raises:
        InputError: a parameter plays no part in the loss, or a layer has no derivative.
    """
    once = once_differentiable_names(losses, list(params.values())) if create_graph and guard else []
    scale = inner_scale()
    try:
        each = torch.full_like(losses, times * scale)  # of the sum, without the operators of a sum
        found = torch.autograd.grad(losses, tuple(params.values()), each, create_graph=create_graph, allow_unused=True)
    except RuntimeError as error:
        raise explained(error) from error
    missing = [name for name, grad in zip(params, found, strict=True) if grad is None]
    if missing:
        raise InputError(
            f"Cannot adapt {', '.join(map(repr, missing))}: the support loss does not depend on it, so it has no "
            "gradient. Use the parameter in the network's output, or freeze it with requires_grad_(False)."
        )
    grads = [grad if scale == 1 else grad * (1 / scale) for grad in found if grad is not None]
    if once:
        grads = list(_Refuses.apply(once[0], len(grads), *grads, *params.values()))  # type: ignore[no-untyped-call]
    return dict(zip(params, grads, strict=True))


class _Refuses(torch.autograd.Function):
    """Gradients as they are, whose derivative is an error.

    The weights are inputs too: the way back through the gradients may be cut, and nobody would pass here.
    """

    @staticmethod
    def forward(ctx: Any, name: str, n_grad: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.name = name
        return tuple(grad.view_as(grad) for grad in tensors[:n_grad])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        raise RuntimeError(f"trying to differentiate twice the function {ctx.name}, marked with @once_differentiable")


def check_mode() -> None:
    """Adapting takes gradients, which inference mode forbids.

    Raises:
        InputError: called under ``torch.inference_mode()``.
    """
    if torch.is_inference_mode_enabled():
        raise InputError(
            "Cannot adapt under torch.inference_mode(), which forbids the gradients that adapting takes. "
            "Use torch.no_grad() instead."
        )


def explained(error: RuntimeError, blame: Callable[[], str | None] | None = None) -> Exception:
    """Torch's complaint about a missing derivative as an :class:`InputError`; any other error as it is.

    Torch notices a missing second derivative when it is taken, which is in the outer loop's backward pass, and names
    no layer.

    Args:
        error: what torch raised.
        blame: finds the layer, such as ``model.net.encoder (LSTM)``; called only for a missing derivative.
    """
    text = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    first = misses_first_derivative(error)
    if not first and not misses_second_derivative(error):
        return error
    layer = None if blame is None else blame()
    where = "this network" if layer is None else f"the layer {layer}"
    if first:
        return InputError(
            f"Cannot take a derivative through {where}: {text}. Use another layer in its place; first_order=True needs "
            "that derivative too."
        )
    return InputError(
        f"Cannot take a second derivative through {where}: {text}. Use first_order=True where the learner has it, or "
        "replace that layer (fused attention has a plain form: torch.nn.attention.sdpa_kernel(SDPBackend.MATH), or in "
        "transformers attn_implementation='eager'; recurrent layers have one with "
        "torch.backends.cudnn.flags(enabled=False))."
    )


def reads_more(outputs: Sequence[Tensor], known: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that gradients of ``outputs`` would flow into, ``known`` ones and what lies behind them aside.

    Args:
        outputs: tensors with a graph.
        known: tensors in that graph, where the walk back ends.

    Returns:
        Leaves of the graph, each once.
    """
    ends = {id(tensor) for tensor in known}
    seen = {tensor.grad_fn for tensor in known if tensor.grad_fn is not None}
    found = {}
    waiting = [tensor.grad_fn for tensor in outputs]
    while waiting:
        node = waiting.pop()
        # Torch's sign for "not twice", with leaves of its own making; who differentiates through it is told otherwise.
        if node is None or node in seen or type(node).__name__ == "Error":
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in ends:
            found[id(leaf)] = leaf
        waiting += [before for before, _ in node.next_functions]
    return list(found.values())


@dataclass(frozen=True)
class PlainStep:
    """Gradient descent, ``p <- p - lr * dloss/dp``, an :data:`Update`.

    Args:
        lr: the rate.
    """

    lr: float

    def __call__(self, step: int, params: Params, grads: Params) -> Params:
        """Weights after the step."""
        del step
        return _moved(params, {name: grad * -self.lr for name, grad in grads.items()})


def plain_step(lr: float) -> Update:
    """Gradient descent: ``p <- p - lr * dloss/dp``."""
    return PlainStep(lr)


def _moved(params: Params, by: Params) -> Params:
    """``p + by`` of many weights at once."""
    points, along = [*params.values()], [by[name] for name in params]
    found: Sequence[Tensor]
    if torch._C._are_functorch_transforms_active():  # they know neither lists of tensors nor functions with a context
        found = [p + g for p, g in zip(points, along, strict=True)]
    elif torch.is_grad_enabled():
        found = _Moved.apply(*points, *along)  # type: ignore[no-untyped-call]
    else:
        found = torch._foreach_add(points, along)
    return dict(zip(params, found, strict=True))


class _Moved(torch.autograd.Function):
    """(points, along) -> points + along: one node of the graph for all weights."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        half = len(tensors) // 2
        ctx.asked = any(ctx.needs_input_grad[half:])  # in first-order methods the way through the gradients is cut
        return tuple(torch._foreach_add(tensors[:half], tensors[half:]))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        return *cotangents, *(cotangents if ctx.asked else [None] * len(cotangents))


def descend(losses: TaskLosses, start: Params, *, steps: int, lr: float, second_order: bool = True) -> Params:
    """``steps`` steps of gradient descent, ``p <- p - lr * dloss/dp``, for each task.

    Args:
        losses: weights ``[T, ...]`` -> loss ``[T]``.
        start: name -> ``[T, ...]``.
        steps: how many, 0 or more.
        lr: the inner learning rate.
        second_order: differentiate through the gradients too; see :func:`trajectory`.

    Returns:
        Name -> ``[T, ...]``.
    """
    path = trajectory(
        lambda step, params: losses(params), start, steps=steps, update=plain_step(lr), second_order=second_order
    )
    (end,) = deque(path, maxlen=1)  # without a graph, no earlier weights need be kept
    return end


def trajectory(
    losses: StepLosses, start: Params, *, steps: int, update: Update, second_order: bool = True
) -> Iterator[Params]:
    """The weights of each task before the first step, and after each.

    Where the caller records gradients, they are a differentiable function of ``start``: exactly with
    ``second_order``, else with each step's gradient held constant (what else ``update`` reads, such as a learned
    rate, is differentiated in either case). Where the caller does not (``no_grad``), no graph outlives a step.

    Args:
        losses: (step, weights ``[T, ...]``) -> loss ``[T]``.
        start: name -> ``[T, ...]``.
        steps: how many, 0 or more.
        update: (step, weights, gradients) -> the next weights.
        second_order: differentiate through the gradients too.

    Yields:
        Name -> ``[T, ...]``, ``steps + 1`` times.
    """
    check_mode()
    params = start
    yield params
    for step in range(steps):
        params = advanced(losses, step, params, update, second_order=second_order)
        yield params


def advanced(losses: StepLosses, step: int, params: Params, update: Update, *, second_order: bool = True) -> Params:
    """The weights of each task after one step; arguments as in :func:`trajectory`."""
    recorded, plain = torch.is_grad_enabled(), update if isinstance(update, PlainStep) else None
    with torch.enable_grad():
        # Frozen since the learner was built, or not recorded: a leaf of its own for this step.
        params = {
            name: p if recorded and p.requires_grad else p.detach().requires_grad_() for name, p in params.items()
        }
        # What is not to be differentiated twice is found in the first step: the others run the same layers.
        along = gradients(
            losses(step, params),
            params,
            create_graph=recorded and second_order,
            guard=step == 0,
            times=-plain.lr if plain else 1.0,
        )
    return _moved(params, along) if plain else update(step, params, along)
