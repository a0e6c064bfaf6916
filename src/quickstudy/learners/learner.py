"""Floor 3: what a learner is.

A learner holds the meta-parameters θ and answers two questions, writing nothing while it does:

    adapt(support, state=, key=) -> state       what did this task teach me?
    predict(state, query, key=)  -> outputs     what do I say of these examples?

Known methods in these words: MAML's state is the fast weights φ after some gradient steps; a prototypical
network's state is each class's feature sum and count; k-NN's state is the support set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.data.seen import Seen
from quickstudy.episode import Classes, Episode, Examples, MultiLabel, Real, may_read
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.parts.classwise import check_every_class, membership


@dataclass(frozen=True)
class Traits:
    """What the laws, the engine, the estimators and the documentation must know of a learner.

    Args:
        targets: kinds of target it can learn, of ``"classes"``, ``"multi-label"``, ``"real"``.
        any_way: learns tasks of any number of classes (False: one way, fixed when built).
        transductive: a prediction depends on the other queries beside it.
        balanced_prior: assumes as many queries of each class.
        order_invariant: the order of the support rows does not matter.
        renames: renaming classes renames predictions (False: the head knows label numbers).
        incremental: ``adapt(more, state=state)`` equals adapting to all at once.
        exact_meta_gradient: the gradient of ``meta_loss`` is the exact derivative of the query loss.
        trainable: it has meta-parameters to train.
        phases: what it can be trained on, in this order: ``"batches"`` (plain labelled batches over all training
            classes, with :meth:`AbstractLearner.batch_loss`), ``"episodes"`` (tasks, with ``meta_loss``).
        in_sequence: in training a task begins with what the one before it carried, so that tasks cannot be divided
            over processes that work at the same time.
        together: the tasks of a training step are one computation, such as a trust region over all of them, which
            neither ``tasks_at_once`` nor processes divide.
        whole_step: the gradient of ``meta_loss`` is the step itself, which the outer optimiser must make as it is: SGD
            with the rate 1, without momentum or weight decay.
    """

    targets: tuple[str, ...] = ("classes",)
    any_way: bool = True
    transductive: bool = False
    balanced_prior: bool = False
    order_invariant: bool = True
    renames: bool = True
    incremental: bool = False
    exact_meta_gradient: bool = True
    trainable: bool = True
    phases: tuple[str, ...] = ("episodes",)
    in_sequence: bool = False
    together: bool = False
    whole_step: bool = False


@dataclass(frozen=True, eq=False)
class MetaLoss:
    """What a training step needs of T tasks.

    Args:
        loss: ``[T]``, one scalar a task; its gradient in θ is what the outer optimiser steps along.
        logs: name -> ``[T]`` detached values to report, such as ``accuracy``.
        carried: name -> ``[T, ...]`` state that no gradient owns (batch moments, optimiser moments), which
            the engine hands back to :meth:`AbstractLearner.absorb` in task order.
    """

    loss: Tensor
    logs: dict[str, Tensor] = field(default_factory=dict)
    carried: dict[str, Tensor] = field(default_factory=dict)


class AbstractLearner(nn.Module, ABC):
    """A meta-learner. Subclasses are final: one paper, one file, one class."""

    seen: Seen | None = None
    """What it was trained on, where it was loaded from a run: meta-testing refuses tasks of it."""

    @staticmethod
    def default_norm(*, transductive: bool) -> str:
        """The norm of a network for this learner, where a recipe names none; gradient-based learners have another."""
        del transductive
        return "batch"

    @property
    @abstractmethod
    def traits(self) -> Traits:
        """What it can do and what it assumes."""

    @abstractmethod
    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        """Learn T tasks from their support sets.

        Args:
            support: labelled examples ``[T, Ns, ...]``.
            state: an earlier state of the same tasks, to go on from.
            key: randomness for each task; a fixed one by default.

        Returns:
            A state: a dataclass or dict of tensors, each ``[T, ...]``.
        """

    @abstractmethod
    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        """Outputs for query examples.

        Args:
            state: what ``adapt`` returned for these T tasks.
            query: ``[T, Nq, ...]``; labels, if any, are not looked at.
            key: randomness for each task; a fixed one by default.

        Returns:
            Logits ``[T, Nq, W]``, -inf for classes that a task does not have; or values ``[T, Nq, D]``.
        """

    def check_environment(self, described: Mapping[str, Any] | None) -> None:
        """Refuse tasks of an environment in which it would not act; who does not act takes all tasks.

        Args:
            described: the tasks' environment, None where they have none.
        """
        del described

    def loss(self, outputs: Tensor, examples: Examples) -> Tensor:
        """Mean loss of each task over its labelled rows, ``[T]``; see :func:`task_loss`."""
        return task_loss(outputs, examples)

    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The query loss of ``predict`` after ``adapt``: what most papers minimise."""
        check_scored(episode.query)
        state = self.adapt(episode.support, key=key)
        outputs = self.predict(state, episode.query.unlabelled(), key=key)
        return MetaLoss(self.loss(outputs, episode.query), task_logs(outputs, episode.query))

    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        """The loss of one plain labelled batch: T = 1, N rows, ``y`` numbers all training classes.

        Learners with ``"batches"`` among their phases replace it.

        Raises:
            InputError: this learner is trained on tasks alone.
        """
        del batch, key
        raise InputError(
            f"{type(self).__name__} is not trained on plain labelled batches. Train it on tasks: leave [pretrain] out."
        )

    def begin_phase(self, number: int) -> None:
        """Called by the engine alone, before the first step of phase ``number`` of ``traits.phases``.

        Not when a run goes on within a phase. Here, and in ``absorb``, a learner may write weights and buffers.
        """
        del number

    def foreseen(self, n_task: int) -> dict[str, Tensor]:
        """What ``n_task`` tasks will carry, as far as ``meta_loss`` reads it and it is known before they are computed.

        Of use where the tasks of a step are divided: the tasks of each part are computed as if those before were done.

        Args:
            n_task: tasks before the part, 0 or more.
        """
        del n_task
        return {}

    def learned_rates(self) -> dict[str, Tensor]:
        """The inner learning rates that it meta-learned, to be looked at; none by default.

        Returns:
            A weight's name -> ``[S, M]`` detached: of each of S inner steps (1: all steps share them) the M rates of
            the weight's entries (1: the entries share one).
        """
        return {}

    def absorb(self, carried: dict[str, Tensor]) -> None:
        """Write carried state into this learner's buffers; called by the engine alone, in task order."""
        if carried:
            raise NotImplementedError(f"{type(self).__name__} carries {sorted(carried)} but does not absorb it.")


def check_support(support: Examples, state: object = None) -> None:
    """What ``adapt`` is given can be learned from.

    Args:
        support: ``[T, Ns, ...]``.
        state: the earlier state that it adds to, if any.

    Raises:
        InputError: it carries no labels, a task has a single class, where nothing can be told apart, or a class has
            no labelled example (the earlier state may have had it); or the state is of another number of tasks.
        EpisodeError: labels out of range, NaN; names the task and row.
    """
    if support.y is None:
        raise InputError("Cannot adapt: the support carries no labels (y is None). Give each example its label.")
    support.check("support")
    n_task = _n_task(state)
    if n_task is not None and n_task != support.n_task:
        raise InputError(
            f"Cannot adapt: the state is of {n_task} tasks, the support of {support.n_task}. Adapt each to its own."
        )
    if state is None and isinstance(support.target, Classes) and may_read():
        way = support.target.way
        if int(way.min()) < 2:
            raise InputError(
                f"Task {int(way.argmin())} has a single class, so there is nothing to tell apart. "
                "Give examples of at least two classes."
            )
        check_every_class(membership(support).sum(1), support)


def check_query(query: Examples, state: object, known: Tensor | int | None = None) -> None:
    """What ``predict`` is given can be answered.

    Args:
        query: ``[T, Nq, ...]``.
        state: what ``adapt`` returned for these T tasks.
        known: the number of classes that the state knows of each task, ``[T]``, which a state that is the support
            itself says of its own; or how many it has room for at most; None where it does not say.

    Raises:
        InputError: the query is of another number of tasks than the state, or names more classes, or fewer, than the
            state knows.
        EpisodeError: NaN or infinity; names the task and row.

    >>> check_query(Examples(torch.zeros(1, 2, 4), None, Classes(torch.tensor([2]))), torch.zeros(1, 2))
    """
    n_task = _n_task(state)
    if n_task is not None and n_task != query.n_task:
        raise InputError(
            f"Cannot predict: the state is of {n_task} tasks, the query of {query.n_task}. Adapt to each task."
        )
    if known is None and isinstance(state, Examples) and not isinstance(state.target, Real):
        known = state.target.way
    try:
        _check_ways(query, known)
        query.check_inputs("query")
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        # Under torch.func.vmap no value can be read: whoever maps predict over queries looks at them before.


def _check_ways(query: Examples, known: Tensor | int | None) -> None:
    """The query names the classes that the state knows: others would be left out, or in, without a word.

    Raises:
        InputError: naming the first task with another number.
    """
    if known is None or isinstance(query.target, Real) or not may_read():
        return
    way = query.target.way
    wrong = (way > known if isinstance(known, int) else way != known).nonzero()
    if len(wrong):
        task = int(wrong[0])
        number = f"at most {known}" if isinstance(known, int) else int(known[task])
        raise InputError(
            f"Cannot predict: the state knows {number} classes in task {task}, the query's target names "
            f"{int(way[task])}. Give the query the target of its support."
        )


def check_episode(episode: Episode) -> None:
    """Support and query of T tasks can be learned from and scored.

    The engine looks at what it draws; this is for loops of one's own.

    Raises:
        InputError: as :func:`check_support` for the support and :func:`check_scored` for the query.
    """
    check_support(episode.support)
    check_scored(episode.query)


def check_scored(query: Examples) -> None:
    """The answers to these queries can be scored.

    Raises:
        InputError: no labels.
        EpisodeError: a task without a query, labels out of range, NaN; names the task and row.
    """
    if query.y is None:
        raise InputError("Cannot train: the query carries no labels (y is None). Give each example its label.")
    query.check("query")


def _n_task(state: object) -> int | None:
    """How many tasks a state is of, by the first axis of its first tensor; None where it has none."""
    if isinstance(state, Tensor):
        return state.shape[0] if state.dim() else None
    parts: Iterable[object] = ()
    if isinstance(state, dict):
        parts = state.values()
    elif isinstance(state, (list, tuple)):
        parts = state
    elif is_dataclass(state):
        parts = (getattr(state, part.name) for part in fields(state))
    return next((n for n in map(_n_task, parts) if n is not None), None)


def task_loss(outputs: Tensor, examples: Examples) -> Tensor:
    """The usual loss of each kind of target, averaged over each task's labelled rows.

    Cross-entropy for classes, binary cross-entropy for multi-label, squared error for real targets (mean
    over D too). Padded and unlabelled rows contribute nothing, to the value or to any gradient.

    Args:
        outputs: ``[T, N, W]`` or ``[T, N, D]``.
        examples: the labelled rows that the outputs are for.

    Returns:
        ``[T]``.

    Raises:
        InputError: no labels, or real ones of another shape than the outputs.
    """
    if examples.y is None:
        raise InputError("Cannot compute a loss: these examples carry no labels (y is None). Give each its label.")
    if isinstance(examples.target, Real) and outputs.shape != examples.y.shape:  # would broadcast in silence
        raise InputError(
            f"Cannot compute a loss: the outputs have shape {list(outputs.shape)}, the labels "
            f"{list(examples.y.shape)}. Give the network as many outputs as a label has numbers."
        )
    if isinstance(examples.target, Real) and examples.mask is None:  # every row counts: in as few operators as it takes
        return F.mse_loss(outputs, examples.y, reduction="none").mean((1, 2))
    counted = examples.labelled
    # Rows that do not count get outputs and labels that are finite, so that 0 times them is 0.
    outputs = torch.where(counted[..., None], outputs, 0.0)
    if isinstance(examples.target, Classes):
        y = examples.y.masked_fill(~counted, 0)
        rows = F.cross_entropy(outputs.flatten(0, 1), y.flatten(), reduction="none").view_as(y)
    elif isinstance(examples.target, MultiLabel):
        present = torch.arange(outputs.shape[2], device=outputs.device) < examples.target.way[:, None, None]
        present = present & counted[..., None]
        # Some of a set's tasks may have fewer classes than their labels have columns.
        truth = torch.where(present, examples.y[..., : outputs.shape[2]].to(outputs.dtype), 0.0)
        each = F.binary_cross_entropy_with_logits(torch.where(present, outputs, 0.0), truth, reduction="none")
        rows = (each * present).sum(2) / present.sum(2).clamp(min=1)
    else:
        rows = (outputs - torch.where(counted[..., None], examples.y, 0.0)).square().mean(2)
    return torch.where(counted, rows, 0.0).sum(1) / counted.sum(1).clamp(min=1)


@torch.no_grad()
def task_metric(outputs: Tensor, examples: Examples) -> tuple[str, Tensor]:
    """The figure that people report: accuracy in 0 .. 1, or mean squared error; ``[T]``."""
    if examples.y is None:
        raise InputError("Cannot score: these examples carry no labels (y is None). Give each its label.")
    counted = examples.labelled
    if isinstance(examples.target, Classes):
        right = (outputs.argmax(2) == examples.y) & counted
        return "accuracy", right.sum(1) / counted.sum(1).clamp(min=1)
    if isinstance(examples.target, MultiLabel):
        present = torch.arange(outputs.shape[2], device=outputs.device) < examples.target.way[:, None, None]
        present = present & counted[..., None]
        right = ((outputs > 0) == (examples.y[..., : outputs.shape[2]] > 0)) & present
        return "accuracy", right.sum((1, 2)) / present.sum((1, 2)).clamp(min=1)
    return "mse", task_loss(outputs, examples)


def task_logs(outputs: Tensor, examples: Examples) -> dict[str, Tensor]:
    """:func:`task_metric` as a log entry."""
    name, values = task_metric(outputs, examples)
    return {name: values.detach()}
