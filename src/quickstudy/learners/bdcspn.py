"""BD-CSPN: prototypes rectified by the queries."""

from __future__ import annotations

from math import inf
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.parts.classwise import mask_absent
from quickstudy.learners.parts.pretrained import Pretrained, Transform, transductive_traits
from quickstudy.learners.parts.rectification import rectified, shift_to_support
from quickstudy.nets.apply import Strategy


class BDCSPN(AbstractLearner):
    """Move the queries to where the support is, let each class take the queries nearest to it, and compare anew.

    J. Liu, L. Song, Y. Qin, "Prototype rectification for few-shot learning", ECCV 2020.

    adapt:    keep the support's features s, and each class's mean p_k
    predict:  q' = q + mean(s) - mean(q); class k takes its support and the ``confident`` queries that are nearest to
              p_k in cosine; p'_k = Σ w x over what it took, w ∝ exp(ε cos(x, p_k)); logits_k = τ cos(q', p'_k)
    meta-loss: cross-entropy over all training classes with a cosine classifier (plain labelled batches)

    LaplacianShot takes the same prototypes and then makes neighbouring queries agree; TIM moves its class weights by
    gradients instead. This one has two closed-form steps and no iteration.

    When to choose it: many queries come at once, the features are given, and an answer must cost next to nothing.

    Deviations: the network is whatever is given, trained by ``[pretrain]``; the paper trains a ResNet-12 with a cosine
    classifier of its own settings. Support rows keep their own label when weights are made, as the paper has it.

    Transductive: the shift and the prototypes depend on all queries of a task. The shift supposes that support and
    queries hold about the same mixture of classes. A lone query is not moved, because nothing of it would be left.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``, each example alone.
        classes: how many training classes there are; needed to train.
        confident: Z, queries that a class takes at most; None: all that are nearest to it.
        sharpness: ε.
        scale: τ.
        shift: whether queries are moved to the support's mean.
        transform: of features: ``"none"``, ``"l2"``, ``"cl2n"``; see ``learners.parts.pretrained``.
        classifier: of the training, ``"cosine"`` or ``"linear"``.
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: ``confident`` below 1, another option out of range, or a network that looks at other examples.

    >>> from quickstudy.nets import MLP
    >>> BDCSPN(MLP(4)).traits.transductive
    True
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: int | None = None,
        confident: int | None = 8,
        sharpness: float = 10.0,
        scale: float = 10.0,
        shift: bool = True,
        transform: Transform = "l2",
        classifier: Literal["linear", "cosine"] = "cosine",
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        if confident is not None and not confident >= 1:
            raise InputError(f"BD-CSPN lets each class take at least 1 query, received confident={confident}.")
        if not (0 <= sharpness < inf and 0 < scale < inf):
            raise InputError(
                f"BD-CSPN needs a sharpness of at least 0 and a scale above 0, received {sharpness} and {scale}."
            )
        self.base = Pretrained(
            net, classes, transform=transform, kind=classifier, out_features=out_features, strategy=strategy
        )
        self.confident, self.sharpness, self.scale, self.shift = confident, sharpness, scale, shift

    @property
    @override
    def traits(self) -> Traits:
        return transductive_traits()

    @override
    def adapt(self, support: Examples, *, state: Examples | None = None, key: Keys | None = None) -> Examples:
        """The state is the support set, with features in place of inputs."""
        del key
        return self.base.known(support, state)

    @override
    def predict(self, state: Examples, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        features = self.base.queries(state, query)
        if self.shift:
            features = shift_to_support(state, features, query.real)
        centres = rectified(state, features, query.real, self.sharpness, self.confident)
        cosine = F.normalize(features, dim=2) @ F.normalize(centres, dim=2).transpose(1, 2)
        return mask_absent(self.scale * cosine, query)

    @override
    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        del key
        return self.base.batch_loss(batch)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        self.base.absorb(carried)
