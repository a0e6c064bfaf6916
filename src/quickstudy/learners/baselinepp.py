"""Baseline++ of "A closer look at few-shot classification"."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.inner import Params
from quickstudy.keys import Keys, uniform
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_query
from quickstudy.learners.parts.classwise import mask_absent
from quickstudy.learners.parts.pretrained import Pretrained
from quickstudy.learners.parts.similarity import similarity
from quickstudy.learners.parts.solved import refuse_state
from quickstudy.learners.parts.supporthead import HeadTraining
from quickstudy.nets.apply import Strategy


@dataclass(frozen=True, eq=False)
class CosineClassifier:
    """A direction for each class of each task.

    Args:
        weight: ``[T, W, D]``.
    """

    weight: Tensor


class BaselinePlusPlus(AbstractLearner):
    """The baseline with cosines in place of scalar products: classes are directions, in training and for a new task.

    W.-Y. Chen, Y.-C. Liu, Z. Kira, Y.-C. F. Wang, J.-B. Huang, "A closer look at few-shot classification", ICLR 2019.

    batch-loss: cross-entropy of ``scale`` cos(f(x), a_k) over all training classes; the a_k are then thrown away
    adapt:      w_k = ``steps`` steps of SGD on the cross-entropy of ``test_scale`` cos(f(x), w_k) over the support
    predict:    logits_k = ``test_scale`` cos(f(x), w_k)

    Unlike Baseline nothing is won by longer features or weights, so that the features of a class are drawn to one
    direction. Unlike Meta-Baseline, the direction of a new class is trained and not the mean of its features.

    When to choose it: instead of Baseline where new classes are near the training classes (birds, faces), as in the
    paper; under a change of domain Baseline was as good.

    Deviations: the authors' code also learns the length of each class's weight, which multiplies the cosine; the
    paper does not have it, nor has this. ``steps`` is the paper's 100 minibatches of 4; the code makes 100 passes over
    the support. Scales (10 for more than 200 classes, else 2: so 2 for a task), momentum, dampening and weight decay
    are the code's.

    Inductive: a prediction depends on the support and that query alone. Directions start at random, each label's at
    its own, so that renaming classes changes predictions a little.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        classes: how many training classes there are; needed to train.
        scale: times the cosine, in training; with up to 200 training classes the authors' code takes 2.
        test_scale: times the cosine, in a task.
        steps: minibatches in ``adapt``.
        lr: their rate.
        batch: rows a minibatch; None: the whole support.
        momentum: of SGD, and its dampening.
        weight_decay: of the directions.
        out_features: D, where the network does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: a scale that is not above 0, the network's norms look at other rows, its feature size is not known.

    >>> from quickstudy.nets import MLP
    >>> BaselinePlusPlus(MLP(4), classes=64).traits.renames
    False
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: int | None = None,
        scale: float = 10.0,
        test_scale: float = 2.0,
        steps: int = 100,
        lr: float = 0.01,
        batch: int | None = 4,
        momentum: float = 0.9,
        weight_decay: float = 1e-3,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        if not (0 < scale < math.inf and 0 < test_scale < math.inf):
            raise InputError(f"Baseline++ needs scales above 0, received scale={scale} and test_scale={test_scale}.")
        self.base = Pretrained(net, classes, kind="cosine", scale=scale, out_features=out_features, strategy=strategy)
        self.test_scale = test_scale
        self.head_training = HeadTraining(steps, lr, batch, momentum, weight_decay)

    @property
    @override
    def traits(self) -> Traits:
        return Traits(
            order_invariant=self.head_training.batch is None,
            renames=False,
            exact_meta_gradient=False,
            phases=("batches",),
        )

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> CosineClassifier:
        known = self.base.known(support, None)
        refuse_state(state, "Baseline++")
        features = cast(Tensor, known.x).detach()
        start = {"weight": _directions(known.max_way, features, key)}
        frozen = Examples(features, known.y, known.target, known.mask)
        return CosineClassifier(**self.head_training.run(self._logits, start, frozen, key))

    @override
    def predict(self, state: CosineClassifier, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, state.weight.shape[1])
        features = self.base.transformed(self.base.embed.query({}, query), query)
        return mask_absent(self._logits({"weight": state.weight}, features), query)

    @override
    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        del key
        return self.base.batch_loss(batch)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        self.base.absorb(carried)

    def _logits(self, params: Params, features: Tensor) -> Tensor:
        return self.test_scale * similarity(features, params["weight"], "cosine")


def _directions(way: int, features: Tensor, key: Keys | None) -> Tensor:
    """Where the classes of each task start, ``[T, W, D]``: torch's initial weights of a linear layer, by our keys."""
    n_task, _, size = features.shape
    # A class's numbers do not depend on how many classes there are beside it.
    keys = (Keys.default(n_task) if key is None else key).fold("directions")
    drawn = torch.from_numpy(2 * uniform(keys.bits(way * size)) - 1).to(features)
    return drawn.view(n_task, way, size) / math.sqrt(size)
