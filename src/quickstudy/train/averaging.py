"""Floor 4: averages of the weights along training, which are validated, kept and used in place of the last ones.

    ema    φ̄ ← d φ̄ + (1 - d) φ after each step
    swa    the mean of φ at each ``every``-th step from ``start`` on

B. Polyak, A. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 1992;
P. Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018.

Training itself goes on from the weights that the optimiser moves; a checkpoint holds both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from quickstudy.errors import InputError

__all__ = ["Average", "Averaging"]


@dataclass(frozen=True)
class Average:
    """What is averaged.

    Args:
        name: ``"ema"``, an exponential moving average, or ``"swa"``, the plain mean.
        decay: of ``"ema"``: the share of the average that a step leaves; the first steps leave less, (1 + n)/(10 + n),
            so that the initial weights are soon forgotten.
        start: of ``"swa"``: the share of the steps after which it begins.
        every: of ``"swa"``: steps between the weights that count.

    Raises:
        InputError: a number that is none of these.
    """

    name: Literal["ema", "swa"]
    decay: float = 0.999
    start: float = 0.75
    every: int = 1

    def __post_init__(self) -> None:
        if self.name not in ("ema", "swa"):
            raise InputError(f"There is no average called {self.name!r}. Use 'ema' or 'swa'.")
        if not (0 <= self.decay < 1 and 0 <= self.start < 1 and self.every >= 1):
            raise InputError(
                f"An average of weights needs 0 <= decay < 1, 0 <= start < 1 and every >= 1, received decay = "
                f"{self.decay}, start = {self.start}, every = {self.every}."
            )

    def share(self, count: int, done: int, steps: int) -> float:
        """How much of the new weights goes into the average; 0: none.

        Args:
            count: weights in it so far.
            done: steps done, the last one included.
            steps: of the whole phase.
        """
        if self.name == "ema":
            return 1.0 if count == 0 else 1 - min(self.decay, (1 + count) / (10 + count))
        first = int(self.start * steps) + 1  # 0.75 of 100 steps: the first that counts is step 76
        return 1 / (count + 1) if done >= first and (done - first) % self.every == 0 else 0.0


class Averaging:
    """An average as training goes on.

    Floating buffers (running statistics) are averaged like weights; counters are those of the last step.

    Args:
        average: what is averaged.

    Attributes:
        count: weights in it so far.
        values: name -> their average, as in ``state_dict``; empty before the first.
    """

    def __init__(self, average: Average) -> None:
        self.average = average
        self.count, self.values = 0, dict[str, Tensor]()

    def begin(self) -> None:
        """Forget everything: another phase begins."""
        self.count, self.values = 0, {}

    @torch.no_grad()
    def update(self, learner: nn.Module, done: int, steps: int) -> None:
        """Take the weights of a step; see :meth:`Average.share`."""
        share = self.average.share(self.count, done, steps)
        if not share:
            return
        for name, now in learner.state_dict().items():
            if self.count and now.is_floating_point():
                self.values[name].lerp_(now, share)
            else:
                self.values[name] = now.detach().clone()
        self.count += 1

    @contextmanager
    def inside(self, learner: nn.Module) -> Iterator[None]:
        """While it lasts the learner holds the average, where there is one."""
        if not self.count:
            yield
            return
        before = {name: value.detach().clone() for name, value in learner.state_dict().items()}
        learner.load_state_dict(self.values)
        try:
            yield
        finally:
            learner.load_state_dict(before)
