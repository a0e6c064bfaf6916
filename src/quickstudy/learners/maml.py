"""Model-agnostic meta-learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.inner import Params, descend
from quickstudy.keys import Keys
from quickstudy.learners.headed import Head, HeadedNet, check_norms, default_norm, losses_on
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_support, task_logs
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import Moments


@dataclass(frozen=True, eq=False)
class FastWeights:
    """What a task taught a gradient-based learner.

    Args:
        params: φ, name -> ``[T, ...]``.
        moments: norm moments of the support under φ, or None.
    """

    params: Params
    moments: Moments | None


class MAML(AbstractLearner):
    """Learn an initialisation from which a few gradient steps on the support solve the task.

    C. Finn, P. Abbeel, S. Levine, "Model-agnostic meta-learning for fast adaptation of deep networks", ICML 2017.

    adapt:      φ = θ - α ∇L_support(θ), ``inner_steps`` times
    meta-loss:  L_query(φ), differentiated through the steps (``first_order=True``: the steps' gradients held
                constant, which is cheaper)

    Unlike Reptile it needs a query set in training and second derivatives. Published numbers are
    *transductive*: batch norm uses the query batch's statistics. Here that is an option; the default norm is
    TaskNorm-I, for which a prediction depends on the support and that query alone.

    Args:
        net: the network; see ``head`` for what it must output.
        outputs: the way, or the dimension of real targets.
        target: ``"classes"`` or ``"real"``.
        inner_steps: steps in meta-training.
        inner_lr: α.
        test_inner_steps: steps in ``adapt`` (meta-testing); ``inner_steps`` by default.
        test_inner_lr: β, the rate there; ``inner_lr`` by default.
        first_order: FOMAML.
        head: ``"fixed"``, ``"shared"``, ``"proto"`` or ``"none"``; see ``learners.headed``.
        transductive: queries normalised together, as published; needs a network with norm="transductive".
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together, or a network with running batch statistics.

    >>> from quickstudy.nets import MLP
    >>> MAML(MLP(4), outputs=5, inner_lr=0.1).traits.transductive
    False
    """

    def __init__(
        self,
        net: nn.Module,
        outputs: int | None = None,
        target: Literal["classes", "real"] = "classes",
        *,
        inner_steps: int = 5,
        inner_lr: float = 0.1,
        test_inner_steps: int | None = None,
        test_inner_lr: float | None = None,
        first_order: bool = False,
        head: Head = "fixed",
        transductive: bool = False,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        check_norms(net, transductive=transductive)
        self.test_inner_steps = inner_steps if test_inner_steps is None else test_inner_steps
        if min(inner_steps, self.test_inner_steps) < 0:
            raise InputError(f"Inner steps cannot be negative, received {inner_steps} and {test_inner_steps}.")
        if min(inner_lr, inner_lr if test_inner_lr is None else test_inner_lr) < 0:
            raise InputError(f"Inner learning rates cannot be negative, received {inner_lr} and {test_inner_lr}.")
        if head == "shared" and min(inner_steps, self.test_inner_steps) < 2:
            raise InputError(
                f"head='shared' needs at least 2 inner steps, received {min(inner_steps, self.test_inner_steps)}: "
                "until the second all classes share one row. Use more steps, or head='proto'."
            )
        self.model = HeadedNet(net, outputs, target, head, out_features=out_features, strategy=strategy)
        self.inner_steps, self.inner_lr, self.first_order = inner_steps, inner_lr, first_order
        self.test_inner_lr = inner_lr if test_inner_lr is None else test_inner_lr
        self.transductive = transductive

    default_norm = staticmethod(default_norm)

    @property
    @override
    def traits(self) -> Traits:
        head = self.model.kind
        return Traits(
            targets=(self.model.target,),
            any_way=head in ("shared", "proto"),
            renames=head in ("shared", "proto"),
            transductive=self.transductive,
            exact_meta_gradient=not self.first_order,
        )

    @override
    def adapt(self, support: Examples, *, state: FastWeights | None = None, key: Keys | None = None) -> FastWeights:
        check_support(support)
        del key
        start = self.model.start(support) if state is None else state.params
        return self._steps(support, start, self.test_inner_steps, self.test_inner_lr)

    @override
    def predict(self, state: FastWeights, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        return self.model.run(state.params, query, state.moments)[0]

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        del key
        support = episode.support
        state = self._steps(support, self.model.start(support), self.inner_steps, self.inner_lr)
        outputs = self.predict(state, episode.query.unlabelled())
        return MetaLoss(self.loss(outputs, episode.query), task_logs(outputs, episode.query))

    def _steps(self, support: Examples, start: Params, steps: int, lr: float) -> FastWeights:
        losses = losses_on(self.model, self.loss, support)
        params = descend(losses, start, steps=steps, lr=lr, second_order=not self.first_order)
        return FastWeights(params, self.model.support_moments(params, support))
