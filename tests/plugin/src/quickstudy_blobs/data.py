"""A data set."""

import hashlib
from typing import Any

import numpy as np
import torch

from quickstudy.data import TaskShape, TaskSource
from quickstudy.data.counts import Count
from quickstudy.data.source import as_indices
from quickstudy.episode import Classes, Episode, Examples
from quickstudy.keys import Integers, Key, uniform

DIMENSIONS = 6


class BlobTasks(TaskSource):
    """Classes are points in space; their examples lie around them."""

    def __init__(self, split: str, way: int, shot: int, query: int, seed: int, spread: float) -> None:
        self.split, self.way, self.shot, self.query, self.seed, self.spread = split, way, shot, query, seed, spread

    @property
    def shape(self) -> TaskShape:
        """Vectors."""
        return TaskShape((DIMENSIONS,), "classes", self.way)

    @property
    def hash(self) -> str:
        """Of the only thing that shapes the examples."""
        return hashlib.sha256(f"blobs {self.spread}".encode()).hexdigest()

    @property
    def settings(self) -> dict[str, Any]:
        """What makes these tasks."""
        names = ("split", "way", "shot", "query", "seed", "spread")
        return {"data": "blobs", **{name: getattr(self, name) for name in names}}

    def episodes(self, indices: range | Integers) -> Episode:
        """Pure in (seed, split, index), as the interface wants it."""
        tasks, rows = as_indices(indices), self.way * (self.shot + self.query)
        words = Key.of(self.seed, "blobs", self.split).bits(tasks, (self.way + rows) * DIMENSIONS)
        places = torch.from_numpy(uniform(words) - 0.5).float().view(len(tasks), self.way + rows, DIMENSIONS)
        centres, noise = places[:, : self.way], places[:, self.way :]
        x = centres.repeat_interleave(self.shot + self.query, 1) + self.spread * noise
        x = x.view(len(tasks), self.way, self.shot + self.query, DIMENSIONS)
        target = Classes(torch.full((len(tasks),), self.way))

        def labelled(part: torch.Tensor) -> Examples:
            y = torch.arange(self.way).repeat_interleave(part.shape[2]).expand(len(tasks), -1)
            return Examples(part.flatten(1, 2), y, target)

        index = torch.from_numpy(np.array(tasks))
        return Episode(labelled(x[:, :, : self.shot]), labelled(x[:, :, self.shot :]), index)


class Blobs:
    """Blobs.

    Args:
        spread: how far examples lie from their class.
    """

    name = "blobs"
    splits = ("train", "validation", "test")
    shape = (DIMENSIONS,)

    def __init__(self, *, spread: float = 0.5) -> None:
        self.spread = spread

    def tasks(self, role: str, *, shot: Count, query: Count, seed: int, way: Count | None = 3) -> BlobTasks:
        """Tasks of one role."""
        assert isinstance(way, int) and isinstance(shot, int) and isinstance(query, int)
        return BlobTasks(role, way, shot, query, seed, self.spread)
