"""Floor 0: what flows through the library, and nothing else.

    Examples   a labelled (or unlabelled) set for each of T tasks: x, y, mask, target, side
    Episode    T tasks at once: the support that a learner adapts to, the query that it is tested on
    Target     what y means: Classes, MultiLabel or Real

Letters used for shapes everywhere: ``T`` tasks, ``N`` examples a task (``Ns`` support, ``Nq`` query),
``W`` the largest way among the T tasks, ``D`` the dimension of a real target.

Every tensor carries the task axis; a single task is ``T = 1``. Ragged tasks are padded: ``mask`` is False
on padding, and what stands in padded entries (NaN included) must never matter.

Shapes and dtypes are checked when the object is made, which reads no tensor's values and so costs no
synchronisation on a GPU. Values (labels in range, no NaN) are read by :meth:`Examples.check`, which the
borders of the library call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quickstudy.errors import InputError
from quickstudy.targets import Classes, Inputs, MultiLabel, Real, Target, as_inputs, first_leaf, map_leaves

__all__ = [
    "Classes",
    "Episode",
    "EpisodeError",
    "Examples",
    "Inputs",
    "MultiLabel",
    "Real",
    "Target",
    "as_inputs",
    "first_leaf",
    "map_leaves",
    "may_read",
    "values_unread",
]

UNLABELLED = -1


@dataclass(frozen=True)
class _Told:
    """What was read before, by whoever says that nothing shall be read now."""

    max_way: int | None


_told: ContextVar[_Told | None] = ContextVar("quickstudy_told", default=None)


@contextmanager
def values_unread(max_way: int | None = None) -> Iterator[None]:
    """No check inside reads what tensors hold: the caller has looked at them, or will.

    For whoever records what a learner computes (a trace, a CUDA graph), where nothing may depend on values.

    Args:
        max_way: what ``Examples.max_way`` shall be, None for tasks without classes.
    """
    token = _told.set(_Told(max_way))
    try:
        yield
    finally:
        _told.reset(token)


def may_read() -> bool:
    """Whether what tensors hold may be looked at; see :func:`values_unread`."""
    return _told.get() is None


class EpisodeError(InputError):
    """Examples or an episode whose fields do not fit together. The message names the field."""


@dataclass(frozen=True, eq=False)
class Examples:
    """A set of examples for each of T tasks.

    Args:
        x: a tensor ``[T, N, ...]`` or a flat dict of such tensors.
        y: labels (see the target's class for shape and dtype), or None.
        target: what ``y`` means, and what outputs a learner must give.
        mask: bool ``[T, N]``, False on padding; None when nothing is padded.
        side: optional facts about a task or its classes, leaves ``[T, ...]`` or ``[T, W, ...]``.

    Raises:
        EpisodeError: a field has the wrong shape or dtype.
    """

    x: Inputs
    y: Tensor | None
    target: Target
    mask: Tensor | None = None
    side: Inputs | None = None

    def __post_init__(self) -> None:
        if isinstance(self.x, dict) and not self.x:
            raise EpisodeError("Examples.x: expected a tensor or a dict of tensors, found an empty dict.")
        for name, leaf in self.x.items() if isinstance(self.x, dict) else [("x", self.x)]:
            where = "Examples.x" if name == "x" else f"Examples.x[{name!r}]"
            if not isinstance(leaf, Tensor):
                raise EpisodeError(
                    f"{where}: expected a tensor [T, N, ...], found {type(leaf).__name__}; torch.as_tensor makes one."
                )
            if leaf.dim() < 2:
                raise EpisodeError(f"{where}: expected axes [T, N, ...], found shape {list(leaf.shape)}.")
            if leaf.shape[:2] != (self.n_task, self.n_example):
                raise EpisodeError(
                    f"{where}: expected [T, N] = [{self.n_task}, {self.n_example}] as in the first field, "
                    f"found shape {list(leaf.shape)}."
                )
        self._check_target()
        if self.mask is not None and (
            self.mask.dtype != torch.bool or self.mask.shape != (self.n_task, self.n_example)
        ):
            raise EpisodeError(
                f"Examples.mask: expected bool [{self.n_task}, {self.n_example}], "
                f"found {self.mask.dtype} {list(self.mask.shape)}."
            )

    def _check_target(self) -> None:
        target, y = self.target, self.y
        if not isinstance(target, Classes | MultiLabel | Real):
            raise EpisodeError(
                "Examples.target: expected Classes(way), MultiLabel(way) or Real(dim), which say what y means, found "
                f"{target!r}."
            )
        if not isinstance(target, Real) and not isinstance(target.way, Tensor):
            raise EpisodeError(
                "Examples.target.way: expected a tensor with the number of classes of each task, such as "
                f"torch.tensor([5]) for one task, found {target.way!r}."
            )
        if y is not None and not isinstance(y, Tensor):
            raise EpisodeError(f"Examples.y: expected a tensor, found {type(y).__name__}; torch.as_tensor makes one.")
        if not isinstance(target, Real) and (target.way.shape != (self.n_task,) or target.way.dtype != torch.int64):
            raise EpisodeError(
                f"Examples.target.way: expected int64 [{self.n_task}], "
                f"found {target.way.dtype} {list(target.way.shape)}."
            )
        if y is None:
            return
        if isinstance(target, Classes):
            fits = y.shape == (self.n_task, self.n_example) and y.dtype == torch.int64
            expected = f"int64 [{self.n_task}, {self.n_example}] (class numbers)"
        elif isinstance(target, MultiLabel):
            fits = y.dim() == 3 and y.shape[:2] == (self.n_task, self.n_example)
            expected = f"[{self.n_task}, {self.n_example}, max way] (0 or 1 a class)"
        else:
            fits = y.shape == (self.n_task, self.n_example, target.dim) and y.is_floating_point()
            expected = f"floating [{self.n_task}, {self.n_example}, {target.dim}] (real values)"
        if not fits:
            raise EpisodeError(f"Examples.y: expected {expected}, found {y.dtype} {list(y.shape)}.")

    # --- what it is -------------------------------------------------------------------------------

    @property
    def n_task(self) -> int:
        """T."""
        return first_leaf(self.x).shape[0]

    @property
    def n_example(self) -> int:
        """N, padding included."""
        return first_leaf(self.x).shape[1]

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return first_leaf(self.x).device

    @property
    def real(self) -> Tensor:
        """Bool ``[T, N]``: True where an example stands (all True without a mask)."""
        if self.mask is not None:
            return self.mask
        return torch.ones(self.n_task, self.n_example, dtype=torch.bool, device=self.device)

    @property
    def labelled(self) -> Tensor:
        """Bool ``[T, N]``: real rows that carry a label."""
        if self.y is None:
            return torch.zeros_like(self.real)
        return self.real & (self.y != UNLABELLED) if isinstance(self.target, Classes) else self.real

    @property
    def max_way(self) -> int:
        """W, the largest way of these tasks (reads ``way``, so it synchronises a GPU)."""
        if isinstance(self.target, Real):
            raise EpisodeError("Examples.target: expected Classes or MultiLabel to ask for a way, found Real.")
        told = _told.get()
        if told is not None and told.max_way is not None:
            return told.max_way
        return int(self.target.way.max())

    # --- what it can become -----------------------------------------------------------------------

    def _map(self, function: Callable[[Tensor], Tensor]) -> Examples:
        target = self.target if isinstance(self.target, Real) else type(self.target)(function(self.target.way))
        return Examples(
            x=map_leaves(function, self.x),
            y=None if self.y is None else function(self.y),
            target=target,
            mask=None if self.mask is None else function(self.mask),
            side=None if self.side is None else map_leaves(function, self.side),
        )

    def to(self, device: torch.device | str) -> Examples:
        """The same examples on ``device``."""
        return self._map(lambda leaf: leaf.to(device))

    def tasks(self, which: slice) -> Examples:
        """Some of the tasks, still with a task axis."""
        return self._map(lambda leaf: leaf[which])

    def unlabelled(self) -> Examples:
        """The same examples without labels, as a learner's ``predict`` gets them."""
        return replace(self, y=None)

    def task(self, index: int) -> Examples:
        """One task (T = 1) without its padded rows."""
        one = self.tasks(slice(index, index + 1))
        if one.mask is None:
            return one
        keep = one.mask[0]
        return replace(
            one,
            x=map_leaves(lambda leaf: leaf[:, keep], one.x),
            y=None if one.y is None else one.y[:, keep],
            mask=None,
        )

    def rows(self, which: Tensor | slice) -> Examples:
        """The rows ``which`` (indices or a slice along N) of every task."""
        return replace(
            self,
            x=map_leaves(lambda leaf: leaf[:, which], self.x),
            y=None if self.y is None else self.y[:, which],
            mask=None if self.mask is None else self.mask[:, which],
        )

    def take(self, index: Tensor) -> Examples:
        """Rows of its own for each task.

        Args:
            index: int64 ``[T, B]``, which row of task t stands at position b.
        """
        task = torch.arange(self.n_task, device=index.device)[:, None]
        return replace(
            self,
            x=map_leaves(lambda leaf: leaf[task, index], self.x),
            y=None if self.y is None else self.y[task, index],
            mask=None if self.mask is None else self.mask[task, index],
        )

    def repeated(self, n: int) -> Examples:
        """A single task n times over (without copying)."""
        return self._map(lambda leaf: leaf.expand(n, *leaf.shape[1:]))

    def apart(self) -> Examples:
        """A single task's N rows as N tasks of one row."""
        target = (
            self.target if isinstance(self.target, Real) else type(self.target)(self.target.way.expand(self.n_example))
        )
        return Examples(
            x=map_leaves(lambda leaf: leaf.transpose(0, 1), self.x),
            y=None if self.y is None else self.y.transpose(0, 1),
            target=target,
            mask=None if self.mask is None else self.mask.transpose(0, 1),
        )

    def followed_by(self, other: Examples) -> Examples:
        """These rows, then ``other``'s, task by task. Both must be labelled, or neither.

        For classes the new way is the larger of the two, so that ``other`` may bring new classes.
        """
        if isinstance(self.x, dict) != isinstance(other.x, dict) or (self.y is None) != (other.y is None):
            raise EpisodeError(
                "Examples.followed_by: expected two sets of the same kind (x tensor or dict, y given or not)."
            )
        if isinstance(self.x, dict) and isinstance(other.x, dict):
            x: Inputs = {name: torch.cat([leaf, other.x[name]], 1) for name, leaf in self.x.items()}
        else:
            x = torch.cat([first_leaf(self.x), first_leaf(other.x)], 1)
        masked = self.mask is not None or other.mask is not None
        target = self.target
        if isinstance(target, Classes) and isinstance(other.target, Classes):
            target = Classes(torch.maximum(target.way, other.target.way))
        return Examples(
            x=x,
            y=None if self.y is None or other.y is None else torch.cat([self.y, other.y], 1),
            target=target,
            mask=torch.cat([self.real, other.real], 1) if masked else None,
            side=self.side,
        )

    @staticmethod
    def stack(sets: Sequence[Examples]) -> Examples:
        """Several sets as one, along the task axis, padded to the largest N (and way, for MultiLabel).

        Args:
            sets: Examples of the same kind of input and target.

        Raises:
            EpisodeError: the sets are not of one kind.
        """
        first = sets[0]
        if any(type(s.target) is not type(first.target) or (s.y is None) != (first.y is None) for s in sets):
            raise EpisodeError("Examples.stack: expected sets with one kind of target, all labelled or none.")
        longest = max(s.n_example for s in sets)

        def join(leaves: list[Tensor]) -> Tensor:
            return torch.cat([_pad_rows(leaf, longest) for leaf in leaves])

        if isinstance(first.x, dict):
            x: Inputs = {name: join([s.x[name] for s in sets if isinstance(s.x, dict)]) for name in first.x}
        else:
            x = join([first_leaf(s.x) for s in sets])
        ragged = any(s.mask is not None or s.n_example != longest for s in sets)
        target = first.target
        if not isinstance(target, Real):
            ways = [s.target.way for s in sets if not isinstance(s.target, Real)]
            target = type(target)(torch.cat(ways))
        labels = [s.y for s in sets if s.y is not None]
        if isinstance(target, MultiLabel) and labels:
            widest = max(y.shape[2] for y in labels)
            labels = [torch.nn.functional.pad(y, (0, widest - y.shape[2])) for y in labels]
        return Examples(
            x=x,
            y=join(labels) if labels else None,
            target=target,
            mask=join([s.real for s in sets]) if ragged else None,
        )

    # --- whether its values can be used -----------------------------------------------------------

    def check_inputs(self, name: str = "Examples") -> None:
        """Read the inputs alone: finite numbers, padding aside (whole numbers, such as pictures, are not looked at).

        Args:
            name: how messages call this set, for example ``"query"``.

        Raises:
            EpisodeError: naming the field, the task and the row.
        """
        if not may_read():
            return
        for leaf_name, leaf in self.x.items() if isinstance(self.x, dict) else [("x", self.x)]:
            if leaf.is_floating_point():
                _check_finite(f"{name}.{leaf_name}", leaf, self.real)

    def check(self, name: str = "Examples") -> None:
        """Read the values: labels in range, finite inputs, at least one task and one row in each.

        Args:
            name: how messages call this set, for example ``"support"``.

        Raises:
            EpisodeError: naming the field, the task, what was expected and what was found.
        """
        if not self.n_task:
            raise EpisodeError(f"{name}: expected at least one task, found none (T = 0).")
        if not may_read():
            return
        real = self.real
        empty = 0 if self.n_example == 0 else None if self.mask is None else _first(~self.mask.any(1))
        if empty is not None:
            raise EpisodeError(f"{name}: expected at least one example a task, found none in task {empty}.")
        self.check_inputs(name)
        if self.y is None:
            return
        if isinstance(self.target, Classes):
            wrong = real & ((self.y < UNLABELLED) | (self.y >= self.target.way[:, None]))
            if wrong.any():
                task, row = (int(i) for i in wrong.nonzero()[0])
                raise EpisodeError(
                    f"{name}.y: expected class numbers 0 .. {int(self.target.way[task]) - 1} (or -1 for unlabelled) "
                    f"in task {task}, found {int(self.y[task, row])} in row {row}."
                )
        elif isinstance(self.target, Real):
            _check_finite(f"{name}.y", self.y, real)


def _pad_rows(leaf: Tensor, length: int) -> Tensor:
    """``leaf`` [T, N, ...] with zero rows appended up to ``length``."""
    missing = length - leaf.shape[1]
    if missing == 0:
        return leaf
    return torch.cat([leaf, leaf.new_zeros(leaf.shape[0], missing, *leaf.shape[2:])], 1)


def _first(which: Tensor) -> int | None:
    """The number of the first True of ``[T]``, None where there is none."""
    found = which.nonzero()
    return int(found[0]) if len(found) else None


def _check_finite(name: str, leaf: Tensor, real: Tensor) -> None:
    if math.isfinite(leaf.sum().item()):  # one number out of the ordinary would make it so too
        return
    bad = ~torch.isfinite(leaf).flatten(2).all(2) & real if leaf.dim() > 2 else ~torch.isfinite(leaf) & real
    if bad.any():
        task, row = (int(i) for i in bad.nonzero()[0])
        raise EpisodeError(
            f"{name}: expected finite numbers, found NaN or infinity in task {task}, row {row}. "
            "Clean the data, or drop that example."
        )


@dataclass(frozen=True, eq=False)
class Episode:
    """T tasks: adapt to ``support``, be tested on ``query``.

    Args:
        support: labelled examples, ``[T, Ns, ...]``.
        query: labelled examples of the same tasks, ``[T, Nq, ...]``.
        index: int64 ``[T]``, which tasks of their source these are; 0 .. T-1 by default.
        classes: int64 ``[T, W]``, the data set's number of each class (-1 where a task has fewer), or None.

    Raises:
        EpisodeError: support and query disagree.
    """

    support: Examples
    query: Examples
    index: Tensor | None = None
    classes: Tensor | None = None

    def __post_init__(self) -> None:
        if self.support.n_task != self.query.n_task:
            raise EpisodeError(
                f"Episode.query: expected {self.support.n_task} tasks as in the support, found {self.query.n_task}."
            )
        if type(self.support.target) is not type(self.query.target):
            raise EpisodeError(
                f"Episode.query.target: expected {type(self.support.target).__name__} as in the support, "
                f"found {type(self.query.target).__name__}."
            )
        ways = [part.target.way for part in (self.support, self.query) if not isinstance(part.target, Real)]
        if len(ways) == 2 and may_read() and not ways[0].is_cuda and not torch.equal(ways[0], ways[1].cpu()):
            raise EpisodeError(
                f"Episode.query.target.way: expected {ways[0].tolist()} as in the support, found {ways[1].tolist()}."
            )
        for name, field in (("index", self.index), ("classes", self.classes)):
            if field is not None and field.shape[0] != self.n_task:
                raise EpisodeError(
                    f"Episode.{name}: expected {self.n_task} tasks on the first axis, found shape {list(field.shape)}."
                )

    @property
    def n_task(self) -> int:
        """T."""
        return self.support.n_task

    @property
    def indices(self) -> Tensor:
        """Int64 ``[T]``: ``index``, or 0 .. T-1 where none was given."""
        return torch.arange(self.n_task) if self.index is None else self.index

    def tasks(self, which: slice) -> Episode:
        """Some of the tasks."""
        return Episode(
            support=self.support.tasks(which),
            query=self.query.tasks(which),
            index=self.indices[which],
            classes=None if self.classes is None else self.classes[which],
        )

    def chunks(self, tasks_at_once: int | None) -> Iterator[Episode]:
        """The same tasks in order, ``tasks_at_once`` at a time (None: all at once)."""
        size = self.n_task if tasks_at_once is None else tasks_at_once
        if size < 1:
            raise EpisodeError(f"tasks_at_once: expected a whole number of at least 1, found {tasks_at_once}.")
        for start in range(0, self.n_task, size):
            yield self.tasks(slice(start, start + size))

    def to(self, device: torch.device | str) -> Episode:
        """The same tasks on ``device`` (``index`` and ``classes``, which no network reads, stay)."""
        return replace(self, support=self.support.to(device), query=self.query.to(device))

    def check(self) -> None:
        """Read the values of both sets; see :meth:`Examples.check`."""
        self.support.check("support")
        self.query.check("query")
