"""Floor 1: the formulas of ``dense.py``, in torch's operators and in C (``chain.c``), and which of the two is taken.

C is faster where layers are narrow, and reads a CPU's memory; torch's operators run anywhere else, can be traced, and
can be differentiated themselves.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from quickstudy import native
from quickstudy.nets.joined import Functions, relaid

_C = Functions(
    Path(__file__).with_name("chain.c"),
    dict.fromkeys([f"chain_{name}" for name in ("value", "derivative", "second", "descend", "ascend")], 1),
    numbers={
        "chain_descend": (ctypes.c_int64, ctypes.c_int64, ctypes.c_double),
        "chain_ascend": (ctypes.c_int64, ctypes.c_double),
    },
    result=ctypes.c_int,
)
_MOST = 16  # layers that C has room for
_WIDEST = 192  # above it torch's matrix products are faster with few rows
_WORTH_THREADS = 1 << 21  # multiplications


class Shape(NamedTuple):
    """What is known of a chain beside its tensors."""

    layers: int
    relu: bool  # after the last layer

    def rectified(self, number: int) -> bool:
        """Whether a ReLU follows layer ``number`` of 1 .. L."""
        return number < self.layers or self.relu


def chain_value(shape: Shape, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> list[Tensor]:
    """What each layer puts out, ``[T, N, O]``.

    Args:
        shape: of the chain.
        x: ``[T, N, I]``.
        weights: ``[T, O, I]`` of each layer.
        biases: ``[T, O]`` of each layer.
    """
    plan = _planned(shape, x, weights, biases)
    if plan is None or not plan.takes(biases):
        return plain_value(shape, x, weights, biases)
    biases = [_laid(bias) for bias in biases]
    found = [_room(x, size) for size in plan.outs]
    plan.call("value", [x.contiguous(), *weights, *biases, *found], [bias.stride(0) for bias in biases])
    return found


def chain_derivative(
    shape: Shape,
    cotangents: Sequence[Tensor | None],
    x: Tensor,
    weights: Sequence[Tensor],
    outs: Sequence[Tensor],
    asked: Sequence[bool],
) -> tuple[list[Tensor | None], list[Tensor]]:
    """The cotangents of x, weights and biases that are asked for, and the steps ``d_l`` on the way.

    Args:
        shape: of the chain.
        cotangents: of what each layer puts out, None for zero.
        x: ``[T, N, I]``.
        weights: ``[T, O, I]`` of each layer.
        outs: what each layer puts out; the last one's where it is rectified.
        asked: for x, each weight, each bias.
    """
    plan = _planned(shape, x, weights, [*outs, *[part for part in cotangents if part is not None]])
    if plan is None:
        return plain_derivative(shape, cotangents, x, weights, outs, asked)
    count = shape.layers
    sizes = (plan.x, *plan.weights, *plan.biases)
    found = [_room(x, size) if wanted else None for size, wanted in zip(sizes, asked, strict=True)]
    steps = [_room(x, size) for size in plan.outs]
    outs, given = relaid(*outs), relaid(*cotangents)
    plan.call("derivative", [x.contiguous(), *weights, *outs, *[None] * (count - len(outs)), *given, *found, *steps])
    return found, steps


def chain_second(
    shape: Shape,
    cotangents: Sequence[Tensor | None],
    x: Tensor,
    weights: Sequence[Tensor],
    outs: Sequence[Tensor],
    steps: Sequence[Tensor],
    asked: Sequence[bool],
) -> list[Tensor | None]:
    """Cotangents of what the derivative reads: the last layer's cotangent, x, the weights, what the layers put out.

    Args:
        shape: of the chain.
        cotangents: of what the derivative gives: for x, each weight, each bias; None for zero.
        x: ``[T, N, I]``.
        weights: ``[T, O, I]`` of each layer.
        outs: what each layer puts out; the last one's where it is rectified.
        steps: the derivative's ``d_l``.
        asked: for all that it reads.
    """
    plan = _planned(shape, x, weights, [*outs, *steps, *[part for part in cotangents if part is not None]])
    if plan is None:
        return plain_second(shape, cotangents, x, weights, outs, steps, asked)
    count = shape.layers
    outs, steps, given = relaid(*outs), relaid(*steps), relaid(*cotangents)
    found: list[Tensor | None] = [None] * len(asked)
    e = given[0] is not None
    for number in range(1, count + 1):
        reads = 1 if number == 1 else count + number  # where x stands, or what the layer below puts out
        if asked[reads] and given[number] is not None:
            found[reads] = _room(x, plan.outs[number - 2] if number > 1 else plan.x)
        if asked[1 + number] and e:
            found[1 + number] = _room(x, plan.weights[number - 1])
        e = e or given[number] is not None or given[count + number] is not None
    if asked[0] and e:
        found[0] = _room(x, plan.outs[-1])
    puts = [found[0], found[1], *found[count + 2 : 2 * count + 1], *found[2 : count + 2]]
    plan.call("second", [x.contiguous(), *weights, *outs, *[None] * (count - len(outs)), *steps, *given, *puts])
    return found


def chain_descend(
    shape: Shape, x: Tensor, targets: Tensor, params: Sequence[Tensor], *, steps: int, rate: float, keep: bool
) -> tuple[list[Tensor], Any]:
    """Steps of gradient descent of each task on squared errors.

    Args:
        shape: of the chain.
        x: ``[T, N, I]``.
        targets: ``[T, N, O]``.
        params: ``[T, O, I]`` of each layer, then ``[T, O]`` of each layer.
        steps: how many, 1 or more.
        rate: what the errors are multiplied with, to be the cotangent of the last layer's outputs, times -lr.
        keep: what the way back needs.

    Returns:
        Weights and biases after the steps, and what was kept, for :func:`chain_ascend`.
    """
    count = shape.layers
    plan = _planned(shape, x, params[:count], [targets, *params[count:]])
    if plan is not None and plan.takes(params[count:]):
        n_step = steps if keep else 1
        made = [_room(x, (n_step, *size)) for size in plan.kinds]
        biases = [_laid(bias) for bias in params[count:]]
        read = [x.contiguous(), targets.contiguous(), *params[:count], *biases]
        strides = [bias.stride(0) for bias in biases]
        plan.call("descend", [*read, *made], strides, (steps, keep, rate))
        return [part[-1] for part in made[: 2 * count]], (plan, read, made, strides) if keep else None
    asked, none = (False, *[True] * len(params)), [None] * (count - 1)
    path = []
    for _ in range(steps):
        weights = params[:count]
        *outs, last = plain_value(shape, x, weights, params[count:])
        (_, *by), ways = plain_derivative(shape, [*none, (last - targets) * rate], x, weights, outs, asked)
        if keep:
            path.append((weights, outs, ways))
        params = _sums(params, by)
    return list(params), path


def chain_ascend(
    shape: Shape, x: Tensor, kept: Any, cotangents: Sequence[Tensor], *, steps: int, rate: float
) -> list[Tensor]:
    """The way back along :func:`chain_descend`: from cotangents of the last weights and biases to the first ones'.

    Args:
        shape: of the chain.
        x: ``[T, N, I]``.
        kept: what was kept.
        cotangents: for each weight, then for each bias.
        steps: as there.
        rate: as there.
    """
    count = shape.layers
    if isinstance(kept, tuple):
        plan, read, made, strides = kept
        found = [part.clone(memory_format=torch.contiguous_format) for part in cotangents]
        plan.call("ascend", [*read, *made, *found], strides, (steps, rate))
        return found
    reads, asked = (True, False, *[True] * (2 * count - 1)), (False, *[True] * (2 * count))
    for weights, outs, ways in reversed(kept):
        e, _, *second = plain_second(shape, (None, *cotangents), x, weights, outs, ways, reads)
        assert e is not None
        (_, *more), _ = plain_derivative(shape, [*second[count:], e * rate], x, weights, outs, asked)
        # Nothing leads to the first layer's weight in the derivative, as x has no cotangent.
        more[1:count] = _sums(more[1:count], second[1:count])
        cotangents = _sums(more, cotangents)
    return list(cotangents)


def _sums(a: Sequence[Tensor | None], b: Sequence[Tensor | None]) -> list[Tensor]:
    """Of two lists of tensors, each of which is there."""
    return list(torch._foreach_add(cast(list[Tensor], [*a]), cast(list[Tensor], [*b])))


# --- in torch's operators -----------------------------------------------------------------------


def plain_value(shape: Shape, x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> list[Tensor]:
    """As :func:`chain_value`."""
    found = []
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True), 1):
        x = _with_product(bias.unsqueeze(1), x, weight.transpose(1, 2))
        x = torch.relu(x) if shape.rectified(number) else x  # not in place: a trace of it stays free of writing
        found.append(x)
    return found


def plain_derivative(
    shape: Shape,
    cotangents: Sequence[Tensor | None],
    x: Tensor,
    weights: Sequence[Tensor],
    outs: Sequence[Tensor],
    asked: Sequence[bool],
) -> tuple[list[Tensor | None], list[Tensor]]:
    """As :func:`chain_derivative`."""
    count = shape.layers
    found: list[Tensor | None] = [None] * (2 * count + 1)
    steps: list[Tensor] = []
    d: Tensor | None = None
    for number in range(count, 0, -1):
        more = cotangents[number - 1]
        if d is not None:
            d = _with_product(more, d, weights[number])
        else:
            d = x.new_zeros(*x.shape[:2], weights[number - 1].shape[1]) if more is None else more
        d = _kept(d, outs[number - 1]) if shape.rectified(number) else d
        steps.append(d)
        if asked[number]:
            found[number] = _outer(d, outs[number - 2] if number > 1 else x)
        if asked[count + number]:
            found[count + number] = d.sum(1)
    if asked[0] and d is not None:
        found[0] = torch.bmm(d, weights[0])
    return found, steps[::-1]


def plain_second(
    shape: Shape,
    cotangents: Sequence[Tensor | None],
    x: Tensor,
    weights: Sequence[Tensor],
    outs: Sequence[Tensor],
    steps: Sequence[Tensor],
    asked: Sequence[bool],
) -> list[Tensor | None]:
    """As :func:`chain_second`."""
    count = shape.layers
    found: list[Tensor | None] = [None] * len(asked)
    e = cotangents[0]
    for number in range(1, count + 1):
        weight, d, big, v = weights[number - 1], steps[number - 1], cotangents[number], cotangents[count + number]
        reads = 1 if number == 1 else count + number  # where x stands, or what the layer below puts out
        if asked[reads] and big is not None:
            found[reads] = torch.bmm(d, big)
        if asked[1 + number] and e is not None:
            found[1 + number] = _outer(d, e)
        below = x if number == 1 else outs[number - 2]
        tangent = None if v is None else v.unsqueeze(1)
        if big is not None:
            tangent = _with_product(tangent, below, big.transpose(1, 2))
        if e is not None:
            tangent = _with_product(tangent, e, weight.transpose(1, 2))
        if tangent is not None and tangent.shape[1] != x.shape[1]:
            tangent = tangent.expand(-1, x.shape[1], -1)
        e = _kept(tangent, outs[number - 1]) if tangent is not None and shape.rectified(number) else tangent
    found[0] = e if asked[0] else None
    return found


def _with_product(start: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """``start + a b``, of ``[T, N, K]`` and ``[T, K, M]``; products over one number are multiplications."""
    if a.shape[2] == 1:
        return a * b if start is None else torch.addcmul(start, a, b)
    return torch.bmm(a, b) if start is None else torch.baddbmm(start, a, b)


def _outer(d: Tensor, x: Tensor) -> Tensor:
    """``dᵀ x``, summed over the rows: ``[T, N, O], [T, N, I] -> [T, O, I]``."""
    if x.shape[2] == 1:
        return (d * x).sum(1).unsqueeze(2)
    return torch.bmm(d.transpose(1, 2), x)


def _kept(d: Tensor, y: Tensor) -> Tensor:
    """``d`` where the ReLU let something through."""
    return cast(Tensor, torch.ops.aten.threshold_backward(d, y, 0))


# --- in C ---------------------------------------------------------------------------------------


class _Plan:
    """What C is told of a kind of chain, and the shapes of what it writes.

    Args:
        shape: of the chain.
        dtype: of all tensors.
        x: ``[T, N, I]``.
        weights: ``[T, O, I]`` of each layer.
        steps: how far apart in memory the weights of two tasks are; 0: all tasks share them.
        threads: at most so many.
    """

    def __init__(
        self,
        shape: Shape,
        dtype: torch.dtype,
        x: tuple[int, ...],
        weights: tuple[tuple[int, ...], ...],
        steps: tuple[int, ...],
        threads: int,
    ) -> None:
        n_task, n_row, width = x
        self.x, self.weights, self.dtype = x, weights, dtype
        self.outs = [(n_task, n_row, weight[1]) for weight in weights]
        self.biases = [weight[:2] for weight in weights]
        work = n_task * n_row * sum(weight[1] * weight[2] for weight in weights)
        threads = min(threads, n_task) if work >= _WORTH_THREADS else 1
        widths = [width, *[weight[1] for weight in weights]]
        self.sizes = [n_task, n_row, *shape, threads, *widths, *steps]
        self.array = _int64s(self.sizes)
        self.kinds = [*weights, *self.biases, *self.outs, *self.outs]  # what a step of descent leaves

    def takes(self, biases: Sequence[Tensor]) -> bool:
        """Whether these are biases of such a chain."""
        pairs = zip(biases, self.biases, strict=True)
        return all(bias.shape == size for bias, size in pairs)

    def call(
        self, name: str, tensors: Sequence[Tensor | None], steps: Sequence[int] = (), numbers: Sequence[float] = ()
    ) -> None:
        """Let C compute; ``tensors`` and ``numbers`` as the function there names them, ``steps`` of the biases."""
        function = _C.form(f"chain_{name}", self.dtype)
        pointers = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
        sizes = _int64s([*self.sizes, *steps]) if steps else self.array
        if function(sizes, (ctypes.c_void_p * len(pointers))(*pointers), *numbers):
            raise MemoryError("There is no memory for a copy of a weight.")


_plan = functools.lru_cache(maxsize=256)(_Plan)


def _planned(shape: Shape, x: Tensor, weights: Sequence[Tensor], others: Sequence[Tensor]) -> _Plan | None:
    """How C computes it, which reads others, too; None where it cannot, or where torch's operators are faster."""
    read = (*weights, *others)
    if len(weights) > _MOST or not native.usable(x, *read) or any(part.dtype is not x.dtype for part in read):
        return None
    width, n_task = x.shape[2], x.shape[0]
    shapes, steps = [], []
    for weight in weights:
        size, stride = weight.shape, weight.stride()
        laid = stride[2] == 1 and stride[1] == size[2]
        fits = size[2] == width <= _WIDEST and size[0] == n_task
        if not (laid and fits):
            return None
        width = size[1]
        shapes.append(size)
        steps.append(stride[0])
    if width > _WIDEST or not _C.there():
        return None
    return _plan(shape, x.dtype, x.shape, tuple(shapes), tuple(steps), torch.get_num_threads())


def _laid(bias: Tensor) -> Tensor:
    """One number after the other in memory; tasks may share what they read."""
    return bias if bias.stride(1) == 1 else bias.contiguous()


def _room(x: Tensor, size: Sequence[int]) -> Tensor:
    """Where C writes; ``x.new_empty`` is two operators."""
    return torch.empty(size, dtype=x.dtype, device=x.device)


def _int64s(numbers: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(numbers))(*numbers)
