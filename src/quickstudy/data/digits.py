"""Floor 1: scikit-learn's handwritten digits, real images that ship inside a package: for meta-testing only.

E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998: 1,797
digits by 13 writers. Each was cut out, scaled to 32 x 32 black and white points, and the points counted in
blocks of 4 x 4: 8 x 8 numbers from 0 to 16, all of whose rows hold ink.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.counts import Count
from quickstudy.data.dataset import check_role
from quickstudy.data.distort import FRAME, enlarge
from quickstudy.data.letters import BOX
from quickstudy.data.store import ArrayStore
from quickstudy.errors import DataError, InputError

__all__ = ["Digits"]

_CELLS = 8
_BORDER = 2  # empty cells round a digit, as many as the bicubic kernel reaches


class Digits:
    """The ten digits, enlarged smoothly and placed as glyphs are: the longer side 20 of 28 pixels, centred.

    Args:
        size: rows and columns of a picture.

    Raises:
        InputError: a size below 14, to which 8 x 8 cells with their border cannot be enlarged.
    """

    name = "digits"
    splits = ("test",)

    def __init__(self, *, size: int = 28) -> None:
        if size < 14:
            raise InputError(f"Cannot draw digits of size {size}: use a size of at least 14 pixels.")
        self._size = size

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, size, size)."""
        return (1, self._size, self._size)

    def tasks(
        self,
        role: str,
        *,
        shot: Count,
        query: Count,
        seed: int,
        way: Count | None = 5,
        dirichlet: float | None = None,
    ) -> ClassTasks:
        """Tasks of the role "test", the only one; see :class:`quickstudy.data.dataset.DataSet`.

        Raises:
            DataError: for a role of meta-training, which these digits do not have.
            UnknownName: there is no such role at all.
        """
        if role in ("train", "validation", "train+validation"):
            raise DataError(
                f"{self.name} has no {role!r} split: it is only for meta-testing. "
                "Use 'test', and another data set, such as glyphs, for the rest."
            )
        check_role(self, role)
        classes = range(len(self.store.classes))
        return ClassTasks(
            self.store,
            classes,
            data=self.name,
            split=role,
            way=way,
            shot=shot,
            query=query,
            seed=seed,
            dirichlet=dirichlet,
        )

    @cached_property
    def store(self) -> ArrayStore:
        """All pictures by class; 30 ms, so there is no cache."""
        from sklearn.datasets import load_digits  # here, because it takes a second

        digits = load_digits()
        ink = np.pad(digits.images / 16, ((0, 0), (_BORDER, _BORDER), (_BORDER, _BORDER))).astype(np.float32)
        pictures = enlarge(ink, self._size, seen=_CELLS * FRAME / BOX)
        return ArrayStore.from_classes({str(label): pictures[digits.target == label] for label in range(10)})
