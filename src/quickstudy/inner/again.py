"""Floor 2: what a step was computed in, to compute it once more in the backward pass as it was."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["Surroundings"]

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Surroundings:
    """The global generators as they stood, mixed precision, and context variables (the scale of inner losses).

    The backward pass usually runs outside of all of them.
    """

    device: torch.device
    autocast: torch.autocast
    context: Context
    cpu: Tensor
    gpu: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> Surroundings:
        """Those of this moment, for what is computed on a device."""
        kind = device.type
        autocast = torch.autocast(
            kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), torch.is_autocast_cache_enabled()
        )
        gpu = torch.cuda.get_rng_state(device) if kind == "cuda" else None
        return cls(device, autocast, copy_context(), torch.get_rng_state(), gpu)

    def run(self, compute: Callable[[], _T]) -> _T:
        """``compute()`` with gradients recorded: the same draws, and no trace of them outside."""
        with torch.random.fork_rng([] if self.gpu is None else [self.device]), self.autocast, torch.enable_grad():
            torch.set_rng_state(self.cpu)
            if self.gpu is not None:
                torch.cuda.set_rng_state(self.gpu, self.device)
            return self.context.copy().run(compute)
