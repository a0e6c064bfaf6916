"""Floor 3: a network trained as a classifier over all training classes, and what is kept of a task's support on it."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.learners.learner import MetaLoss, Traits, check_query, check_support
from quickstudy.learners.parts.baseclassifier import BaseClassifier, wrong_size
from quickstudy.learners.parts.classwise import check_classes, check_every_class, membership, row_mean
from quickstudy.learners.parts.embedder import Embedder
from quickstudy.learners.parts.features import check_singly, feature_size
from quickstudy.learners.parts.options import one_of
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
            features, then to unit length (Wang et al. 2019); training gathers that mean, else :meth:`centre_on` does.
        kind: of the classifier; see :class:`BaseClassifier`.
        scale: of a cosine classifier.
        smoothing: of its labels.
        out_features: the network's feature size, where it has no attribute of that name.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: the network looks at other examples, its feature size is not known, or an option is out of range.
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
        one_of("This learner", "transform", transform, get_args(Transform))
        one_of("This learner", "classifier", kind, ("linear", "cosine"))
        check_smoothing(smoothing)
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

    def centre_on(self, *examples: Examples) -> None:
        """Write the mean feature of these examples as the one that ``"cl2n"`` takes away.

        For a network that was trained elsewhere, or not at all: training by ``batch_loss`` gathers the mean by itself.
        Called by the user, with examples of the training classes.

        Args:
            examples: sets of ``[T, N, ...]``, such as batches; all rows weigh the same. Labels are not looked at.

        Raises:
            InputError: no example, or in training mode, in which features are others than those of a new task.
        """
        if self.training:
            raise InputError("Cannot centre on features of training mode. Call eval() on the learner first.")
        total, n = torch.zeros_like(self.mean, dtype=torch.promote_types(self.mean.dtype, torch.float32)), 0
        with torch.no_grad():
            for rows in examples:
                features = self.embed.support(rows).out.flatten(2)
                total += torch.where(rows.real[..., None], features, 0.0).sum((0, 1))
                n += int(rows.real.sum())
            if not n:
                raise InputError("Cannot centre on no example. Give examples of the training classes.")
            self.mean.copy_(total / n)
            self.batches.fill_(max(1, len(examples)))

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
        check_query(query, known)
        return self.transformed(self.embed.query({}, query), query)

    def transformed(self, features: Tensor, examples: Examples) -> Tensor:
        """``[T, N, ...] -> [T, N, D]``, zero on padding, in float32 at least.

        Raises:
            InputError: the mean is to be taken away, but nobody measured it; or D is not what was said.
        """
        features = features.flatten(2).to(torch.promote_types(features.dtype, torch.float32))
        if features.shape[2] != self.mean.numel():
            raise InputError(wrong_size(self.mean.numel(), features))
        if self.transform == "cl2n":
            if not float(self.batches):
                raise InputError(
                    'The transform "cl2n" takes away the mean feature of the training classes, which nobody measured: '
                    "this learner was not trained. Train it on plain labelled batches; or, if its network was trained "
                    "elsewhere, call learner.base.centre_on(examples) with examples of the training classes; or choose "
                    "another transform."
                )
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


def check_smoothing(smoothing: float) -> None:
    """Label smoothing leaves the true class something.

    Raises:
        InputError: it does not.
    """
    if not 0 <= smoothing < 1:
        raise InputError(f"Labels are smoothed by a share from 0 up to, but not, 1, received smoothing={smoothing}.")


def joined(more: Examples, state: Examples | None) -> Examples:
    """What was known and what came now, one example of each class at least.

    Raises:
        InputError: a class has no example.
    """
    known = more if state is None else state.followed_by(more)
    check_every_class(membership(known).sum(1), known)
    return known
