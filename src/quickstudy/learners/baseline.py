"""The baseline of "A closer look at few-shot classification"."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.inner import Params
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_query
from quickstudy.learners.logistic import LinearClassifier
from quickstudy.learners.parts.classwise import mask_absent
from quickstudy.learners.parts.pretrained import Pretrained
from quickstudy.learners.parts.solved import refuse_state
from quickstudy.learners.parts.supporthead import HeadTraining
from quickstudy.nets.apply import Strategy
from quickstudy.nets.dense import task_linear


class Baseline(AbstractLearner):
    """Train a network as a classifier over all training classes; for a new task train a new last layer only.

    W.-Y. Chen, Y.-C. Liu, Z. Kira, Y.-C. F. Wang, J.-B. Huang, "A closer look at few-shot classification", ICLR 2019.

    batch-loss: cross-entropy of A f(x) + a over all training classes; A and a are then thrown away
    adapt:      W, b = ``steps`` steps of SGD on the cross-entropy of W f(x) + b over the support, f left as it is
    predict:    logits = W f(x) + b

    Unlike fine-tuning the network itself is not touched by a new task, and unlike Baseline++ a class's logit depends
    on the length of its weights and of the feature, not only on the angle between them.

    When to choose it: as the yardstick. What does not beat it has learned nothing from tasks that it would not have
    learned from labels.

    Deviations: the layer starts from zero instead of torch's random weights, so that renaming classes renames
    predictions. ``steps`` is the paper's 100 minibatches of 4; the authors' code makes 100 passes over the support,
    each with a smaller batch at its end where 4 does not divide it, while here a batch goes on into the next pass.
    Momentum, dampening and weight decay are the code's. There a starts from zero, here as torch draws it.

    Inductive: a prediction depends on the support and that query alone.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        classes: how many training classes there are; needed to train.
        steps: minibatches in ``adapt``.
        lr: their rate.
        batch: rows a minibatch; None: the whole support.
        momentum: of SGD, and its dampening.
        weight_decay: of the layer.
        out_features: D, where the network does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: the network's norms look at other rows, its feature size is not known, or a number makes no sense.

    >>> from quickstudy.nets import MLP
    >>> Baseline(MLP(4), classes=64).traits.phases
    ('batches',)
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: int | None = None,
        steps: int = 100,
        lr: float = 0.01,
        batch: int | None = 4,
        momentum: float = 0.9,
        weight_decay: float = 1e-3,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        self.base = Pretrained(net, classes, out_features=out_features, strategy=strategy)
        self.head_training = HeadTraining(steps, lr, batch, momentum, weight_decay)

    @property
    @override
    def traits(self) -> Traits:
        return Traits(order_invariant=self.head_training.batch is None, exact_meta_gradient=False, phases=("batches",))

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> LinearClassifier:
        known = self.base.known(support, None)
        refuse_state(state, "Baseline")
        features = cast(Tensor, known.x).detach()
        start: Params = {
            "weight": features.new_zeros(known.n_task, known.max_way, features.shape[2]),
            "bias": features.new_zeros(known.n_task, known.max_way),
        }
        frozen = Examples(features, known.y, known.target, known.mask)
        return LinearClassifier(**self.head_training.run(_logits, start, frozen, key))

    @override
    def predict(self, state: LinearClassifier, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, state.weight.shape[1])
        features = self.base.transformed(self.base.embed.query({}, query), query)
        return mask_absent(task_linear(features, state.weight, state.bias), query)

    @override
    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        del key
        return self.base.batch_loss(batch)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        self.base.absorb(carried)


def _logits(params: Params, features: Tensor) -> Tensor:
    return task_linear(features, params["weight"], params["bias"])
