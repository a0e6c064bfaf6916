"""MAML++."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.inner import Params, Rate
from quickstudy.inner.optimizers import per_task, per_task_mask
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_episode, check_support, task_logs
from quickstudy.learners.parts.headed import (
    Head,
    HeadedNet,
    Part,
    TargetKind,
    check_norms,
    default_norm,
    module_key,
)
from quickstudy.learners.parts.innerloop import (
    FastWeights,
    InnerLoop,
    Memory,
    check_shared_head,
    gradient_traits,
    predict_with,
)
from quickstudy.nets.adapters import is_norm
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import Moments

_LEAST_SHARE = 0.03
"""What an earlier step's loss keeps of its equal share until the annealing ends (the authors' code)."""


@dataclass(frozen=True, eq=False)
class SteppedWeights:
    """What a task taught MAML++.

    Args:
        params: φ and the norms of the last step, name -> ``[T, ...]``.
        moments: norm moments of the support under them, or None.
        steps: int64 ``[T]``, how many steps led there; going on takes the next ones' rates and norms.
    """

    params: Params
    moments: Moments | None
    steps: Tensor


class MAMLPlusPlus(AbstractLearner):
    """MAML made stable: learned rates, norms and a loss for each inner step.

    A. Antoniou, H. Edwards, A. Storkey, "How to train your MAML", ICLR 2019.

    adapt:      φ_{k+1} = φ_k - α_k ∇L_support(φ_k; γ_k, β_k), a learned rate α for each weight tensor and step, and
                a scale γ and shift β of the norms for each step, meta-learned and not adapted
    predict:    the network under the last φ, with the last step's norms
    meta-loss:  Σ_k v_k L_query(φ_k), the weights v equal at first and annealed to the last step alone

    Unlike MAML each step has rates and norms of its own, and the first gradients of meta-training need not pass
    through all steps. Unlike Meta-SGD there is one rate a weight tensor, not one a number, so it adds few parameters.
    (The paper says one a layer; its code has one for the weight and one for the bias.)

    When to choose it: where MAML with several inner steps is unstable, or its inner rate hard to choose.

    The two annealings count training tasks, not outer steps, so that a step gives the same result in however many
    portions it is computed: 500 steps of 8 tasks are 4,000. The count is carried by the engine and saved.

    Deviations: both annealings are off until their lengths are given, which belong to that of the training (the
    authors' Omniglot runs anneal the loss over 10 of 100 epochs, and are of second order throughout). The paper anneals
    by epochs, here every task has its own place on the same line. The paper keeps running statistics for each step; its
    code normalises with the current rows even so, and here too statistics are those of the current pass: of each step,
    under its own weights. For inner steps after the last that was trained (``test_inner_steps``, or ``adapt`` going on
    from a state), the last one's rates and norms are used. The cosine outer schedule is the recipe's.

    Inductive by default, with TaskNorm-I; published figures are *transductive*, which is an option.

    Args:
        net: the network; see ``head`` for what it must output.
        outputs: the way, or the dimension of real targets.
        target: ``"classes"``, ``"multi-label"`` or ``"real"``.
        inner_steps: steps in meta-training.
        inner_lr: α at first.
        test_inner_steps: steps in ``adapt`` (meta-testing); ``inner_steps`` by default.
        learn_rates: α is meta-trained.
        per_step_norms: each step has scales and shifts of its own; otherwise norms are weights like others.
        multi_step_until: training tasks over which the loss anneals to the last step; 0: the last step alone.
        first_order_until: training tasks for which the steps' gradients are held constant.
        memory: ``"unrolled"``, or with the activations of one step at a time, each computed once more for the same
            gradient, ``"checkpointed"`` or ``"adjoint"``.
        head: ``"fixed"``, ``"shared"``, ``"proto"`` or ``"none"``; see ``learners.parts.headed``.
        part: what is adapted; see ``learners.parts.headed``.
        rank: of ``part="lora"``.
        transductive: queries normalised together, as published; needs a network with norm="transductive".
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together, or a network with running batch statistics.

    >>> from quickstudy.nets import MLP
    >>> learner = MAMLPlusPlus(MLP(4, norm="task"), outputs=5, inner_steps=3)
    >>> learner.rates["head/weight"].shape, learner.norms["net/norms/0/weight"].shape
    (torch.Size([3]), torch.Size([2, 40]))
    """

    tasks_seen: Tensor

    def __init__(
        self,
        net: nn.Module,
        outputs: int | None = None,
        target: TargetKind = "classes",
        *,
        inner_steps: int = 5,
        inner_lr: float = 0.1,
        test_inner_steps: int | None = None,
        learn_rates: bool = True,
        per_step_norms: bool = True,
        multi_step_until: int = 0,
        first_order_until: int = 0,
        memory: Memory = "unrolled",
        head: Head = "fixed",
        part: Part = "all",
        rank: int = 4,
        transductive: bool = False,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        check_norms(net, transductive=transductive)
        if min(multi_step_until, first_order_until) < 0:
            raise InputError(
                "multi_step_until and first_order_until count training tasks and cannot be negative, received "
                f"{multi_step_until} and {first_order_until}."
            )
        if per_step_norms and part in ("norms", "film"):
            raise InputError(
                f"part={part!r} adapts what per_step_norms=True leaves to meta-training. Use per_step_norms=False."
            )
        self.loop = InnerLoop.checked(inner_steps, inner_lr, test_inner_steps, None, memory=memory)
        self.model = HeadedNet(
            net, outputs, target, head, part=part, rank=rank, out_features=out_features, strategy=strategy
        )
        check_shared_head(self.model, min(self.loop.steps, self.loop.test_steps))
        own = dict(self.model.named_parameters())
        norms = _norm_names(self.model) if per_step_norms else []
        self.model.adapted = tuple(name for name in self.model.adapted if name not in norms)
        slots = max(self.loop.steps, 1)
        # The first step's scales and shifts are the network's; those of the later steps start equal to them.
        self.norms = nn.ParameterDict(
            {
                module_key(name): nn.Parameter(own[name].detach().expand(slots - 1, *own[name].shape).clone())
                for name in norms
            }
        )
        self.rates = nn.ParameterDict(
            {
                module_key(name): nn.Parameter(torch.full((slots,), float(inner_lr)), requires_grad=learn_rates)
                for name in self.model.shapes
            }
        )
        self.multi_step_until, self.first_order_until = multi_step_until, first_order_until
        self.transductive = transductive
        self.register_buffer("tasks_seen", torch.zeros((), dtype=torch.int64))

    default_norm = staticmethod(default_norm)

    @property
    @override
    def traits(self) -> Traits:
        exact = int(self.tasks_seen) >= self.first_order_until
        return gradient_traits(self.model, transductive=self.transductive, exact=exact)

    @override
    def adapt(
        self, support: Examples, *, state: SteppedWeights | None = None, key: Keys | None = None
    ) -> SteppedWeights:
        check_support(support, state)
        del key
        taken = torch.zeros(support.n_task, dtype=torch.int64, device=support.device) if state is None else state.steps
        if state is None:
            start = {name: p.clone() for name, p in self.model.start(support).items()}
        else:
            self.model.check(support, state.params)
            start = {name: state.params[name] for name in self.model.shapes}
        (params,) = deque(self._descend(support, start, self.loop.test_steps, taken=taken), maxlen=1)
        return SteppedWeights(params, self.model.support_moments(params, support), taken + self.loop.test_steps)

    @override
    def predict(self, state: SteppedWeights, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        return predict_with(self.model, FastWeights(state.params, state.moments), query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The query losses after each step, weighted by how far meta-training is; counts the tasks."""
        del key
        check_episode(episode)
        support, query = episode.support, episode.query
        seen = int(self.tasks_seen) + torch.arange(episode.n_task)  # each task's place in meta-training
        path = self._descend(support, self.model.start(support), self.loop.steps, seen < self.first_order_until)
        total = torch.zeros((), device=support.device)
        for share, params in zip(self._shares(seen), path, strict=True):
            if bool(share.any()):
                state = FastWeights(params, self.model.support_moments(params, support))
                outputs = self.model.run(state.params, query.unlabelled(), state.moments)[0]
                loss = self.loss(outputs, query)
                total = total + share.to(loss) * loss
        return MetaLoss(total, task_logs(outputs, query), {"tasks_seen": torch.ones_like(seen)})

    @override
    def foreseen(self, n_task: int) -> dict[str, Tensor]:
        return {"tasks_seen": torch.ones(n_task, dtype=torch.int64)}

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        self.tasks_seen += int(carried["tasks_seen"].sum())

    @override
    def learned_rates(self) -> dict[str, Tensor]:
        return {name: self.rates[module_key(name)].detach()[:, None] for name in self.model.shapes}

    def _shares(self, seen: Tensor) -> list[Tensor]:
        """What each step's query loss counts for each task, ``[T]``; first of the weights before any step."""
        steps = self.loop.steps
        if steps == 0:
            return [torch.ones(seen.shape)]
        progress = seen / max(self.multi_step_until, 1)
        earlier = torch.where(progress < 1, (1 - progress).clamp(min=_LEAST_SHARE) / steps, 0.0)
        if self.multi_step_until == 0:
            earlier = torch.zeros(seen.shape)
        return [torch.zeros(seen.shape), *[earlier] * (steps - 1), 1 - (steps - 1) * earlier]

    def _descend(
        self,
        support: Examples,
        start: Params,
        steps: int,
        first_order: Tensor | None = None,
        taken: Tensor | None = None,
    ) -> Iterator[Params]:
        """φ with its norms, before the first step and after each.

        Args:
            support: ``[T, Ns, ...]``.
            start: φ.
            steps: how many.
            first_order: bool ``[T]``, tasks whose gradients are held constant.
            taken: int64 ``[T]``, steps that led to ``start``; 0 by default.
        """
        before = torch.zeros(support.n_task, dtype=torch.int64, device=support.device) if taken is None else taken

        def losses(step: int, params: Params) -> Tensor:
            params = params | self._norms_of(before + step)
            return self.loss(self.model.run(params, support)[0], support)

        def update(step: int, params: Params, grads: Params) -> Params:
            if first_order is not None and first_order.any() and not first_order.all():
                held = first_order.to(support.device)
                grads = {name: torch.where(per_task_mask(held, g), g.detach(), g) for name, g in grads.items()}
            return {name: p - self._rate(name, before + step, p) * grads[name] for name, p in params.items()}

        second_order = first_order is None or not bool(first_order.all())
        reads = tuple(self.parameters())
        path = self.loop.path(losses, start, steps, update, reads=reads, second_order=second_order)
        for step, params in enumerate(path):
            # As the authors do, queries after step k meet the norms of step k.
            yield params | self._norms_of((before + step - 1).clamp(min=0))

    def _rate(self, name: str, step: Tensor, like: Tensor) -> Rate:
        """Each task's rate in its step, ``[T]``, with as many axes as ``like``."""
        rates = self.rates[module_key(name)]
        return per_task(rates[step.clamp(max=len(rates) - 1)], like)

    def _norms_of(self, step: Tensor) -> Params:
        """Scales and shifts of each task in its step ``[T]``, ``[T, ...]``."""
        own = dict(self.model.named_parameters())
        found = {}
        for key, later in self.norms.items():
            name = key.replace("/", ".")
            found[name] = torch.cat([own[name][None], later])[step.clamp(max=len(later))]
        return found


def _norm_names(model: HeadedNet) -> list[str]:
    """The parameters of the network's norms, as the model names them."""
    return [
        f"net.{layer}.{name}" if layer else f"net.{name}"
        for layer, norm in model.net.named_modules()
        if is_norm(norm)
        for name, p in norm.named_parameters(recurse=False)
        if p.requires_grad
    ]
