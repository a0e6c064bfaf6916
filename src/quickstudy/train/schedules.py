"""Floor 4: what becomes of the outer learning rate. A schedule is a function (step, steps) -> factor.

Being functions of the step alone, they have no state that a checkpoint could lose.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

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
