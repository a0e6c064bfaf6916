"""Floor 4: how many tasks are drawn, and computed, together in a test, where nobody says it.

Usually 16. Where examples are many and large, memory is what layers make of them: this many of a picture's places,
times the channels of a usual first layer, have room at once. One of Meta-Dataset's largest tasks at 84 pixels just
fits, and then is computed alone. These are rules of thumb, which look at the tasks and not at the learner, so that on
every machine, and of every rank, the same tasks come together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from quickstudy.data.source import TaskSource
from quickstudy.episode import Episode, Examples, MultiLabel

__all__ = ["drawn_together", "portions"]

_TASKS = 16
_DRAWN = 1 << 27  # numbers of the tasks that are drawn together (bytes of pictures); some are read ahead, too
_CHANNELS = 64
_ROOM = 1 << 28  # numbers of one layer: a GiB in float32


def drawn_together(source: TaskSource) -> int:
    """How many tasks are drawn together: 16, or fewer where these may be too large."""
    shape = source.shape.example
    numbers = sum(map(math.prod, shape.values() if isinstance(shape, dict) else [shape]))
    return max(1, min(_TASKS, _DRAWN // max(1, numbers * (source.largest or 0))))


def portions(episode: Episode) -> Iterator[Episode]:
    """The same tasks in order, as many at a time as have room; at least one.

    Args:
        episode: T tasks. Support and query are computed one after the other, so that the larger of them counts.

    Yields:
        Episodes, without the padding that only tasks of other portions need.
    """
    parts = (episode.support, episode.query)
    numbers = _CHANNELS * max(_places(leaf) for part in parts for leaf in _leaves(part))
    most = _ROOM // max(1, numbers)
    rows = [max(both) for both in zip(*(part.real.sum(1).tolist() for part in parts), strict=True)]
    if max(rows, default=0) * len(rows) <= most:
        yield episode
        return
    start = 0
    while start < len(rows):
        stop, widest = start + 1, rows[start]
        while stop < len(rows) and max(widest, rows[stop]) * (stop + 1 - start) <= most:
            widest, stop = max(widest, rows[stop]), stop + 1
        some = episode.tasks(slice(start, stop))
        yield replace(some, support=_close(some.support), query=_close(some.query))
        start = stop


def _leaves(part: Examples) -> list[Tensor]:
    return list(part.x.values()) if isinstance(part.x, dict) else [part.x]


def _places(leaf: Tensor) -> int:
    """Of an example ``[T, N, ...]``: those of a picture, whatever its channels; else its numbers."""
    example = leaf.shape[2:]
    return math.prod(example[1:] if len(example) == 3 else example)


def _close(part: Examples) -> Examples:
    """Without rows and classes that none of its tasks has."""
    if isinstance(part.target, MultiLabel) and part.y is not None:
        part = replace(part, y=part.y[:, :, : part.max_way])
    if part.mask is None or not part.mask.any():
        return part
    last = int(part.mask.any(0).nonzero().max())
    part = part.rows(slice(0, last + 1))
    return replace(part, mask=None) if part.mask is not None and bool(part.mask.all()) else part
