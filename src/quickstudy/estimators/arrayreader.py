"""Floor 6: examples as ``quickstudy.MetaLearner`` read those that it was trained on, by what it measured on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from quickstudy.data.arrays import Arrays
from quickstudy.errors import InputError
from quickstudy.estimators.inputs import AbstractReader, Kind, PictureReader, SoundReader

__all__ = ["ArrayReader", "arrays_reader"]


@dataclass(frozen=True)
class ArrayReader(AbstractReader):
    """Arrays of one shape, in deviations of the training tasks.

    Args:
        shape: of one example; a list, as JSON has it, will do.
        mean: of each column of rows, or one of all numbers; none: numbers stay as they are.
        deviation: likewise.
    """

    kind: ClassVar[Kind] = "rows"
    shape: tuple[int, ...]
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    @override
    def read(self, X: Any) -> Tensor:
        """Float32 ``[n, *shape]``.

        Raises:
            InputError: examples of another shape, or numbers that are none.
        """
        found = np.asarray(X.detach().cpu() if isinstance(X, Tensor) else X, dtype=np.float64)
        if found.shape[1:] != tuple(self.shape):
            raise InputError(
                f"This learner was trained on examples of shape {list(self.shape)}, received "
                f"{list(found.shape[1:])}. Give such examples."
            )
        if not np.isfinite(found).all():
            number = int(np.flatnonzero(~np.isfinite(found.reshape(len(found), -1)).all(1))[0])
            raise InputError(f"Cannot read example {number}: it has NaN or infinity. Leave it out, or fill it in.")
        if self.mean:
            found = (found - np.asarray(self.mean)) / np.asarray(self.deviation)
        return torch.from_numpy(found.astype(np.float32))

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {"shape": list(self.shape), "mean": list(self.mean), "deviation": list(self.deviation)}


def arrays_reader(about: Arrays, example: tuple[int, ...], rate: int | None) -> AbstractReader:
    """The reader of examples like those that somebody's tasks in memory were made of.

    Args:
        about: what was measured on them.
        example: shape of one, as the network is given it.
        rate: samples a second of waveforms that are handed in.
    """
    if about.kind == "pictures":
        return PictureReader(example[-1], example[0] if len(example) == 3 else 1, about.white)
    if about.kind == "sounds":
        return SoundReader(example[0], about.rate, rate)
    return ArrayReader(example, about.mean, about.deviation)
