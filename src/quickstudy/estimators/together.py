"""Floor 6: classifiers of several tasks that answer in one call.

Tasks that one learner learned, with as many classes each, have states of one shape: they are laid side by side along
the task axis, their queries too, padded to the longest, and go through the network together. What is said of each is
what it would be alone, because nothing couples tasks (a law of every learner), up to the rounding of sums. A learner
from elsewhere is believed once: the first tasks that could go together are answered both ways and compared.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from quickstudy.episode import Classes, Examples, first_leaf
from quickstudy.estimators.classifier import FewShotClassifier
from quickstudy.estimators.doubt import has_features, network_of
from quickstudy.evaluate.metatest import evaluating
from quickstudy.keys import Key, Keys
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.parts.features import flat_features
from quickstudy.learners.states import map_state
from quickstudy.targets import Inputs

__all__ = ["Asked", "Said", "answer_together", "share_learner"]

_ROWS = 256
"""Queries that go through a network together, padding included."""

_agrees: WeakKeyDictionary[AbstractLearner, bool] = WeakKeyDictionary()
"""Whether a learner was seen to say the same of tasks side by side as of each alone."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A question to one task.

    Args:
        model: that has learned it.
        inputs: n queries as its reader gives them, ``[n, ...]``.
    """

    model: FewShotClassifier
    inputs: Inputs


@dataclass(frozen=True, eq=False)
class Said:
    """The answer.

    Args:
        logits: ``[n, W]``.
        features: of the queries, ``[n, D]``.
        tasks: that were answered in the same call.
    """

    logits: NDArray[np.float64]
    features: Tensor
    tasks: int = 1


def answer_together(asked: Sequence[Asked]) -> list[Said]:
    """What each model says of its queries, in the order of ``asked``, in as few calls as possible."""
    groups: dict[Hashable, list[int]] = {}
    for number, one in enumerate(asked):
        groups.setdefault(_group(one) or number, []).append(number)
    found: dict[int, Said] = {}
    for numbers in groups.values():
        for part in _parts(numbers, asked):
            found.update(zip(part, _answered([asked[number] for number in part]), strict=True))
    return [found[number] for number in range(len(asked))]


def share_learner(model: FewShotClassifier, learner: AbstractLearner) -> None:
    """Let a model answer by another learner object with the same weights, so that its task can go with others.

    Args:
        model: that was fitted.
        learner: the same, as the others have it.
    """
    from dataclasses import replace

    model.chosen_ = replace(model.chosen_, learner=learner)


def _parts(numbers: Sequence[int], asked: Sequence[Asked]) -> Iterator[list[int]]:
    """Divided, so that none has too many rows; those of about as many queries together, as the rest is padding."""
    part: list[int] = []
    for number in sorted(numbers, key=lambda number: first_leaf(asked[number].inputs).shape[0]):
        longest = first_leaf(asked[number].inputs).shape[0]
        if part and longest * (len(part) + 1) > _ROWS:
            yield part
            part = []
        part.append(number)
    yield part


def _answered(asked: Sequence[Asked]) -> list[Said]:
    learner = asked[0].model.chosen_.learner
    if len(asked) == 1 or _agrees.get(learner) is False:
        return [_alone(one) for one in asked]
    if learner in _agrees:
        return _beside(asked)
    alone = [_alone(one) for one in asked]
    try:
        _agrees[learner] = all(map(_same, alone, _beside(asked)))
    except (RuntimeError, ValueError, IndexError, TypeError):  # its states have no task axis after all
        _agrees[learner] = False
    return alone


def _alone(one: Asked) -> Said:
    model = one.model
    return Said(model._said(model.state_, one.inputs, model.target_), model._embedded(one.inputs))


def _beside(asked: Sequence[Asked]) -> list[Said]:
    """Of one group: padded, stacked, answered, and taken apart again."""
    learner = asked[0].model.chosen_.learner
    sizes = [first_leaf(one.inputs).shape[0] for one in asked]
    x = _stacked([one.model._on_device(one.inputs) for one in asked], max(sizes))
    device = first_leaf(x).device
    mask = torch.arange(max(sizes))[None] < torch.tensor(sizes)[:, None]
    way = torch.cat([one.model.target_.way for one in asked if isinstance(one.model.target_, Classes)])
    query = Examples(x, None, Classes(way), None if len(set(sizes)) == 1 else mask.to(device))
    keys = Keys(Key.of(0, "estimator"), np.zeros(len(asked), dtype=np.int64)).fold("predict")
    with evaluating(learner), torch.no_grad():
        logits = learner.predict(_joined([one.model.state_ for one in asked]), query, key=keys).cpu().double()
        features = flat_features(network_of(learner), query).cpu() if has_features(learner) else None
    return [
        Said(
            logits[place, :size].numpy(),
            one.model._embedded(one.inputs) if features is None else features[place, :size],
            len(asked),
        )
        for place, (one, size) in enumerate(zip(asked, sizes, strict=True))
    ]


def _same(one: Said, other: Said) -> bool:
    return np.allclose(one.logits, other.logits, rtol=1e-4, atol=1e-4) and torch.allclose(
        one.features.double(), other.features.double(), rtol=1e-4, atol=1e-4
    )


def _group(one: Asked) -> Hashable | None:
    """What tasks must have in common to be answered together; None: this one answers alone."""
    model = one.model
    try:
        state = tuple(_shape(model.state_))
    except _NoAxis:
        return None
    parts = one.inputs if isinstance(one.inputs, dict) else {"": one.inputs}
    inputs = tuple((name, leaf.dtype, *_width(name, leaf)) for name, leaf in sorted(parts.items()))
    return id(model.chosen_.learner), model.device, state, inputs


def _width(name: str, leaf: Tensor) -> tuple[int, ...]:
    """The shape of one example; of a text any length, as zeros may follow."""
    return (-1,) if name and leaf.dim() == 2 else tuple(leaf.shape[1:])


class _NoAxis(Exception):
    """A state without the axis of tasks."""


def _shape(state: Any) -> Iterator[Hashable]:
    if isinstance(state, Tensor):
        if state.dim() == 0 or state.shape[0] != 1:
            raise _NoAxis
        yield (state.dtype, *state.shape)
    elif isinstance(state, dict):
        for name, part in state.items():
            yield name
            yield from _shape(part)
    elif isinstance(state, list | tuple):
        yield len(state)
        for part in state:
            yield from _shape(part)
    elif is_dataclass(state) and not isinstance(state, type):
        yield type(state)
        for part in fields(state):
            yield from _shape(getattr(state, part.name))
    else:
        yield state


def _joined(states: Sequence[Any]) -> Any:
    """States of one task each, of one shape, as the state of all."""
    leaves: list[list[Tensor]] = []
    for state in states:
        own: list[Tensor] = []

        def kept(leaf: Tensor, own: list[Tensor] = own) -> Tensor:
            own.append(leaf)
            return leaf

        map_state(kept, state)
        leaves.append(own)
    joined = iter([torch.cat(parts) for parts in zip(*leaves, strict=True)])
    return map_state(lambda _: next(joined), states[0])


def _stacked(inputs: Sequence[Inputs], rows: int) -> Inputs:
    """``[1, n, ...]`` each, to ``[T, rows, ...]``; zeros where there is nothing."""
    if isinstance(inputs[0], dict):
        each = [one if isinstance(one, dict) else {} for one in inputs]
        return {name: _padded([one[name] for one in each], rows) for name in inputs[0]}
    return _padded([first_leaf(one) for one in inputs], rows)


def _padded(leaves: Sequence[Tensor], rows: int) -> Tensor:
    widest = max(leaf.shape[-1] for leaf in leaves)
    found = []
    for leaf in leaves:
        if leaf.dim() == 3:  # texts, of several lengths; rows are of one
            leaf = F.pad(leaf, (0, widest - leaf.shape[-1]))
        found.append(F.pad(leaf, (0, 0) * (leaf.dim() - 2) + (0, rows - leaf.shape[1])))
    return torch.cat(found)
