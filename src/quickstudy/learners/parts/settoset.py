"""Floor 3: a set of vectors to a set of vectors, each knowing the others: one layer of self-attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quickstudy.keys import Keys, uniform


class SetToSet(nn.Module):
    """LayerNorm(x + W softmax(q kᵀ / √D) v): a single head, with a residual (Vaswani et al. 2017).

    Plain operations, because torch's fused attention has no second derivative on a CPU.

    Args:
        features: D.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.query = nn.Linear(features, features, bias=False)
        self.key = nn.Linear(features, features, bias=False)
        self.value = nn.Linear(features, features, bias=False)
        self.out = nn.Linear(features, features)
        self.norm = nn.LayerNorm(features)
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.xavier_normal_(layer.weight)

    def forward(self, x: Tensor, together: Tensor, keep: Tensor | None = None) -> Tensor:
        """``[T, N, D] -> [T, N, D]``.

        Args:
            x: the vectors.
            together: bool ``[T, N, N]``, True where n may attend to m; every n always attends to itself.
            keep: factors of dropout, ``[T, N, D]``; None: no dropout.
        """
        together = together | torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        scores = self.query(x) @ self.key(x).transpose(1, 2) / x.shape[2] ** 0.5
        attended = scores.masked_fill(~together, -torch.inf).softmax(2) @ self.value(x)
        added = self.out(attended)
        mixed: Tensor = self.norm(x + (added if keep is None else added * keep))
        return mixed


def dropout_factors(keys: Keys, real: Tensor, features: int, rate: float, dtype: torch.dtype) -> Tensor:
    """0 with probability ``rate``, else 1 / (1 - rate), for each feature of each row.

    The n-th real row of a task gets the same factors however the task is padded.

    Args:
        keys: randomness for each task.
        real: bool ``[T, N]``.
        features: D.
        rate: 0 up to, but not, 1.
        dtype: of the result.

    Returns:
        ``[T, N, D]``.
    """
    n_task, n_row = real.shape
    drawn = torch.from_numpy(uniform(keys.bits(n_row * features))).reshape(n_task, n_row, features).to(real.device)
    place = (real.cumsum(1) - 1).clamp(min=0)[..., None].expand(-1, -1, features)
    return (drawn.gather(1, place) >= rate).to(dtype) / (1 - rate)
