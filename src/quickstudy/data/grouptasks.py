"""Floor 1: tasks made of groups of a table's rows: of a patient, a hospital, or some of a hospital's patients.

A task is a group. Its support is ``shot`` rows, all classes together, as they come: with an order in time the first of
the group, without one drawn at random. Its query are other rows of the same group, with an order in time later ones.
Labels mean the same in every task.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from quickstudy.data.batches import ClassBatches
from quickstudy.data.classscores import (
    auroc,
    auroc_moves,
    brier,
    log_loss,
    probabilities,
    row_losses,
    sensitivity_at,
    squares,
)
from quickstudy.data.counts import Bounds, Count, as_setting, bounds
from quickstudy.data.source import Origin, RowMoves, TaskShape, TaskSource, as_indices
from quickstudy.data.tablecoding import Coded
from quickstudy.episode import Classes, Episode, Examples, Real
from quickstudy.errors import InputError
from quickstudy.keys import Integers, Key, integers, shuffle, uniform

__all__ = ["Asked", "Group", "GroupTasks"]

_SPECIFICITY = 0.9
_NAMED = 20  # groups left out that are named


@dataclass(frozen=True, eq=False)
class Group:
    """Rows that make a task.

    Args:
        name: whose they are.
        rows: int64 ``[n]``, in the order of time, if there is one.
    """

    name: str
    rows: Integers


@dataclass(frozen=True, eq=False)
class Asked:
    """What is asked for.

    Args:
        y: ``[R]``, class numbers (int64), or numbers in the target's own units (float64).
        classes: the classes' names; None for numbers.
        mean: of the target over the training rows.
        std: its deviation there.
    """

    y: NDArray[Any]
    classes: tuple[str, ...] | None
    mean: float = 0.0
    std: float = 1.0

    @property
    def record(self) -> dict[str, Any]:
        """What was measured of it, as JSON."""
        return {"mean": self.mean, "std": self.std} if self.classes is None else {"classes": list(self.classes)}


class GroupTasks(TaskSource):
    """See the module. Groups come in random order, all of them before any comes again.

    ``Episode.classes`` has the group's place in ``groups``, for intervals over groups: a few groups come again and
    again, and with time a test task of a group is the same each time. Where there is one group alone what repeats is
    rows, which :meth:`rows_of` and :meth:`row_moves` give, for intervals over them. For classes without time each group
    gives at least one row of each class to the support and one to the query.

    Args:
        table: the features of all rows.
        asked: the target of all rows.
        groups: of this role.
        data: name of the data set; with ``split`` and ``seed`` it fixes the tasks.
        split: the role.
        shot: rows of the support; a range is drawn for each task.
        query: rows asked for: as many as this; with a range, as many as the group has, from low to high.
        seed: tells sources of the same kind apart.
        ordered: rows stand in the order of time.
        anywhere: with time, supports may begin at any row, as in training; else with the first.
        keep: the least share of columns that a task knows: each task draws a share between this and 1, and each
            column is known with that chance; 1: all.
        about: further settings.
        origin: see :class:`quickstudy.data.source.TaskSource`.

    Raises:
        InputError: a number makes no sense, or no group has as many rows (naming some).
    """

    def __init__(
        self,
        table: Coded,
        asked: Asked,
        groups: Sequence[Group],
        *,
        data: str,
        split: str,
        shot: Count,
        query: Count,
        seed: int,
        ordered: bool = False,
        anywhere: bool = False,
        keep: float = 1.0,
        about: Mapping[str, Any] | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.table, self.asked, self._origin = table, asked, origin
        self._data, self._split, self._seed = data, split, seed
        self._shot: Bounds = bounds("shot", shot, len(asked.classes) if asked.classes else 1)
        self._query: Bounds = bounds("query", query, 2 if asked.classes else 1)
        self._ordered, self._anywhere, self._keep = ordered, anywhere, keep
        self._about = dict(about or {})
        self.groups = tuple(group for group in groups if not self._too_small(group))
        self.left_out = {g.name: why for g in groups if (why := self._too_small(g))}
        if not self.groups:
            some = "; ".join(f"{name}: {why}" for name, why in list(self.left_out.items())[:3])
            raise InputError(
                f"Cannot make tasks of {data}/{split} with shot = {shot!r} and query = {query!r}: none of its "
                f"{len(groups)} groups has enough rows ({some}). Reduce shot or query (--episodes.{split}.shot N, "
                f"--episodes.{split}.query N), or give larger groups."
            )
        self._key = Key.of(seed, data, split)

    @property
    @override
    def origin(self) -> Origin | None:
        """The groups."""
        return self._origin

    @property
    def _way(self) -> int:
        return len(self.asked.classes or ())

    def _too_small(self, group: Group) -> str:
        """Why a group cannot be a task; empty if it can."""
        need = self._shot[1] + self._query[0]
        if len(group.rows) < need:
            return f"{len(group.rows)} rows of {need}"
        if self.asked.classes is None:
            return ""
        counts = np.bincount(self.asked.y[group.rows], minlength=self._way)
        if self._ordered:
            first = self.asked.y[group.rows[: self._shot[0]]]
            lacks = np.setdiff1d(np.arange(self._way), first)
            return f"no {self.asked.classes[lacks[0]]!r} among its first {self._shot[0]} rows" if len(lacks) else ""
        if counts.min() < 2:
            return f"{counts.min()} rows of the class {self.asked.classes[counts.argmin()]!r}, of 2"
        return ""

    @property
    def shape(self) -> TaskShape:
        """Rows of features; the classes of the table, or one real value."""
        real = self.asked.classes is None
        return TaskShape(
            example=(self.table.size,),
            target="real" if real else "classes",
            outputs=1 if real else self._way,
            classes=None if real else self._way,
        )

    @cached_property
    def hash(self) -> str:
        """Hex sha256 over features, labels and groups."""
        digest = hashlib.sha256(json.dumps([list(self.table.blocks), self.asked.classes, self._keep]).encode())
        for group in self.groups:
            digest.update(f"{group.name} {len(group.rows)}".encode())
            digest.update(self.table.x[group.rows].tobytes() + np.ascontiguousarray(self.asked.y[group.rows]).tobytes())
        return digest.hexdigest()

    @property
    def settings(self) -> dict[str, Any]:
        """What makes these tasks, and which groups were left out."""
        names = hashlib.sha256(json.dumps([group.name for group in self.groups]).encode()).hexdigest()[:16]
        return {
            "data": self._data,
            "split": self._split,
            **({} if self.asked.classes is None else {"way": self._way}),
            "shot": as_setting(self._shot),
            "query": as_setting(self._query),
            "seed": self._seed,
            "groups": len(self.groups),
            "groups_digest": names,
            "left_out": dict(list(self.left_out.items())[:_NAMED]),
            "left_out_in_all": len(self.left_out),
            "columns_left_out": self.table.left_out,
            **self._about,
        }

    def episodes(self, indices: range | Integers) -> Episode:
        """The tasks with these numbers; ``x`` is float32 ``[T, N, F]``."""
        tasks = as_indices(indices)
        drawn = self._draw(tasks)
        known = self._known(tasks)
        return Episode(
            self._examples([support for support, _ in drawn], known),
            self._examples([query for _, query in drawn], known),
            index=torch.from_numpy(tasks.copy()),
            classes=torch.from_numpy(self._who(tasks)[:, None]),
        )

    def rows_of(self, indices: range | Integers) -> list[Integers]:
        """Which rows of the table each task asks for, in the order of its query."""
        return [query for _, query in self._draw(as_indices(indices))]

    def training_rows(self) -> Integers:
        """All rows of these groups, each once, in the order of the table."""
        return np.unique(np.concatenate([group.rows for group in self.groups]))

    @override
    def batches(self, size: int) -> ClassBatches:
        """Passes over all rows of these groups, with all their columns."""
        if self.asked.classes is None:
            return super().batches(size)  # type: ignore[return-value]  # raises
        rows = self.training_rows()
        settings = {name: v for name, v in self.settings.items() if name not in ("way", "shot", "query")}
        return ClassBatches(
            self._key.fold("batches"),
            len(rows),
            lambda places: (rows[places], self.asked.y[rows[places]]),
            size,
            look_up=lambda rows, quarters: self.table.x[rows],
            shape=self.shape,
            hash=self.hash,
            settings=settings,
        )

    @override
    def figures(self, outputs: Tensor, episode: Episode) -> dict[str, NDArray[np.float64]]:
        """Of numbers ``mae``, ``rmse``, ``mse`` in the target's units; of two classes ``auroc``, of more ``accuracy``.

        With time later rows may all be of one class: ``accuracy`` comes first then, and ``auroc`` is of the tasks that
        have both. ``sensitivity`` is at a specificity of 90 %.
        """
        query = episode.query
        assert query.y is not None
        there, y, said = query.labelled.numpy(), query.y.numpy(), outputs.numpy()
        rows = [self._of_task(y[t][there[t]], said[t][there[t]]) for t in range(len(y))]
        return {name: np.array([row[name] for row in rows]).round(6) for name in rows[0]}

    @override
    def row_moves(self, outputs: Tensor, episode: Episode) -> RowMoves | None:
        """Of one group: ``mae``, ``rmse`` and ``mse``, or ``accuracy``, ``brier``, ``nll`` and ``auroc``."""
        if len(self.groups) > 1:
            return None
        query = episode.query
        assert query.y is not None
        there, y, said = query.labelled.numpy(), query.y.numpy(), outputs.numpy()
        each = [self._moves(y[t][there[t]], said[t][there[t]]) for t in range(len(y))]
        rows = np.concatenate(self.rows_of(episode.indices.numpy()))
        return RowMoves(rows, {name: np.concatenate([one[name] for one in each]) for name in each[0]})

    def _errors(self, y: NDArray[Any], said: NDArray[Any]) -> NDArray[np.float64]:
        error = np.abs(said[:, 0].astype(np.float64) - y[:, 0]) * self.asked.std
        return np.where(np.isfinite(error), error, np.inf)

    def _ranked(self, said: NDArray[Any]) -> NDArray[np.float64]:
        return np.where(np.isfinite(said).all(1), said[:, 1].astype(np.float64) - said[:, 0], 0.0)

    def _moves(self, y: NDArray[Any], said: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        n = len(y)
        if self.asked.classes is None:
            error = self._errors(y, said)
            with np.errstate(invalid="ignore"):  # an infinite error has no derivative
                square = np.square(error)
                mse = (square - square.mean()) / n
                rmse = mse / (2 * max(float(square.mean()) ** 0.5, np.finfo(np.float64).tiny))
                return {"mae": (error - error.mean()) / n, "rmse": rmse, "mse": mse}
        p = probabilities(said)
        each = {"accuracy": (p.argmax(1) == y).astype(np.float64), "brier": squares(p, y), "nll": row_losses(p, y)}
        found = {name: (values - values.mean()) / n for name, values in each.items()}
        return found if self._way > 2 else found | {"auroc": auroc_moves(y == 1, self._ranked(said))}

    def _of_task(self, y: NDArray[Any], said: NDArray[Any]) -> dict[str, float]:
        if self.asked.classes is None:
            error = self._errors(y, said)
            mse = float(np.square(error).mean())
            return {"mae": float(error.mean()), "rmse": mse**0.5, "mse": mse}
        p = probabilities(said)
        usual = {"accuracy": float((p.argmax(1) == y).mean()), "brier": brier(p, y), "nll": log_loss(p, y)}
        if self._way > 2:
            return usual
        truth, ranked = y == 1, self._ranked(said)
        area = {"auroc": auroc(truth, ranked)}
        sensitivity = {"sensitivity": sensitivity_at(truth, ranked, _SPECIFICITY)}
        return usual | area | sensitivity if self._ordered else area | usual | sensitivity

    def _draw(self, tasks: Integers) -> list[tuple[Integers, Integers]]:
        """Support and query rows of each task."""
        sizes = self._key.fold("sizes").bits(tasks, 2)
        longest = max(len(group.rows) for group in self.groups)
        words = None if self._ordered else self._key.fold("rows").bits(tasks, longest)
        found = []
        for t, who in enumerate(self._who(tasks)):
            rows = self.groups[who].rows
            shot = int(self._shot[0] + integers(sizes[t, :1], self._shot[1] - self._shot[0] + 1)[0])
            if words is None:
                spare = len(rows) - shot - self._query[0]
                begin = int(integers(sizes[t, 1:], spare + 1)[0]) if self._anywhere else 0
                begin = 0 if self.asked.classes is not None else begin
                rows = rows[begin:]
            else:
                rows = self._mixed(rows[shuffle(words[t : t + 1, : len(rows)], np.array([len(rows)]))[0]], shot)
            found.append((rows[:shot], rows[shot : shot + self._query[1]]))
        return found

    def _mixed(self, rows: Integers, shot: int) -> Integers:
        """The rows in this order, but that support and query have a row of each class."""
        if self.asked.classes is None:
            return rows
        firsts, seconds = [], []
        for label in range(self._way):
            places = np.flatnonzero(self.asked.y[rows] == label)
            firsts.append(int(places[0]))
            seconds.append(int(places[1]))
        rest = np.setdiff1d(np.arange(len(rows)), [*firsts, *seconds])
        cut = max(shot - self._way, 0)
        return rows[np.concatenate([firsts, rest[:cut], seconds, rest[cut:]]).astype(np.int64)]

    def _who(self, tasks: Integers) -> Integers:
        """Of each task, the place of its group."""
        n = len(self.groups)
        turns = {int(turn): self._order(int(turn)) for turn in np.unique(tasks // n)}
        return np.array([turns[int(task) // n][int(task) % n] for task in tasks], dtype=np.int64)

    def _order(self, turn: int) -> Integers:
        """Which group stands where in a round through all of them."""
        n = len(self.groups)
        order: Integers = shuffle(self._key.fold("order").bits(np.array([turn]), n), np.array([n]))[0]
        return order

    def _known(self, tasks: Integers) -> NDArray[np.bool_] | None:
        """Of each task, which features are known ``[T, F]``; None: all."""
        if self._keep >= 1:
            return None
        n = len(self.table.blocks)
        u = uniform(self._key.fold("columns").bits(tasks, 2 + n))
        share = self._keep + (1 - self._keep) * u[:, :1]
        known = u[:, 2:] < share
        known[np.arange(len(tasks)), (u[:, 1] * n).astype(np.int64)] = True  # at least one column
        features = np.zeros((len(tasks), self.table.size), dtype=bool)
        for number, block in enumerate(self.table.blocks.values()):
            features[:, block] = known[:, number : number + 1]
        return features

    def _examples(self, rows: Sequence[Integers], known: NDArray[np.bool_] | None) -> Examples:
        longest = max(map(len, rows))
        mask = np.arange(longest) < np.array([len(mine) for mine in rows])[:, None]
        place = np.stack([np.pad(mine, (0, longest - len(mine))) for mine in rows])
        x = self.table.x[place]
        if known is not None:
            x = np.where(known[:, None], x, self.table.absent)
        x = np.where(mask[..., None], x, np.float32(0))
        kept = None if mask.all() else torch.from_numpy(mask)
        if self.asked.classes is None:
            y = np.where(mask, (self.asked.y[place] - self.asked.mean) / self.asked.std, 0.0)
            return Examples(torch.from_numpy(x), torch.from_numpy(y.astype(np.float32)[..., None]), Real(1), kept)
        way = torch.full((len(rows),), self._way)
        y = np.where(mask, self.asked.y[place], 0).astype(np.int64)
        return Examples(torch.from_numpy(x), torch.from_numpy(y), Classes(way), kept)
