"""Floor 2: unrolling with the activations of one step at a time: each step is computed once more when it is needed.

Activation checkpointing (T. Chen, B. Xu, C. Zhang, C. Guestrin, "Training deep nets with sublinear memory cost", 2016),
one checkpoint an inner step. The graph is that of unrolling, but what a step saves for its derivative is dropped when
the step is over. When the backward pass first asks for a part of it, the whole step is computed once more from its
weights, kept until another step is asked, and dropped again.

Beside :func:`quickstudy.inner.adjoint`, which keeps as little: here the graph itself stays, so that nobody has to name
what the steps read, and it can be differentiated as often as that of unrolling. The price is a Python call for
each tensor that a step saves.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from quickstudy.errors import InputError
from quickstudy.inner.again import Surroundings
from quickstudy.inner.descent import Params, StepLosses, Update, advanced, check_mode

__all__ = ["OneAtATime", "checkpointed"]

_T = TypeVar("_T")
_Hooks: TypeAlias = tuple[Callable[[Any], Any], Callable[[Any], Any]]


def checkpointed(
    losses: StepLosses, start: Params, *, steps: int, update: Update, second_order: bool = True
) -> Iterator[Params]:
    """The weights before the first step and after each, like ``trajectory``; what steps save is computed once more.

    Values and gradients are ``trajectory``'s, derivatives of higher order too. Steps that draw random numbers from
    torch's global generators (dropout) draw the same again. In the backward pass ``losses`` and ``update`` are called a
    second time, so they must be functions of what they are given: with counters or lists of their own they would not do
    the same, which is noticed where it changes what is saved.

    Args:
        losses: (step, weights ``[T, ...]``) -> loss ``[T]``.
        start: name -> ``[T, ...]``.
        steps: how many, 0 or more.
        update: (step, weights, gradients) -> the next weights.
        second_order: differentiate through the gradients too.

    Yields:
        Name -> ``[T, ...]``, ``steps + 1`` times.

    Raises:
        InputError: in the backward pass, if a step computed once more saves something else than at first, or what it
            reads was written to since.

    >>> theta = {"w": torch.tensor([[2.0]], requires_grad=True)}
    >>> half = lambda step, p, g: {"w": p["w"] - 0.25 * g["w"]}
    >>> *_, phi = checkpointed(lambda step, p: p["w"].square().sum(1), theta, steps=2, update=half)
    >>> torch.autograd.grad(phi["w"].sum(), theta["w"])[0].item()
    0.25
    """
    check_mode()
    params, path = start, OneAtATime()
    yield params
    for step in range(steps):
        params = path.run(partial(advanced, losses, step, params, update, second_order=second_order), params)
        yield params


class OneAtATime:
    """Steps of one path, of which one at most has its saved tensors in memory."""

    def __init__(self) -> None:
        # Weak: a later step holds weights whose graph holds the earlier ones, and no collector sees through graphs.
        self._full: weakref.ref[_Step] | None = None

    def run(self, compute: Callable[[], _T], read: Params) -> _T:
        """What ``compute`` gives; what it saves for the backward pass is dropped, and computed once more there.

        Args:
            compute: one step; called a second time in the backward pass.
            read: the tensors that it goes on from.
        """
        if not torch.is_grad_enabled():
            return compute()
        around = Surroundings.now(next(iter(read.values())).device)
        outside = _hooks()
        # Who counts or moves what graphs keep hears of the weights too, which stay.
        kept = [] if outside is None else [outside[0](p.detach()) for p in read.values()]
        step = _Step(compute, around, self, [*read.values()], kept, outside)
        with torch.autograd.graph.saved_tensors_hooks(step.pack, step.unpack):
            found = compute()
        step.drop()
        return found

    def fill(self, step: _Step) -> None:
        """Another step is dropped first."""
        before = None if self._full is None else self._full()
        if before is not None:
            before.drop()
        self._full = weakref.ref(step)


@dataclass(eq=False)
class _Saved:
    """The place of a tensor that was saved; the graph holds it."""

    version: int
    shape: torch.Size
    dtype: torch.dtype
    get: Callable[[], Tensor] | None


@dataclass(eq=False)
class _Step:
    """One step, its places, which the graph holds, and how to fill them."""

    compute: Callable[[], Any]
    around: Surroundings
    path: OneAtATime
    read: list[Tensor]
    kept: list[Any]
    outside: _Hooks | None
    places: list[weakref.ref[_Saved]] = field(default_factory=list)
    versions: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.versions = [p._version for p in self.read]

    def pack(self, tensor: Tensor) -> tuple[_Step, _Saved]:
        """The first time: what is saved is there until the step is over, as its own gradient needs it."""
        get = _holder(tensor, self.outside)
        place = _Saved(tensor._version, tensor.shape, tensor.dtype, get)
        self.places.append(weakref.ref(place))
        return self, place

    @staticmethod
    def unpack(packed: tuple[_Step, _Saved]) -> Tensor:
        """A saved tensor; the step is computed once more where it was dropped."""
        step, place = packed
        if place.get is None:
            step.fill()
        assert place.get is not None
        return place.get()

    def drop(self) -> None:
        """Nothing of what was saved is held any longer."""
        for reference in self.places:
            place = reference()
            if place is not None:
                place.get = None

    def fill(self) -> None:
        """Compute the step once more, and keep what it saves for those places that the graph still has.

        Raises:
            InputError: it saves something else, or what it reads was written to.
        """
        for p, version in zip(self.read, self.versions, strict=True):
            _check_unwritten(p, version)
        self.path.fill(self)
        second = _Second(self.places, _hooks())
        self.around.run(partial(second.run, self.compute))


@dataclass(eq=False)
class _Second:
    """The second time that a step is computed."""

    places: list[weakref.ref[_Saved]]
    outside: _Hooks | None
    number: int = 0

    def run(self, compute: Callable[[], Any]) -> None:
        """Compute it, and fill the places."""
        with torch.autograd.graph.saved_tensors_hooks(self.pack, lambda tensor: tensor):
            compute()
        if self.number != len(self.places):
            raise _differs(f"saved {len(self.places)} tensors at first and {self.number} the second time")

    def pack(self, tensor: Tensor) -> Tensor:
        """What is saved goes to its place, and is there for the step's own gradient."""
        place = self.places[self.number]() if self.number < len(self.places) else None
        self.number += 1
        if place is not None:
            _check_same(place, tensor)
            place.get = _holder(tensor, self.outside)
        return tensor.detach()


def _check_same(place: _Saved, tensor: Tensor) -> None:
    if (place.shape, place.dtype) != (tensor.shape, tensor.dtype):
        raise _differs(
            f"saved a tensor {list(place.shape)} of {place.dtype} at first, and in its place one {list(tensor.shape)} "
            f"of {tensor.dtype} the second time"
        )
    _check_unwritten(tensor, place.version)


def _check_unwritten(tensor: Tensor, version: int) -> None:
    if tensor._version != version:
        raise InputError(
            f"A tensor {list(tensor.shape)} that an inner step reads was written to after the step, before its "
            "derivative was taken, which would be a wrong one. Take gradients before the optimiser's step."
        )


def _differs(how: str) -> InputError:
    return InputError(
        f"An inner step, computed once more for the outer gradient, {how}: it does not do the same twice. Keep no "
        "counters in what it calls and draw random numbers from torch's global generators alone, or use "
        "memory='unrolled', which computes it once."
    )


def _holder(tensor: Tensor, outside: _Hooks | None) -> Callable[[], Tensor]:
    """What gives a tensor back: by the hooks that stand around the step, as if there were none inside."""
    tensor = tensor.detach()  # else an output would hold its own graph
    if outside is None:
        return lambda: tensor
    packed, unpack = outside[0](tensor), outside[1]
    return lambda: unpack(packed)


def _hooks() -> _Hooks | None:
    """Hooks for saved tensors that somebody else has set, the innermost; None where torch has no way to ask."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return None if top is None else top(True)
