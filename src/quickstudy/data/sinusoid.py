"""Floor 1: tasks that are functions: a few points of one are given, the others are asked for.

C. Finn, P. Abbeel, S. Levine, "Model-agnostic meta-learning for fast adaptation of deep networks", ICML 2017, section
5.1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import pi
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.data.counts import Bounds, Count, as_setting, bounds
from quickstudy.data.dataset import check_role
from quickstudy.data.source import TaskShape, TaskSource, as_indices
from quickstudy.episode import Episode, Examples, Real
from quickstudy.errors import InputError
from quickstudy.keys import Bits, Integers, Key, integers, uniform

__all__ = ["FunctionFamily", "FunctionTasks", "Sinusoid"]

Floats: TypeAlias = NDArray[np.float64]

# What the words of each stream decide.
_SIZES, _PARAMETERS, _SUPPORT, _QUERY = range(4)


@dataclass(frozen=True)
class FunctionFamily:
    """Functions of one variable, told apart by parameters that are drawn uniformly.

    Args:
        name: stands for ``value`` in the content hash: another formula needs another name.
        inputs: the range (low, high) of x.
        parameters: name -> its range, in the order in which ``value`` takes them.
        value: ``(x, *parameters) -> y``, elementwise.
    """

    name: str
    inputs: tuple[float, float]
    parameters: dict[str, tuple[float, float]]
    value: Callable[..., Floats]


def _sine(x: Floats, amplitude: Floats, phase: Floats) -> Floats:
    return amplitude * np.sin(x - phase)


SINES = FunctionFamily(
    name="y = amplitude * sin(x - phase)",
    inputs=(-5.0, 5.0),
    parameters={"amplitude": (0.1, 5.0), "phase": (0.0, pi)},
    value=_sine,
)


def _wave(x: Floats, amplitude: Floats, phase: Floats, frequency: Floats) -> Floats:
    return amplitude * np.sin(frequency * x + phase)


def waves(frequency: tuple[float, float]) -> FunctionFamily:
    """Sine waves whose frequency is drawn too, as in Meta-SGD's experiment: y = A sin(w x + b).

    Z. Li, F. Zhou, F. Chen, H. Li, "Meta-SGD: learning to learn quickly for few-shot learning", 2017, section 4.1.

    Args:
        frequency: the range (low, high) of w, in radians a unit of x; 0.8 to 1.2 as published.

    Raises:
        InputError: no such range.
    """
    low, high = frequency
    if not (0 < low <= high < float("inf")):
        raise InputError(
            f"Cannot draw sine waves with frequency = [{low:g}, {high:g}]: expected a range [low, high] of numbers "
            "above 0, such as [0.8, 1.2]."
        )
    return FunctionFamily(
        name="y = amplitude * sin(frequency * x + phase)",
        inputs=SINES.inputs,
        parameters={**SINES.parameters, "frequency": (low, high)},
        value=_wave,
    )


class FunctionTasks(TaskSource):
    """Regression tasks: each is a function, its support ``shot`` points and its query ``query`` others.

    Points are float32, ``x`` and ``y`` both ``[T, N, 1]``. A task's function does not depend on shot and query, and
    more shots begin with the points of fewer.

    Args:
        family: the functions.
        data: name of the data set; with ``split`` and ``seed`` it fixes the tasks.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        shot: support points; a number or a range (low, high), drawn for each task, both ends included.
        query: query points, likewise.
        seed: tells sources of the same kind apart.

    Raises:
        InputError: a number makes no sense.
    """

    def __init__(self, family: FunctionFamily, *, data: str, split: str, shot: Count, query: Count, seed: int) -> None:
        self._family, self._data, self._split, self._seed = family, data, split, seed
        self._shot: Bounds = bounds("shot", shot)
        self._query: Bounds = bounds("query", query)
        self._key = Key.of(seed, data, split)

    @property
    def shape(self) -> TaskShape:
        """One number in, one number out."""
        return TaskShape(example=(1,), target="real", outputs=1)

    @cached_property
    def hash(self) -> str:
        """Hex sha256 over the family: formula and ranges."""
        content = [self._family.name, self._family.inputs, self._family.parameters]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def settings(self) -> dict[str, Any]:
        """What makes these tasks."""
        return {
            "data": self._data,
            "split": self._split,
            "shot": as_setting(self._shot),
            "query": as_setting(self._query),
            "seed": self._seed,
        }

    def parameters(self, indices: range | Integers) -> dict[str, Floats]:
        """Name -> ``[T]``, the parameters of the functions of these tasks."""
        words = self._key.bits(as_indices(indices), len(self._family.parameters), _PARAMETERS)
        ranges = self._family.parameters.items()
        return {name: _within(words[:, column], ends) for column, (name, ends) in enumerate(ranges)}

    def episodes(self, indices: range | Integers) -> Episode:
        """The tasks with these numbers; ``x`` and ``y`` are float32 ``[T, N, 1]``."""
        tasks = as_indices(indices)
        parameters = [column[:, None] for column in self.parameters(tasks).values()]
        sizes = self._key.bits(tasks, 2, _SIZES)
        return Episode(
            support=self._points(tasks, parameters, _SUPPORT, sizes[:, 0], self._shot),
            query=self._points(tasks, parameters, _QUERY, sizes[:, 1], self._query),
            index=torch.from_numpy(tasks.copy()),
        )

    def _points(self, tasks: Integers, parameters: list[Floats], stream: int, size: Bits, ends: Bounds) -> Examples:
        count = ends[0] + integers(size, ends[1] - ends[0] + 1)  # [T]
        longest = int(count.max())
        x = _within(self._key.bits(tasks, longest, stream), self._family.inputs)
        y = self._family.value(x, *parameters)
        mask = np.arange(longest) < count[:, None]
        return Examples(
            x=_as_column(np.where(mask, x, 0.0)),
            y=_as_column(np.where(mask, y, 0.0)),
            target=Real(1),
            mask=None if mask.all() else torch.from_numpy(mask),
        )


def _within(bits: Bits, ends: tuple[float, float]) -> Floats:
    return ends[0] + (ends[1] - ends[0]) * uniform(bits)


def _as_column(values: Floats) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32)[:, :, None])


class Sinusoid:
    """Sine waves y = A sin(x - phi) with A from 0.1 to 5, phi from 0 to pi and x from -5 to 5 (Finn et al. 2017).

    Args:
        frequency: None; or the range (low, high) of w, and the waves are y = A sin(w x + phi), as those of Meta-SGD,
            which has (0.8, 1.2) (Li et al. 2017).

    Raises:
        InputError: no such range.
    """

    name = "sinusoid"
    splits = ("train", "validation", "test")
    shape = (1,)

    def __init__(self, frequency: tuple[float, float] | None = None) -> None:
        self.family = SINES if frequency is None else waves(frequency)

    def tasks(
        self, role: str, *, shot: Count, query: Count | None = None, seed: int, way: Count | None = None
    ) -> FunctionTasks:
        """Tasks of one role.

        Args:
            role: one of :attr:`splits`. Functions are drawn from the same family with other random words.
            shot: support points.
            query: query points; by default as many as shots in training, and 100 in validation and test.
            seed: tells sources of the same kind apart.
            way: None; a function has no classes.

        Raises:
            UnknownName: no such role.
            InputError: a number makes no sense, or a way was given.
        """
        check_role(self, role)
        if way is not None:
            raise InputError(
                f"Cannot draw {way!r}-way tasks from {self.name}: a function has no classes. Leave way out."
            )
        if query is None:
            query = shot if role == "train" else 100
        return FunctionTasks(self.family, data=self.name, split=role, shot=shot, query=query, seed=seed)
