"""Floor 3: the examples of a task as rows of numbers, beside their labels, for learners that read a support set.

Memories, sequence models, neural processes and in-context learners all take an example as a vector and its label as
another. The vector is what a network makes of the example, or the example itself.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.episode import Classes, Episode, Examples, Real
from quickstudy.errors import InputError
from quickstudy.keys import Keys, shuffle
from quickstudy.learners.learner import check_episode
from quickstudy.learners.parts.embedder import Embedder, EpisodeFeatures, Features
from quickstudy.learners.parts.features import flat_features
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import Moments, absorb_statistics

Order: TypeAlias = Literal["drawn", "given"]
"""In which order a learner of sequences reads a support: drawn for each task by its key, or as its rows stand."""


class RowFeatures(nn.Module):
    """A vector for each example: a network's features, or the example itself, flattened.

    Args:
        net: maps ``[N, ...]`` to features; None: the examples themselves.
        in_features: size of one flattened example, needed without a network.
        out_features: the network's feature size, where it has no attribute of that name.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: the size of a vector is not known.
    """

    like: Tensor

    def __init__(
        self, net: nn.Module | None, in_features: int | None, out_features: int | None, strategy: Strategy = "auto"
    ) -> None:
        super().__init__()
        self.embed = None if net is None else Embedder(net, strategy)
        size = in_features if net is None else out_features or getattr(net, "out_features", None)
        if not isinstance(size, int):
            raise InputError(
                "Cannot tell how many numbers describe one example. "
                "Pass in_features= (without a network), or out_features= (the network's feature size)."
            )
        self.out_features = size
        # Follows the learner's dtype, which raw inputs are to be given.
        self.register_buffer("like", torch.zeros(()), persistent=False)

    @property
    def transductive(self) -> bool:
        """Whether a vector depends on the other queries."""
        return self.embed is not None and self.embed.transductive

    @property
    def singly(self) -> bool:
        """Whether each vector depends on its example alone."""
        return self.embed is None or self.embed.singly

    def support(self, support: Examples) -> Features:
        """Vectors ``[T, Ns, D]`` of the support, zero on padding, with what norms measured."""
        if self.embed is None:
            return Features(self._raw(support), {})
        found = self.embed.support(support)
        return Features(self._flat(found.out), found.moments)

    def query(self, moments: Moments, query: Examples) -> Tensor:
        """Vectors ``[T, Nq, D]`` of queries, given what norms measured on the support."""
        return self._raw(query) if self.embed is None else self._flat(self.embed.query(moments, query))

    def episode(self, episode: Episode) -> EpisodeFeatures:
        """Both, in one pass through the network, for training; see ``parts.embedder``."""
        if self.embed is None:
            check_episode(episode)
            return EpisodeFeatures(self.support(episode.support), self._raw(episode.query), {})
        found = self.embed.episode(episode)
        support = Features(self._flat(found.support.out), found.support.moments)
        return EpisodeFeatures(support, self._flat(found.query), found.carried)

    def absorb(self, carried: dict[str, Tensor]) -> None:
        """Write what norms measured in training into their buffers."""
        if self.embed is not None:
            absorb_statistics(self.embed.net, carried)

    def _raw(self, examples: Examples) -> Tensor:
        return self._checked(flat_features(None, examples).to(self.like.dtype))

    def _flat(self, features: Tensor) -> Tensor:
        return self._checked(features.flatten(2))

    def _checked(self, rows: Tensor) -> Tensor:
        if rows.shape[2] != self.out_features:
            raise InputError(
                f"This learner was built for {self.out_features} numbers an example, received {rows.shape[2]}. "
                f"Build it with {'in' if self.embed is None else 'out'}_features={rows.shape[2]}."
            )
        return rows


def known_outputs(outputs: int | None, learner: str) -> int:
    """``outputs``, which this learner's layers are sized by.

    Raises:
        InputError: nobody said how many there are.
    """
    if outputs is None or outputs < 1:
        raise InputError(
            f"{learner} needs to know its size, received outputs={outputs}. "
            "Pass outputs= (the way, or the target's dimension)."
        )
    return outputs


def check_fits(examples: Examples, target: Literal["classes", "real"], outputs: int) -> None:
    """The tasks are of the kind, and no larger than, what a learner was built for.

    Raises:
        InputError: another target, more classes, or another number of real values.
    """
    if isinstance(examples.target, Real) != (target == "real") or not isinstance(examples.target, (Real, Classes)):
        raise InputError(
            f"This learner was built for target={target!r}, the tasks have {examples.target}. "
            "Build it with the tasks' target."
        )
    if isinstance(examples.target, Real) and examples.target.dim != outputs:
        raise InputError(
            f"This learner was built for {outputs} real values an example, the tasks have {examples.target.dim}. "
            f"Build it with outputs={examples.target.dim}."
        )
    if isinstance(examples.target, Classes) and examples.max_way > outputs:
        raise InputError(
            f"Cannot learn {examples.max_way}-way tasks: this learner has room for {outputs} classes. "
            "Meta-train one with the larger way."
        )


def label_rows(examples: Examples, width: int, like: Tensor) -> Tensor:
    """Labels as numbers ``[T, N, width]``: one-hot classes, or the real values; zero where there is no label.

    Args:
        examples: labelled.
        width: classes, or real values an example.
        like: gives the dtype.
    """
    assert examples.y is not None
    if isinstance(examples.target, Classes):
        values = F.one_hot(examples.y.masked_fill(~examples.labelled, 0), width).to(like.dtype)
    else:
        values = examples.y.to(like.dtype)
    return torch.where(examples.labelled[..., None], values, 0.0)


def order_keys(order: Order, key: Keys | None, n_task: int) -> Keys | None:
    """What :func:`to_front` draws the order of each task's rows from; None: they stay as they are.

    Task sources list a support class by class. Read so, a label is known by its place, and a learner of sequences
    learns that instead of its task.
    """
    if order == "given":
        return None
    return (Keys.default(n_task) if key is None else key).fold("order")


def to_front(rows: Tensor, there: Tensor, key: Keys | None = None) -> Tensor:
    """Each task's rows that are there, moved to the front; zero behind them.

    Args:
        rows: ``[T, N, ...]``.
        there: bool ``[T, N]``.
        key: draws the order of each task's rows; None: they keep theirs.
    """
    order = (~there).to(torch.int8).argsort(dim=1, stable=True)
    if key is not None:
        drawn = shuffle(key.bits(there.shape[1]), there.sum(1).cpu().numpy())
        order = order.gather(1, torch.from_numpy(drawn).to(order.device))
    task = torch.arange(len(rows), device=rows.device)[:, None]
    front = there[task, order]
    return torch.where(front.view(*front.shape, *(1,) * (rows.dim() - 2)), rows[task, order], 0.0)
