"""Floor 3: sums and counts of each class's features, and what they say of a class."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from quickstudy.episode import Examples
from quickstudy.learners.parts.classwise import check_every_class, class_sums, ways_of
from quickstudy.learners.parts.embedder import Features
from quickstudy.nets.norms import Moments


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Feature sums and counts of each class; their quotient is the prototype.

    Args:
        sums: ``[T, W, D]``.
        counts: ``[T, W]``, zero for classes that a task does not have.
        moments: what norms measured on the support, where the network has norms that ask for it.
    """

    sums: Tensor
    counts: Tensor
    moments: Moments

    @property
    def means(self) -> Tensor:
        """The prototypes, ``[T, W, D]``."""
        return self.sums / self.counts.clamp(min=1)[..., None]

    @property
    def ways(self) -> Tensor:
        """The number of classes of each task, ``[T]``."""
        return ways_of(self.counts)


def prototypes(features: Features, support: Examples, before: Prototypes | None) -> Prototypes:
    """Class sums and counts of a support, added to those of an earlier state.

    Args:
        features: of the support, ``[T, Ns, D]``.
        support: its labels.
        before: an earlier state of the same tasks.

    Raises:
        InputError: a class has no example, or the targets are no classes.
    """
    sums, counts = class_sums(features.out.flatten(2), support)
    if before is not None:  # either set may know more classes
        way = max(sums.shape[1], before.sums.shape[1])
        sums = _widen(sums, way, -2) + _widen(before.sums, way, -2)
        counts = _widen(counts, way, -1) + _widen(before.counts, way, -1)
    check_every_class(counts, support)
    return Prototypes(sums, counts, features.moments)


def _widen(values: Tensor, way: int, axis: int) -> Tensor:
    """Zeros appended to the class axis (the last, or the one before it) up to ``way``."""
    missing = way - values.shape[axis]
    return F.pad(values, (0, missing) if axis == -1 else (0, 0, 0, missing))
