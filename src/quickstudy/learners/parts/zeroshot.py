"""Floor 3: classes known by a description instead of by examples (zero-shot)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.episode import Classes, Examples
from quickstudy.errors import InputError


class Descriptions(nn.Module):
    """Descriptions of classes to prototypes of length 1, by a linear map (Snell et al. 2017, section 2.7).

    Args:
        side_features: A, the size of one description.
        features: D, the size of the network's features.
    """

    def __init__(self, side_features: int, features: int) -> None:
        super().__init__()
        self.map = nn.Linear(side_features, features, bias=False)

    def forward(self, support: Examples) -> tuple[Tensor, Tensor]:
        """Prototypes ``[T, W, D]``, zero for classes that a task does not have, and whether it has them, ``[T, W]``.

        Raises:
            InputError: the support carries no descriptions, or ones of another shape, or NaN in one.
        """
        side, size = support.side, self.map.in_features
        if not isinstance(support.target, Classes):
            raise InputError(f"Zero-shot learning needs classes, the tasks have {support.target}. Use zero_shot=False.")
        if not isinstance(side, Tensor):
            raise InputError(
                "Cannot adapt without examples: the support carries no descriptions of its classes. Give it "
                f"side=, a tensor [T, W, {size}]."
            )
        if side.dim() != 3 or side.shape[0] != support.n_task or side.shape[1:] != (support.max_way, size):
            raise InputError(
                f"Cannot adapt to descriptions of shape {list(side.shape)}: this learner needs [T, W, A] = "
                f"[{support.n_task}, {support.max_way}, {size}]. Give one row to each class."
            )
        present = torch.arange(support.max_way, device=side.device) < support.target.way[:, None]
        if int(present.sum(1).min()) < 2:
            task = int(present.sum(1).argmin())
            raise InputError(
                f"Task {task} has a single class, so there is nothing to tell apart. Describe at least two classes."
            )
        bad = (~torch.isfinite(side).all(2) & present).nonzero()
        if len(bad):
            raise InputError(
                f"The description of class {int(bad[0, 1])} of task {int(bad[0, 0])} holds NaN or infinity. "
                "Describe it by finite numbers."
            )
        known = torch.where(present[..., None], side, 0.0).to(self.map.weight.dtype)
        return F.normalize(self.map(known), dim=2), present
