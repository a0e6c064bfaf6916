"""Floor 2: gradients of scaled losses, for arithmetic with few exponents.

In float16 what is below 6e-8 is nothing. A loss that was multiplied by a large number has gradients that much larger,
and those of the weights, which are float32, are divided by it again (P. Micikevicius et al., "Mixed precision
training", ICLR 2018). Training does that for the outer loss; inside of this context
:func:`quickstudy.inner.gradients` does it for the losses of the inner loop, whose gradients would vanish in the same
way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["inner_scale", "scaled"]

_SCALE: ContextVar[float] = ContextVar("inner_scale", default=1.0)


def inner_scale() -> float:
    """What inner losses are multiplied by; 1 outside."""
    return _SCALE.get()


@contextmanager
def scaled(scale: float) -> Iterator[None]:
    """Inner gradients inside are those of losses that were multiplied by ``scale``, divided by it."""
    token = _SCALE.set(scale)
    try:
        yield
    finally:
        _SCALE.reset(token)
