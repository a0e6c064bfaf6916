"""Floor 3: the classifier over all training classes, trained on plain labelled batches and then thrown away."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.episode import Classes, Examples
from quickstudy.errors import InputError
from quickstudy.learners.learner import MetaLoss, task_logs
from quickstudy.nets.apply import Applied, Strategy, apply


class BaseClassifier(nn.Module):
    """Features ``[1, B, D]`` to logits over all training classes.

    Args:
        features: D.
        classes: how many training classes there are; None where nobody said, and then it cannot be trained.
        kind: ``"linear"``, or ``"cosine"``: ``scale`` times the cosine between features and each class's weight.
        scale: of ``"cosine"``.
        smoothing: label smoothing, 0 .. 1.

    Raises:
        InputError: fewer than one training class.
    """

    def __init__(
        self,
        features: int,
        classes: int | None,
        *,
        kind: Literal["linear", "cosine"] = "linear",
        scale: float = 10.0,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if classes is not None and not classes >= 1:
            raise InputError(
                f"Cannot build a classifier over classes={classes}. Say how many training classes there are, or leave "
                "it out where nothing is trained."
            )
        self.layer = None if classes is None else nn.Linear(features, classes, bias=kind == "linear")
        self.classes, self.kind, self.scale, self.smoothing = classes, kind, scale, smoothing

    def forward(self, features: Tensor) -> Tensor:
        """``[T, N, D] -> [T, N, classes]``."""
        assert self.layer is not None
        if self.kind == "linear":
            logits: Tensor = self.layer(features)
            return logits
        return self.scale * F.linear(F.normalize(features, dim=-1), F.normalize(self.layer.weight, dim=-1))

    def loss_through(self, net: nn.Module, batch: Examples, strategy: Strategy) -> MetaLoss:
        """The same of a batch that the network has still to see; ``strategy`` is how it is run."""
        return self.batch_loss(apply(net, batch.x, mask=batch.mask, strategy=strategy), batch)

    def batch_loss(self, applied: Applied, batch: Examples) -> MetaLoss:
        """Cross-entropy of a plain labelled batch.

        Args:
            applied: the network's features of the batch, ``[1, B, D]``.
            batch: ``[1, B, ...]``, its ``y`` the numbers of all training classes.

        Returns:
            The loss, accuracy, and what norms carry.

        Raises:
            InputError: the batch has no class labels; nobody said how many training classes there are, or they are more
                than was said; a label is none of theirs; or the features are of another size than was said.
        """
        if batch.y is None or not isinstance(batch.target, Classes):
            raise InputError(
                "Cannot train on plain batches that carry no class labels. Give each example the number of its class."
            )
        if self.layer is None:
            raise InputError(
                "Cannot train on plain labelled batches: the number of training classes is not known. "
                "Pass classes= (how many there are) when the learner is built."
            )
        if batch.max_way > self.layer.out_features:
            raise InputError(
                f"These batches number {batch.max_way} classes, but the learner was built for classes="
                f"{self.layer.out_features}. Build it with classes={batch.max_way}."
            )
        features, counted = applied.out.flatten(2), batch.labelled
        if features.shape[2] != self.layer.in_features:
            raise InputError(wrong_size(self.layer.in_features, features))
        logits, y = self(features), batch.y.masked_fill(~counted, 0)
        if y.numel() and int(y.max()) >= self.layer.out_features:
            raise InputError(
                f"A batch has the label {int(y.max())}, but the learner was built for classes="
                f"{self.layer.out_features}, numbered from 0."
            )
        each = F.cross_entropy(
            logits.flatten(0, 1), y.flatten(), reduction="none", label_smoothing=self.smoothing
        ).view_as(y)
        loss = torch.where(counted, each, 0.0).sum(1) / counted.sum(1).clamp(min=1)
        return MetaLoss(loss, task_logs(logits, batch), applied.carried)


def wrong_size(expected: int, features: Tensor) -> str:
    """What to say of features ``[..., D]`` of another size than the learner was built for."""
    return (
        f"This learner was built for {expected} features an example, but its network gives {features.shape[-1]}. "
        f"Pass out_features={features.shape[-1]}."
    )
