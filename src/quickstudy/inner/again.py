"""Floor 2: what a step was computed in, to compute it once more in the backward pass as it was."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from quickstudy.episode import may_read
from quickstudy.errors import InputError

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
        """``compute()`` with gradients recorded: the same draws, and no trace of them outside.

        Raises:
            InputError: a trace is made, which cannot draw the same again, and ``compute`` draws.
        """
        with torch.random.fork_rng([] if self.gpu is None else [self.device]), self.autocast, torch.enable_grad():
            torch.set_rng_state(self.cpu)
            if self.gpu is not None:
                torch.cuda.set_rng_state(self.gpu, self.device)
            if may_read():
                return self.context.copy().run(compute)
            with _NoDraws():  # type: ignore[no-untyped-call]
                return self.context.copy().run(compute)


class _NoDraws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses random numbers where a step is written down: the note would draw others the second time."""

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise InputError(
                "Cannot compile inner steps that draw random numbers (dropout) and are computed twice: what was "
                "compiled would draw others the second time. Use memory='unrolled', or train.compile = 'no'."
            )
        return func(*args, **(kwargs or {}))
