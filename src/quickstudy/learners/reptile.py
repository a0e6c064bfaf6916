"""Reptile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.inner import Params, make_optimizer, optimize
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_episode, check_query, check_support
from quickstudy.learners.parts.headed import (
    Head,
    HeadedNet,
    Part,
    TargetKind,
    check_norms,
    default_norm,
    losses_on,
)
from quickstudy.learners.parts.minibatches import minibatches
from quickstudy.learners.parts.options import one_of
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import Moments, uses_current_rows


@dataclass(frozen=True, eq=False)
class ReptileState:
    """What a task taught Reptile.

    Args:
        params: φ, name -> ``[T, ...]``.
        optimizer: the inner optimiser's state, to go on from.
        moments: norm moments of the support under φ, or None.
        support: kept where each query is normalised together with it; else None.
    """

    params: Params
    optimizer: Params
    moments: Moments | None
    support: Examples | None


class Reptile(AbstractLearner):
    """Move the initialisation towards where ordinary training on a task ends.

    A. Nichol, J. Achiam, J. Schulman, "On first-order meta-learning algorithms", 2018.

    adapt:      φ = a few optimiser steps from θ on minibatches of the support
    outer step: θ <- θ + ε (φ - θ), averaged over tasks; ε is the outer SGD's rate

    The step is written as a loss, Σ θ·(θ - φ) with the bracket held fixed, whose gradient is θ - φ. Unlike MAML
    it needs no query in training and no second derivative.

    When to choose it: second derivatives are too dear or not there, and tasks have enough examples to train on for a
    while.

    Deviations: Adam's state starts anew for each task; the authors' code carries it from task to task, which is
    ``moments="carried"``.

    With norm="transductive" (batch norm over the current rows, as published) a query is normalised together with
    the support and no other query, which is the paper's inductive evaluation; ``transductive=True`` normalises
    all queries together.

    Args:
        net: the network; see ``learners.parts.headed`` for heads.
        outputs: the way, or the dimension of real targets.
        target: ``"classes"``, ``"multi-label"`` or ``"real"``.
        inner_steps: steps in meta-training.
        inner_lr: the inner optimiser's rate.
        inner_batch: rows a minibatch; None: the whole support.
        test_inner_steps: steps in ``adapt`` (meta-testing); ``inner_steps`` by default.
        test_inner_batch: rows a minibatch there; ``inner_batch`` by default.
        optimizer: ``"adam"`` (published) or ``"sgd"``.
        beta1: Adam's first decay, 0 as published.
        moments: ``"reset"`` for each task, so that tasks run together; or ``"carried"`` from each task to the
            next, serially, as the authors' code does.
        head: ``"fixed"``, ``"shared"`` or ``"none"``.
        part: what is adapted; the outer step moves it and nothing else, so the rest of the network must be frozen.
        rank: of ``part="lora"``.
        transductive: queries normalised together.
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together, or weights outside ``part`` that are not frozen.
    """

    def __init__(
        self,
        net: nn.Module,
        outputs: int | None = None,
        target: TargetKind = "classes",
        *,
        inner_steps: int = 5,
        inner_lr: float = 1e-3,
        inner_batch: int | None = 10,
        test_inner_steps: int | None = 50,
        test_inner_batch: int | None = 5,
        optimizer: Literal["adam", "sgd"] = "adam",
        beta1: float = 0.0,
        moments: Literal["reset", "carried"] = "reset",
        head: Head = "fixed",
        part: Part = "all",
        rank: int = 4,
        transductive: bool = False,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        check_norms(net, transductive=transductive, one_query_at_a_time=True)
        one_of("Reptile", "moments", moments, ("reset", "carried"))
        one_of("Reptile", "optimizer", optimizer, ("adam", "sgd"))
        batches = [size for size in (inner_batch, test_inner_batch) if size is not None]
        if inner_steps < 1 or (test_inner_steps is not None and test_inner_steps < 0) or min(batches, default=1) < 1:
            raise InputError(
                f"Reptile needs at least one inner step and one row a minibatch, received inner_steps={inner_steps}, "
                f"test_inner_steps={test_inner_steps}, inner_batch={inner_batch}, test_inner_batch={test_inner_batch}."
            )
        if head == "proto":
            raise InputError(
                "Reptile cannot use head='proto', which is no parameter that could move. Use head='shared'."
            )
        if moments == "carried" and (optimizer != "adam" or head == "shared"):
            raise InputError(
                "moments='carried' needs optimizer='adam' and head='fixed' or 'none', "
                f"received {optimizer!r} and {head!r}."
            )
        self.model = HeadedNet(
            net, outputs, target, head, part=part, rank=rank, out_features=out_features, strategy=strategy
        )
        _check_frozen(self.model, part)
        self.optimizer = make_optimizer(optimizer, inner_lr, beta1=beta1)
        self.inner_steps, self.inner_batch = inner_steps, inner_batch
        self.test_inner_steps = inner_steps if test_inner_steps is None else test_inner_steps
        self.test_inner_batch = inner_batch if test_inner_batch is None else test_inner_batch
        self.transductive = transductive
        self.carried = moments == "carried"
        if self.carried:
            named = dict(self.model.named_parameters())
            fresh = self.optimizer.init({n: named[n].detach()[None] for n in self.model.adapted})
            for name, value in fresh.items():
                self.register_buffer(_buffer(name), value[0])

    default_norm = staticmethod(default_norm)

    @property
    @override
    def traits(self) -> Traits:
        shared = self.model.kind == "shared"
        full = self.test_inner_batch is None
        return Traits(
            targets=(self.model.target,),
            any_way=shared,
            renames=shared and full,
            transductive=self.transductive,
            order_invariant=full,
            exact_meta_gradient=False,
            in_sequence=self.carried,
        )

    @override
    def adapt(self, support: Examples, *, state: ReptileState | None = None, key: Keys | None = None) -> ReptileState:
        check_support(support, state)
        if state is None:
            start = self.model.start(support)
        else:
            self.model.check(support, state.params)
            start = state.params
        memory = self._memory(support.n_task) if state is None else state.optimizer
        params, memory, _ = self._train(support, start, memory, self.test_inner_steps, self.test_inner_batch, key)
        if self.test_inner_steps == 0:  # not θ itself, which training changes
            params = {name: p.clone() for name, p in params.items()}
        together = uses_current_rows(self.model.net) and not self.transductive
        with torch.no_grad():
            moments = self.model.support_moments(params, support)
        return ReptileState(params, memory or {}, moments, support if together else None)

    @override
    def predict(self, state: ReptileState, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, self.model.room(state.params))
        if state.support is None:
            return self.model.run(state.params, query, state.moments)[0]
        return self._one_query_at_a_time(state, state.support, query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The surrogate whose gradient is θ - φ; logs the support loss before and after."""
        check_episode(episode)
        support = episode.support
        if not self.carried:
            start = self.model.start(support)
            params, _, history = self._train(support, start, None, self.inner_steps, self.inner_batch, key)
            return self._surrogate(support, params, history, {})
        keys = Keys.default(support.n_task) if key is None else key
        memory, ends, histories, memories = self._memory(1), [], [], []
        for t in range(support.n_task):
            one = support.task(t)
            key_t = Keys(keys.key, keys.tasks[t : t + 1])
            end, memory, history = self._train(
                one, self.model.start(one), memory, self.inner_steps, self.inner_batch, key_t
            )
            ends.append(end)
            histories.append(history)
            memories.append(memory)
        params = {name: torch.cat([end[name] for end in ends]) for name in ends[0]}
        carried = {_buffer(name): torch.cat([m[name] for m in memories]) for name in memories[0]}
        return self._surrogate(support, params, torch.cat(histories, 1), carried)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        buffers = dict(self.named_buffers())
        with torch.no_grad():
            for name, values in carried.items():
                buffers[name].copy_(values[-1])

    def _memory(self, n_task: int) -> Params | None:
        if not self.carried:
            return None
        buffers = dict(self.named_buffers())
        names = self.optimizer.init(
            {n: p.detach()[None] for n, p in self.model.named_parameters() if n in self.model.adapted}
        )
        return {name: buffers[_buffer(name)].expand(n_task, *buffers[_buffer(name)].shape).clone() for name in names}

    def _train(
        self, support: Examples, start: Params, memory: Params | None, steps: int, size: int | None, key: Keys | None
    ) -> tuple[Params, Params, Tensor]:
        keys = Keys.default(support.n_task) if key is None else key
        batches = minibatches(support, size, steps, keys.fold("minibatches"))
        losses = [losses_on(self.model, self.loss, batch) for batch in batches]
        return optimize(losses, start, self.optimizer, memory)

    def _surrogate(self, support: Examples, ends: Params, history: Tensor, carried: dict[str, Tensor]) -> MetaLoss:
        named = dict(self.model.named_parameters())
        n_task = history.shape[1]
        loss = torch.zeros(n_task, dtype=history.dtype, device=history.device)
        for name in self.model.adapted:
            start, end = named[name], ends[name]
            pull = start.detach() - end.detach()  # [T, ...]
            if end.shape[1:] != start.shape and isinstance(support.target, Classes):
                # The shared head: each class's copy pulls the one row. Those of classes that a task does not have stay.
                way = support.target.way.view(-1, *(1,) * (end.dim() - 1))
                pull = pull.sum(1, keepdim=True) / way
            # A product of a matrix and a vector: its gradient in θ is another, and makes nothing of T times θ's size.
            loss = loss + pull.flatten(1) @ start.flatten()
        logs = {"first_loss": history[0], "last_loss": history[-1]} if len(history) else {}
        return MetaLoss(loss, logs, carried)

    def _one_query_at_a_time(self, state: ReptileState, support: Examples, query: Examples) -> Tensor:
        """Each query in a batch of its own with the support, whose statistics it then shares with no other query."""
        outputs = []
        for t in range(query.n_task):
            asked = query.tasks(slice(t, t + 1)).unlabelled().apart()  # each query a task of its own
            together = support.task(t).unlabelled().repeated(query.n_example).followed_by(asked)
            params = {name: p[t].expand(query.n_example, *p.shape[1:]) for name, p in state.params.items()}
            outputs.append(self.model.run(params, together)[0][:, -1])
        return torch.stack(outputs)


def _check_frozen(model: HeadedNet, part: Part) -> None:
    """The surrogate moves φ alone; what is not of it must not look as if it were trained.

    Raises:
        InputError: a weight outside φ asks for a gradient.
    """
    outside = [name for name, p in model.named_parameters() if p.requires_grad and name not in model.adapted]
    if outside:
        raise InputError(
            f"Reptile with part={part!r} trains that part alone, but {len(outside)} weights outside of it ask for a "
            f"gradient, such as {outside[0].removeprefix('net.')!r}. Freeze them first (requires_grad_(False)), or use "
            "part='all'."
        )


def _buffer(name: str) -> str:
    """A buffer's name cannot hold dots."""
    return "inner_" + name.replace(".", "__")
