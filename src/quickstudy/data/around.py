"""Floor 1: what tasks of another source have of it, whatever is done to their episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from quickstudy.data.source import Origin, RowMoves, TaskShape, TaskSource
from quickstudy.episode import Episode

__all__ = ["AbstractTasksAround"]


class AbstractTasksAround(TaskSource):
    """Tasks that are made of those of another source, number by number; all but their episodes is as there.

    Args:
        source: of the tasks.
    """

    def __init__(self, source: TaskSource) -> None:
        self._source = source

    @property
    @override
    def shape(self) -> TaskShape:
        return self._source.shape

    @property
    @override
    def hash(self) -> str:
        return self._source.hash

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return self._source.settings

    @property
    @override
    def origin(self) -> Origin | None:
        return self._source.origin

    @property
    @override
    def count(self) -> int | None:
        return self._source.count

    @property
    @override
    def largest(self) -> int | None:
        return self._source.largest

    @override
    def figures(self, outputs: Tensor, episode: Episode) -> dict[str, NDArray[np.float64]]:
        return self._source.figures(outputs, episode)

    @override
    def row_moves(self, outputs: Tensor, episode: Episode) -> RowMoves | None:
        return self._source.row_moves(outputs, episode)
