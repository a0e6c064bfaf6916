"""Floor 5: small tasks that need no data, on which the laws are held: classes, several labels, real values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from quickstudy.episode import Classes, Episode, Examples, Inputs, MultiLabel, Real, map_leaves
from quickstudy.errors import InputError
from quickstudy.keys import Key, uniform

__all__ = ["FEATURES", "WAY", "numbers", "ragged_of", "small_tasks"]

WAY, FEATURES = 3, 4


def numbers(name: str, *shape: int) -> Tensor:
    """Uniform float64 numbers in -1 .. 1, fixed by ``name`` and shape."""
    words = Key.of(0, name).bits(np.arange(1), int(np.prod(shape)))
    return torch.from_numpy(2 * uniform(words[0]) - 1).reshape(shape)


def small_tasks(
    target: str = "classes",
    *,
    n_task: int = 3,
    shot: int = 3,
    query: int = 4,
    way: int = WAY,
    dtype: torch.dtype = torch.float64,
) -> Episode:
    """T regular tasks with some structure to learn; examples are vectors of four numbers.

    Args:
        target: ``"classes"``, ``"multi-label"`` or ``"real"`` (two values an example).
        n_task: T.
        shot: support examples a class.
        query: query examples a class.
        way: classes a task.
        dtype: of the inputs, and of real targets.

    Raises:
        InputError: no such kind of target.

    >>> small_tasks("real").query.y.shape
    torch.Size([3, 12, 2])
    """
    if target not in ("classes", "multi-label", "real"):
        raise InputError(f"There are no small tasks with {target!r} targets. Known: classes, multi-label, real.")
    if target == "real":
        x = [numbers(f"real {part}", n_task, n, FEATURES) for part, n in (("s", way * shot), ("q", way * query))]
        slope = numbers("slope", n_task, FEATURES, 2)
        sets = [Examples(part.to(dtype), torch.sin(part @ slope).to(dtype), Real(2)) for part in x]
        return Episode(sets[0], sets[1])
    if target == "multi-label":
        slope = numbers("labels", n_task, FEATURES, way)
        sets = []
        for name, n in (("s", way * shot), ("q", way * query)):
            x_ = numbers(f"multi {name}", n_task, n, FEATURES)
            sets.append(Examples(x_.to(dtype), (x_ @ slope > 0).long(), MultiLabel(torch.full((n_task,), way))))
        return Episode(sets[0], sets[1])
    centres = 2 * numbers("centres", n_task, way, FEATURES)
    sets = []
    for name, n in (("support", shot), ("query", query)):
        y = torch.arange(way).repeat_interleave(n).expand(n_task, -1)
        x_ = centres.gather(1, y[..., None].expand(-1, -1, FEATURES)) + numbers(name, n_task, way * n, FEATURES)
        sets.append(Examples(x_.to(dtype), y.contiguous(), Classes(torch.full((n_task,), way))))
    return Episode(sets[0], sets[1], classes=torch.arange(n_task * way).reshape(n_task, way) % 9)


def ragged_of(whole: Episode, filler: float = 0.0, *, any_way: bool = True) -> Episode:
    """The tasks with some rows taken away, and from every second task its last class; ``filler`` in their place.

    Each class that stays keeps at least one support row; the last task stays whole.

    Args:
        whole: regular tasks, without masks.
        filler: what stands in padded entries; 255 where NaN cannot be, in pictures of whole numbers.
        any_way: take classes away too.
    """
    n_task, last = whole.n_task, torch.arange(whole.n_task) == whole.n_task - 1
    way = None
    if not isinstance(whole.support.target, Real):
        odd = (torch.arange(n_task) % 2 == 1) & ~last & any_way
        way = torch.where(odd, (whole.support.target.way - 1).clamp(min=2), whole.support.target.way)
    sets = []
    for part in (whole.support, whole.query):
        keep = torch.ones(n_task, part.n_example, dtype=torch.bool)
        drop = torch.from_numpy(uniform(Key.of(0, "ragged").bits(np.arange(n_task), part.n_example))) < 0.4
        keep[:, 1:] = (~drop | last[:, None])[:, 1:]
        if isinstance(part.target, Classes) and part.y is not None and way is not None:
            keep |= _first_of_each_class(part.y)
            keep &= part.y < way[:, None]
        sets.append(_without(part, keep, filler, way))
    classes = whole.classes
    if classes is not None and way is not None:
        classes = classes.masked_fill(torch.arange(classes.shape[1]) >= way[:, None], -1)
    return Episode(sets[0], sets[1], index=whole.index, classes=classes)


def _first_of_each_class(y: Tensor) -> Tensor:
    """Bool ``[T, N]``: the first row of each class of each task."""
    same = y[:, :, None] == y[:, None, :]  # [T, N, N]
    earlier = torch.ones(y.shape[1], y.shape[1], dtype=torch.bool).tril(-1)
    return ~(same & earlier).any(2)


def _without(part: Examples, keep: Tensor, filler: float, way: Tensor | None) -> Examples:
    def fill(leaf: Tensor) -> Tensor:
        gone = ~keep.view(*keep.shape, *(1,) * (leaf.dim() - 2))
        if leaf.is_floating_point():
            return leaf.masked_fill(gone, filler)
        nothing = 255 if leaf.dtype == torch.uint8 and filler != filler else 0
        return leaf.masked_fill(gone, nothing)

    x: Inputs = map_leaves(fill, part.x)
    y, target = part.y, part.target
    if y is not None and y.is_floating_point():
        y = fill(y)
    if way is not None and not isinstance(target, Real):
        target = type(target)(way)
        if isinstance(target, MultiLabel) and y is not None:
            y = y.masked_fill(torch.arange(y.shape[2]) >= way[:, None, None], 0)
    return replace(part, x=x, y=y, target=target, mask=keep)
