"""Floor 4: what becomes of the outer learning rate. A schedule is a function (step, steps) -> factor.

Being functions of the step alone, they have no state that a checkpoint could lose.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch.optim import lr_scheduler

from quickstudy.errors import InputError, UnknownName

Schedule: TypeAlias = Callable[[int, int], float]


def constant() -> Schedule:
    """The rate stays."""
    return lambda step, steps: 1.0


def decay_by(factor: float, every: int) -> Schedule:
    """Times ``factor`` after each ``every`` steps."""
    return lambda step, steps: float(factor ** (step // every))


def linear(final: float = 0.0) -> Schedule:
    """In a line from 1 at the first step to ``final`` after the last."""
    return lambda step, steps: 1.0 + (final - 1.0) * step / steps


def cosine(final: float = 0.0) -> Schedule:
    """Along half a cosine from 1 at the first step to ``final`` after the last (Loshchilov and Hutter 2017)."""
    return lambda step, steps: final + (1.0 - final) * (1.0 + math.cos(math.pi * step / steps)) / 2


def warmed(schedule: Schedule, steps: int) -> Schedule:
    """In a line from 1/``steps`` to 1 over the first ``steps`` steps, then ``schedule`` over those that are left."""

    def rate(step: int, of: int) -> float:
        return (step + 1) / steps if step < steps else schedule(step - steps, max(of - steps, 1))

    return rate


def of_torch(name: str, options: Mapping[str, Any], lr: float) -> Schedule:
    """One of torch's schedulers, as what it says of each step: without state, as it is asked for all rates first.

    Args:
        name: of a class in ``torch.optim.lr_scheduler``.
        options: of its constructor; ``total_steps`` and ``T_max`` are the steps of the run where they are left out.
        lr: the learning rate that it begins with.

    Raises:
        InputError: there is none of that name, it goes by more than the step, or it refuses its options.
    """
    cls = _torch_schedulers().get(name)
    if cls is None:
        raise UnknownName.among(
            "scheduler in torch.optim.lr_scheduler that goes by the step alone", name, _torch_schedulers()
        )
    known: dict[int, list[float]] = {}

    def rate(step: int, steps: int) -> float:
        if steps not in known:
            known[steps] = _asked(cls, name, options, lr, steps)
        return known[steps][step] / lr

    rate(0, 2)  # now, and not after hours, where it refuses
    return rate


_OF_NUMBERS = ("ChainedScheduler", "LambdaLR", "LRScheduler", "MultiplicativeLR", "ReduceLROnPlateau", "SequentialLR")
"""Schedulers that take functions, other schedulers or validations, and no numbers alone."""


def _torch_schedulers() -> dict[str, Any]:
    return {
        name: cls
        for name, cls in vars(lr_scheduler).items()
        if inspect.isclass(cls) and issubclass(cls, lr_scheduler.LRScheduler)
        if name not in _OF_NUMBERS and not name.startswith("_")  # an older name of the base class
    }


def _asked(cls: Any, name: str, options: Mapping[str, Any], lr: float, steps: int) -> list[float]:
    """The rate of each of ``steps`` steps."""
    takes = inspect.signature(cls).parameters
    usual = {option: steps for option in ("total_steps", "T_max") if option in takes}
    usual |= {"cycle_momentum": False} if "cycle_momentum" in takes else {}
    if options.get("cycle_momentum"):
        raise InputError(f"A schedule changes the rate alone: leave cycle_momentum of {name} out.")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    try:
        scheduler = cls(optimizer, **{**usual, **options})
        rates = []
        for _ in range(steps):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            scheduler.step()
    except (TypeError, ValueError, ZeroDivisionError, AssertionError) as error:
        raise InputError(f"torch's scheduler {name} cannot be used with {dict(options)}: {error}.") from error
    return rates
