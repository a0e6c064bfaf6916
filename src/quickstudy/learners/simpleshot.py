"""SimpleShot: nearest centroid on transformed features."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_query, check_support
from quickstudy.learners.parts.classwise import mask_absent
from quickstudy.learners.parts.embedder import Features
from quickstudy.learners.parts.pretrained import Pretrained, Transform
from quickstudy.learners.parts.prototypes import Prototypes, prototypes
from quickstudy.learners.parts.similarity import similarity
from quickstudy.nets.apply import Strategy

_TRANSFORMS: dict[str, Transform] = {"un": "none", "l2n": "l2", "cl2n": "cl2n"}


class SimpleShot(AbstractLearner):
    """Train a network as a classifier over all training classes; answer a new task by the nearest class mean.

    Y. Wang, W.-L. Chao, K. Q. Weinberger, L. van der Maaten, "SimpleShot: revisiting nearest-neighbor classification
    for few-shot learning", arXiv:1911.04623, 2019.

    batch-loss: cross-entropy of A f(x) + a over all training classes; A and a are then thrown away
    transform:  un: g = f(x); l2n: g = f(x) / |f(x)|; cl2n: g = (f(x) - m) / |f(x) - m|, m the mean training feature
    adapt:      c_k = mean of g(x) over class k's support
    predict:    logits_k = -|g(x) - c_k|^2

    It is a prototypical network that never saw a task: the same rule, on features that were trained by labels.
    Unlike Baseline nothing is optimised for a new task.

    When to choose it: as the cheapest baseline, and where a network that was trained by labels is at hand.

    Deviations: m is not measured by a last pass over the training data. It is the mean over batches during training,
    of all at first and then one in which old batches fade (by 1 % a batch), as the network moves on; it is kept with
    the weights. For a network that was trained elsewhere ``learner.base.centre_on(examples)`` measures it, with
    examples of the training classes. Where neither was done ``adapt`` refuses.

    Inductive: a prediction depends on the support and that query alone.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        transform: ``"un"``, ``"l2n"`` or ``"cl2n"``.
        classes: how many training classes there are; needed to train.
        out_features: D, where the network does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: no such transform, the network's norms look at other rows, its feature size is not known.

    >>> from quickstudy.nets import MLP
    >>> SimpleShot(MLP(4), classes=64).traits.incremental
    True
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        transform: Literal["un", "l2n", "cl2n"] = "cl2n",
        classes: int | None = None,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        if transform not in _TRANSFORMS:
            raise InputError(f"SimpleShot has no transform {transform!r}. Use one of {', '.join(_TRANSFORMS)}.")
        self.base = Pretrained(
            net, classes, transform=_TRANSFORMS[transform], out_features=out_features, strategy=strategy
        )

    @property
    @override
    def traits(self) -> Traits:
        return Traits(incremental=True, phases=("batches",))

    @override
    def adapt(self, support: Examples, *, state: Prototypes | None = None, key: Keys | None = None) -> Prototypes:
        check_support(support, state)
        del key
        features = self.base.transformed(self.base.embed.support(support).out, support)
        return prototypes(Features(features, {}), support, state)

    @override
    def predict(self, state: Prototypes, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, state.ways)
        features = self.base.transformed(self.base.embed.query({}, query), query)
        return mask_absent(similarity(features, state.means, "squared"), query)

    @override
    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        del key
        return self.base.batch_loss(batch)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        self.base.absorb(carried)
