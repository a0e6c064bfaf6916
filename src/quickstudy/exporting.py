"""Floor 6: networks, learners and learned tasks as files for other programs: ONNX, and torch's own exported programs.

    features   examples in, features out: the network of a learner
    learner    labelled examples and queries in, logits out: a learner whole, for a number of classes that is fixed
    task       queries in, logits and probabilities (or numbers) out: what an estimator has learned

The number of examples is free. ``exportfile.py`` writes them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from quickstudy.episode import Classes, Examples, as_inputs, map_leaves
from quickstudy.errors import InputError
from quickstudy.keys import Key, Keys
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.states import map_state
from quickstudy.targets import Inputs, Target

__all__ = ["Exported", "Parts", "features", "learner", "task"]

Parts: TypeAlias = dict[str, Tensor]
"""Named inputs, ``[N, ...]`` each, of as many examples."""


@dataclass(frozen=True, eq=False)
class Exported:
    """What is to be written.

    Args:
        name: how errors call it.
        module: called with the inputs in order.
        inputs: name -> an example of it, ``[N, ...]``.
        outputs: their names.
        about: what whoever uses the file must know, as JSON.
        real: further inputs, on which the file is compared too.
        linked: names of inputs that have as many rows as each other; by default all.
        way: the largest number of classes; None of numbers and features.
    """

    name: str
    module: nn.Module
    inputs: Parts
    outputs: tuple[str, ...]
    about: Mapping[str, Any]
    real: Sequence[Parts] = ()
    linked: tuple[tuple[str, ...], ...] = field(default=())
    way: int | None = None


# --- what can be written -------------------------------------------------------------------------------


class _Features(nn.Module):
    def __init__(self, net: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.net, self.names = net, tuple(names)

    def forward(self, *parts: Tensor) -> Tensor:
        # With a task axis, as everywhere else: that is how pictures get theirs of channels.
        x = as_inputs(map_leaves(lambda leaf: leaf[None], _joined(self.names, parts)), torch.float32)
        out: Tensor = self.net(map_leaves(lambda leaf: leaf[0], x))
        return out.flatten(1)


class _Learner(nn.Module):
    def __init__(self, learner: AbstractLearner, way: int, names: Sequence[str]) -> None:
        super().__init__()
        self.learner, self.names = learner, tuple(names)
        self.register_buffer("way", torch.tensor([way]))

    def forward(self, *parts: Tensor) -> Tensor:
        n = len(self.names)
        known, labels, asked = parts[:n], parts[n], parts[n + 1 :]
        target = Classes(self.way)  # type: ignore[arg-type]  # a buffer
        support = Examples(_with_task(_joined(self.names, known)), labels[None], target)
        query = Examples(_with_task(_joined(self.names, asked)), None, target)
        state = self.learner.adapt(support, key=_keys())
        return self.learner.predict(state, query, key=_keys().fold("predict"))[0]


class _Task(nn.Module):
    def __init__(
        self,
        learner: AbstractLearner,
        state: Any,
        target: Target,
        names: Sequence[str],
        scale: tuple[Tensor, Tensor] | None,
        units: tuple[Tensor, Tensor] | None,
    ) -> None:
        super().__init__()
        self.learner, self.state, self.target, self.names = learner, state, target, tuple(names)
        self.scale, self.units = scale, units

    def forward(self, *parts: Tensor) -> tuple[Tensor, ...]:
        x = _joined(self.names, parts)
        if self.scale is not None and isinstance(x, Tensor):
            x = ((x.double() - self.scale[0]) / self.scale[1]).float()
        query = Examples(_with_task(x), None, self.target)
        out = self.learner.predict(self.state, query, key=_keys().fold("predict"))[0]
        if isinstance(self.target, Classes):
            return out, out.softmax(1)
        return (out if self.units is None else out * self.units[1].to(out) + self.units[0].to(out),)


def features(name: str, net: nn.Module, example: Parts, about: Mapping[str, Any]) -> Exported:
    """The network of a learner.

    Args:
        name: how errors call it.
        net: maps ``[N, ...]`` to features.
        example: inputs as they are read, ``[N, ...]``; pictures of 8 bits, ``[N, H, W]`` or ``[N, 3, H, W]``.
        about: see :class:`Exported`.
    """
    module = _Features(_still(net), list(example))
    return Exported(name, module, example, ("features",), {**about, "what": "features"})


def learner(name: str, learner: AbstractLearner, way: int, example: Parts, about: Mapping[str, Any]) -> Exported:
    """A learner whole: inputs ``support`` and ``labels`` ``[n]``, of which each class has one or more, and ``query``.

    Args:
        name: how errors call it.
        learner: of classes.
        way: how many; the file is for so many.
        example: as in :func:`features`.
        about: see :class:`Exported`.

    Raises:
        InputError: it has no room for so many classes.
    """
    if "classes" not in learner.traits.targets:
        raise InputError(f"Cannot export {name} whole: it does not learn classes. Export its features.")
    if way < 2:
        raise InputError(f"way must be a number of classes, 2 or more, received {way}.")
    one = list(example) == ["x"]
    support = {
        "support" if one else f"support_{part}": leaf.repeat_interleave(way, 0) for part, leaf in example.items()
    }
    query = {"query" if one else f"query_{part}": leaf for part, leaf in example.items()}
    labels = torch.arange(way).repeat(len(next(iter(example.values()))))
    module = _Learner(_still(learner), way, list(example))
    linked = ((*support, "labels"), tuple(query))
    inputs = {**support, "labels": labels, **query}
    return Exported(name, module, inputs, ("logits",), {**about, "what": "learner", "way": way}, linked=linked, way=way)


def task(
    name: str,
    learner: AbstractLearner,
    state: Any,
    target: Target,
    known: Inputs,
    about: Mapping[str, Any],
    *,
    scale: tuple[Tensor, Tensor] | None = None,
    units: tuple[Tensor, Tensor] | None = None,
) -> Exported:
    """What an estimator has learned.

    Args:
        name: how errors call it.
        learner: its learner.
        state: what the task taught it.
        target: of the task.
        known: the labelled examples as they are read, ``[n, ...]``.
        about: see :class:`Exported`.
        scale: of rows, mean and deviation of each column, where the learner does not scale them itself.
        units: mean and deviation of numbers that come out.
    """
    parts = known if isinstance(known, dict) else {"x": known}
    parts = {name: leaf for name, leaf in parts.items() if name != "text" or len(parts) == 1}
    moved = map_state(lambda leaf: leaf.cpu().float() if leaf.is_floating_point() else leaf.cpu(), state)
    target = Classes(target.way.cpu()) if isinstance(target, Classes) else target
    module = _Task(_still(learner), moved, target, list(parts), scale, units)
    way = int(target.way.max()) if isinstance(target, Classes) else None
    outputs = ("logits", "probabilities") if isinstance(target, Classes) else ("values",)
    return Exported(name, module, parts, outputs, {**about, "what": "task"}, [parts], way=way)


def _still(module: Any) -> Any:
    """A copy on the CPU, in float32 and eval mode, without derivatives."""
    return copy.deepcopy(module).cpu().float().eval().requires_grad_(False)


def _joined(names: Sequence[str], parts: Sequence[Tensor]) -> Inputs:
    return parts[0] if tuple(names) == ("x",) else dict(zip(names, parts, strict=True))


def _with_task(x: Inputs) -> Inputs:
    return map_leaves(lambda leaf: (leaf.float() if leaf.is_floating_point() else leaf)[None], x)


def _keys() -> Keys:
    return Keys(Key.of(0, "estimator"), np.zeros(1, dtype=np.int64))
