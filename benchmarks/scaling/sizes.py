"""What is varied, and what follows from sizes alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

__all__ = ["AXES", "CORNERS", "LEARNERS", "Sizes", "settings"]

LEARNERS = ("ProtoNet", "FOMAML", "MAML", "MAML, adjoint", "Reptile", "iMAML")


@dataclass(frozen=True)
class Sizes:
    """A meta-step of Conv-4 on grey pictures.

    Args:
        tasks: of a step.
        at_once: of them computed together; None: all.
        steps: of the inner loop.
        filters: of each convolution, the width of the model.
        shot: support examples of a class.
        query: query examples of a class.
        way: classes of a task.
        side: of a picture, in pixels.
    """

    tasks: int = 4
    at_once: int | None = None
    steps: int = 4
    filters: int = 32
    shot: int = 1
    query: int = 5
    way: int = 5
    side: int = 28

    @property
    def together(self) -> int:
        """Tasks whose graphs are there at the same time."""
        return self.tasks if self.at_once is None else min(self.at_once, self.tasks)

    @property
    def portions(self) -> int:
        """How often tasks are computed together in a step."""
        return -(-self.tasks // self.together)

    @property
    def support(self) -> int:
        """Support examples of a task."""
        return self.way * self.shot

    @property
    def queries(self) -> int:
        """Query examples of a task."""
        return self.way * self.query

    def _convolutions(self) -> Iterator[tuple[int, int]]:
        """Input channels and pixels of each of the four."""
        side = self.side
        for number in range(4):
            yield (1 if number == 0 else self.filters), side * side
            side //= 2

    @property
    def operations(self) -> int:
        """Multiplications and additions of one example's pass, forwards."""
        return sum(2 * 9 * channels * self.filters * pixels for channels, pixels in self._convolutions())

    @property
    def map_bytes(self) -> int:
        """Of one example's maps, one a block, in float32."""
        return sum(4 * self.filters * pixels for _, pixels in self._convolutions())

    @property
    def weights(self) -> int:
        """Numbers in the convolutions."""
        return sum(9 * channels * self.filters for channels, _ in self._convolutions())

    @property
    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


AXES: dict[str, tuple[Any, ...]] = {
    "tasks": (1, 2, 8),
    "at_once": (1, 2),
    "steps": (1, 2, 8),
    "filters": (16, 48, 64),
    "shot": (3, 5),
    "query": (10, 15),
}
# Away from all axes: what the axes alone foretell of them is the harder test of a model.
CORNERS = (
    Sizes(tasks=8, steps=2, filters=16, at_once=4),
    Sizes(tasks=2, steps=6, filters=64),
    Sizes(tasks=6, steps=3, filters=48, shot=2, at_once=2),
)


def settings(learner: str, quick: bool = False) -> list[Sizes]:
    """What is measured of a learner: a middle, each axis from there, and the corners.

    Args:
        learner: a name of :data:`LEARNERS`.
        quick: smaller pictures, and the ends of axes alone.
    """
    middle = Sizes(side=16 if quick else 28, filters=16 if quick else 32)
    found = [middle]
    for axis, values in AXES.items():
        if axis == "steps" and learner == "ProtoNet":  # it has none
            continue
        values = values[-1:] if quick else values
        found += [replace(middle, **{axis: value}) for value in values]
    corners = CORNERS[:1] if quick else CORNERS
    return found + [replace(corner, side=middle.side) for corner in corners]
