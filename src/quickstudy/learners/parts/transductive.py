"""Floor 3: what the transductive learners share: a plainly trained network, and sums over sets that are known whole.

All of them train a network as a classifier over all training classes, keep the features of a task's support, and do
their work when the queries come. Sums over queries leave padding out, so that a task is answered as if alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.episode import Classes, Examples
from quickstudy.errors import InputError
from quickstudy.inner import InnerOptimizer, Params, trajectory
from quickstudy.learners.learner import MetaLoss, Traits, check_support
from quickstudy.learners.parts.baseclassifier import BaseClassifier
from quickstudy.learners.parts.classwise import check_every_class, class_means, mask_absent, same_tasks
from quickstudy.learners.parts.embedder import Embedder
from quickstudy.learners.parts.features import check_singly
from quickstudy.nets.apply import Strategy, apply
from quickstudy.nets.norms import absorb_statistics

Transform: TypeAlias = Literal["none", "l2", "cl2n"]

_MEAN = "mean of the features"
_SLOWEST = 0.01
"""The share of one batch in the mean of the training features, once there were a hundred."""


class Pretrained(nn.Module):
    """A network trained as a classifier over all training classes, and the transform of its features.

    Args:
        net: maps ``[N, ...]`` to features.
        classes: how many training classes there are; None where nobody said, and then it cannot be trained.
        transform: of the features: ``"none"``, ``"l2"`` to unit length, ``"cl2n"`` minus the mean of the training
            features, then to unit length (Wang et al. 2019).
        kind: of the classifier; see :class:`BaseClassifier`.
        scale: of a cosine classifier.
        smoothing: of its labels.
        out_features: the network's feature size, where it has no attribute of that name.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: the network looks at other examples, or its feature size is not known.
    """

    mean: Tensor
    batches: Tensor

    def __init__(
        self,
        net: nn.Module,
        classes: int | None,
        *,
        transform: Transform = "none",
        kind: Literal["linear", "cosine"] = "linear",
        scale: float = 10.0,
        smoothing: float = 0.0,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        check_singly(net)
        size = feature_size(net, out_features)
        self.embed, self.transform = Embedder(net, strategy), transform
        self.classifier = BaseClassifier(size, classes, kind=kind, scale=scale, smoothing=smoothing)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("batches", torch.zeros(()))

    def batch_loss(self, batch: Examples) -> MetaLoss:
        """Cross-entropy of a plain labelled batch; the mean of its features is carried."""
        applied = apply(self.embed.net, batch.x, mask=batch.mask, strategy=self.embed.strategy)
        out = self.classifier.batch_loss(applied, batch)
        mean = row_mean(applied.out.detach().flatten(2), batch.real)
        return MetaLoss(out.loss, out.logs, out.carried | {_MEAN: mean})

    def absorb(self, carried: dict[str, Tensor]) -> None:
        """The mean of all batches at first, then one in which old batches fade, as the network has moved on."""
        absorb_statistics(self.embed.net, {name: value for name, value in carried.items() if name != _MEAN})
        with torch.no_grad():
            for mean in carried.get(_MEAN, ()):
                self.batches += 1
                self.mean += (mean - self.mean) * max(1 / float(self.batches), _SLOWEST)

    def known(self, support: Examples, state: Examples | None) -> Examples:
        """The labelled features of a task: what ``adapt`` returns.

        Args:
            support: ``[T, Ns, ...]``.
            state: what was known before.

        Raises:
            InputError: the support cannot be learned from, or a class has no example.
        """
        check_support(support, state)
        check_classes(support)
        features = self.transformed(self.embed.support(support).out, support)
        return joined(Examples(features, support.y, support.target, support.mask), state)

    def queries(self, known: Examples, query: Examples) -> Tensor:
        """Features ``[T, Nq, D]`` of queries of the same tasks, zero on padding."""
        same_tasks(known.n_task, query)
        return self.transformed(self.embed.query({}, query), query)

    def transformed(self, features: Tensor, examples: Examples) -> Tensor:
        """``[T, N, ...] -> [T, N, D]``, zero on padding."""
        features = features.flatten(2)
        if self.transform == "cl2n":
            features = features - self.mean
        if self.transform != "none":
            features = F.normalize(features, dim=2)
        return torch.where(examples.real[..., None], features, 0.0)


def transductive_traits(*, balanced_prior: bool = False, exact: bool = True) -> Traits:
    """Of a learner that keeps the support's features and answers all queries of a task together."""
    return Traits(
        transductive=True,
        balanced_prior=balanced_prior,
        incremental=True,
        exact_meta_gradient=exact,
        phases=("batches",),
    )


def feature_size(net: nn.Module, out_features: int | None) -> int:
    """The size of a network's features.

    Raises:
        InputError: nobody said it.
    """
    size = out_features if out_features is not None else getattr(net, "out_features", None)
    if not isinstance(size, int):
        raise InputError(
            f"Cannot build a classifier on {type(net).__name__}: its feature size is not known. "
            "Give the network an attribute out_features, or pass out_features=."
        )
    return size


def check_classes(support: Examples) -> None:
    """The tasks tell classes apart.

    Raises:
        InputError: they have other targets.
    """
    if not isinstance(support.target, Classes):
        raise InputError(
            f"This learner needs classes, the tasks have {support.target}. Use a learner of that target, such as MAML."
        )


def joined(more: Examples, state: Examples | None) -> Examples:
    """What was known and what came now, one example of each class at least.

    Raises:
        InputError: a class has no example.
    """
    known = more if state is None else state.followed_by(more)
    check_every_class(_belongs(known).sum(1), known)
    return known


def members(known: Examples) -> Tensor:
    """1 where a labelled row is of a class, else 0: ``[T, N, W]``, in the features' dtype."""
    assert isinstance(known.x, Tensor)
    return _belongs(known).to(known.x.dtype)


def _belongs(known: Examples) -> Tensor:
    assert known.y is not None
    classes = torch.arange(known.max_way, device=known.device)
    return (classes == known.y[..., None]) & known.labelled[..., None]


def present(known: Examples) -> Tensor:
    """Which classes a task has, bool ``[T, 1, W]``."""
    assert isinstance(known.target, Classes)
    return torch.arange(known.max_way, device=known.device) < known.target.way[:, None, None]


def row_mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean over the rows that count, ``[T, N, ...] -> [T, ...]``.

    Args:
        values: finite in every row.
        counted: bool ``[T, N]``.
    """
    weights = counted.to(values.dtype) / counted.sum(1, keepdim=True).clamp(min=1)
    return torch.einsum("tn,tn...->t...", weights, values)


def prototypes(known: Examples) -> Tensor:
    """Class means ``[T, W, D]``, zero for classes that a task does not have."""
    assert isinstance(known.x, Tensor)
    return class_means(known.x, known)[0]


def rectified(known: Examples, query: Tensor, real: Tensor, sharpness: float, confident: int | None) -> Tensor:
    """Prototypes of the support and of the queries that are most like it (Liu et al. 2020).

    Each class takes its labelled rows and the queries nearest to its prototype, weighted by exp(ε cos).

    Args:
        known: labelled features ``[T, Ns, D]``.
        query: features ``[T, Nq, D]``, shifted to where the support is.
        real: bool ``[T, Nq]``.
        sharpness: ε.
        confident: queries that a class takes at most; None: all that are nearest to it.

    Returns:
        ``[T, W, D]``, zero for classes that a task does not have.
    """
    assert isinstance(known.x, Tensor)
    centres = F.normalize(prototypes(known), dim=2).transpose(1, 2)
    cosine = F.normalize(query, dim=2) @ centres  # [T, Nq, W]
    best, label = mask_absent(cosine, known).max(2)
    taken = real
    if confident is not None:
        # How many of the same label are surer: unlike a sort it does not depend on the order of the rows.
        surer = (best[:, None] > best[..., None]) & (label[:, None] == label[..., None]) & real[:, None]
        taken = taken & (surer.sum(2) < confident)
    claimed = F.one_hot(label, known.max_way) * taken[..., None]
    rows = torch.cat([known.x, query], 1)
    alike = torch.cat([F.normalize(known.x, dim=2) @ centres, cosine], 1)
    weights = torch.cat([members(known), claimed.to(query.dtype)], 1) * (sharpness * (alike - 1)).exp()
    weights = weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    return weights.transpose(1, 2) @ rows


def shift_to_support(known: Examples, query: Tensor, real: Tensor) -> Tensor:
    """Queries moved so that their mean is the support's: ``[T, Nq, D]``, zero on padding."""
    assert isinstance(known.x, Tensor)
    shift = row_mean(known.x, known.labelled) - row_mean(query, real)
    return torch.where(real[..., None], query + shift[:, None], 0.0)


def square_distances(rows: Tensor, centres: Tensor) -> Tensor:
    """``|r|^2 - 2 r.c + |c|^2``: ``[T, N, D], [T, W, D] -> [T, N, W]``."""
    square = rows.square().sum(2, keepdim=True) + centres.square().sum(2)[:, None]
    return square - 2 * rows @ centres.transpose(1, 2)


def descended(losses: Callable[[Params], Tensor], start: Params, steps: int, optimizer: InnerOptimizer) -> Params:
    """Weights of each task after some optimiser steps; differentiable in ``start`` to first order.

    Args:
        losses: weights ``[T, ...]`` -> loss ``[T]``.
        start: name -> ``[T, ...]``.
        steps: 0 or more.
        optimizer: turns gradients into steps.
    """
    memory = optimizer.init({name: p.detach() for name, p in start.items()})

    def update(step: int, params: Params, grads: Params) -> Params:
        nonlocal memory
        del step
        moved, memory = optimizer.update(params, grads, memory)
        return moved

    path = trajectory(lambda _, params: losses(params), start, steps=steps, update=update, second_order=False)
    return deque(path, maxlen=1).pop()  # the others need not be kept
