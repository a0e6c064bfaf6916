"""Floor 1: N-way K-shot tasks of photographs, changed at random in training; grey ones as colour where wanted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Unpack

import numpy as np
import torch
from typing_extensions import override

from quickstudy.data.batches import BatchSource, ClassBatches
from quickstudy.data.classtasks import ClassTasks, Rotations, Sizes
from quickstudy.data.pictureaugment import PictureChanges
from quickstudy.data.rowstore import RowStore
from quickstudy.data.source import TaskShape, as_indices
from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Integers, Key

__all__ = ["PictureBatches", "PictureTasks"]


class PictureTasks(ClassTasks):
    """Tasks that tell ``way`` kinds of pictures apart from ``shot`` of each.

    Inputs are uint8 ``[T, N, C, H, W]`` (``[T, N, H, W]`` where they are grey), floats in 0 .. 1 for the network.

    Args:
        store: the pictures.
        classes: class numbers of the store that tasks are drawn from.
        rotations: see :class:`ClassTasks`.
        channels: 3: grey pictures are given three equal channels, for a network that was trained on colour; None: as
            they are.
        changes: how pictures are changed; None: not at all.
        sizes: data, split, way, shot, query, seed and the like: see :class:`ClassTasks`.

    Raises:
        InputError: a number makes no sense, or classes or pictures do not suffice, or channels that they cannot have.
    """

    _comparable = True

    def __init__(
        self,
        store: RowStore,
        classes: Sequence[int] | Integers,
        *,
        rotations: Rotations = "none",
        channels: int | None = None,
        changes: PictureChanges | None = None,
        **sizes: Unpack[Sizes],
    ) -> None:
        super().__init__(store, classes, rotations=rotations, **sizes)
        own = store.shape[0]
        if channels not in (None, own) and (own, channels) != (1, 3):
            raise InputError(
                f"Cannot give pictures of {own} channels {channels}: grey ones (1) can be given 3. Leave channels out."
            )
        self.changes, self._repeated = changes, 1 if channels is None else channels // own

    @property
    @override
    def shape(self) -> TaskShape:
        """Pictures with their channel axis."""
        kept = super().shape
        return replace(kept, example=_wider(kept, self._repeated))

    @cached_property
    @override
    def hash(self) -> str:
        """Hex sha256 over pictures, classes and, where grey ones are given three channels, that."""
        kept = super().hash
        if self._repeated == 1:
            return kept
        return hashlib.sha256(json.dumps([kept, self._repeated]).encode()).hexdigest()

    @property
    @override
    def settings(self) -> dict[str, Any]:
        """What makes these tasks."""
        own: dict[str, Any] = {"augmented": self.changes is not None}
        return (
            super().settings
            | own
            | ({} if self._repeated == 1 else {"channels": self._store.shape[0] * self._repeated})
        )

    @override
    def episodes(self, indices: range | Integers) -> Episode:
        """The tasks with these numbers."""
        tasks, kept = as_indices(indices), super().episodes(indices)
        key = self._key.fold("changes")
        support, query = (
            _seen(part, key.fold(name), tasks, self.changes, self._repeated)
            for part, name in ((kept.support, "support"), (kept.query, "query"))
        )
        return Episode(support, query, index=kept.index, classes=kept.classes)

    @override
    def batches(self, size: int) -> PictureBatches:  # type: ignore[override]
        """Passes over every picture, changed in each pass as in training tasks; see :class:`ClassTasks`."""
        return PictureBatches(super().batches(size), self._key.fold("changes", "batches"), self.changes, self._repeated)


class PictureBatches(BatchSource):
    """Plain labelled batches of pictures, uint8 ``[1, B, C, H, W]``.

    Args:
        kept: the batches, as they are stored.
        key: of what is changed.
        changes: how pictures are changed; None: not at all.
        repeated: how often a channel is given.
    """

    def __init__(self, kept: ClassBatches, key: Key, changes: PictureChanges | None, repeated: int) -> None:
        self._kept, self._key, self._changes, self._repeated = kept, key, changes, repeated

    @property
    @override
    def shape(self) -> TaskShape:
        return replace(self._kept.shape, example=_wider(self._kept.shape, self._repeated))

    @property
    @override
    def hash(self) -> str:
        return self._kept.hash

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return self._kept.settings

    @property
    @override
    def ahead(self) -> int:
        return self._kept.ahead

    @override
    def batch(self, step: int) -> Examples:
        return _seen(self._kept.batch(step), self._key, np.array([step]), self._changes, self._repeated)


def _wider(shape: TaskShape, repeated: int) -> tuple[int, ...]:
    assert isinstance(shape.example, tuple)
    channels, *sides = shape.example
    return (channels * repeated, *sides)


def _seen(examples: Examples, key: Key, tasks: Integers, changes: PictureChanges | None, repeated: int) -> Examples:
    """Pictures as a network gets them, zero on padding."""
    assert isinstance(examples.x, torch.Tensor)
    if changes is None and repeated == 1:
        return examples
    x = examples.x.numpy()
    if changes is not None:
        x = changes.apply(x, key, tasks)
        if examples.mask is not None:
            x[~examples.mask.numpy()] = 0
    if repeated > 1:
        x = np.repeat(x[:, :, None] if x.ndim == 4 else x, repeated, axis=2)
    return Examples(torch.from_numpy(x), examples.y, examples.target, examples.mask)
