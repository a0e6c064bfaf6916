"""Floor 1: which strategy runs a network, by measured rules, and a record of what was chosen and why.

``benchmarks/strategies.py`` prints the measurements behind each rule. What ``nets.apply`` runs while a
:func:`recorded` block is open is noted once for each kind of use, so that a run can say it in its first lines::

    strategy: batched (MLP, weights of each task's own, cpu: its form with a task axis is faster than a loop here)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, cast, get_args, runtime_checkable

from torch import Tensor, nn

from quickstudy.nets.norms import AbstractNorm, couples_examples, foreign_coupling

Params: TypeAlias = dict[str, Tensor]
Strategy: TypeAlias = Literal["auto", "packed", "loop", "vmap", "batched"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


@runtime_checkable
class HasBatchedForm(Protocol):
    """A network that can run all tasks at once by hand-written kernels.

    It may say ``layers_as_built = False`` where somebody exchanged its layers: it has no such form then.
    """

    batched_on_cpu: bool  # whether that is faster than a loop on a CPU, by measurement

    def batched(self, params: Params, x: Tensor) -> Tensor:
        """``[T, N, ...] -> [T, N, D]``; each parameter is shared, or has a leading T.

        With a third parameter ``head``, weight and bias of a linear layer or None, it computes that layer as well. A
        network whose attribute ``named_inputs`` is true takes a flat dict of tensors in place of one.
        """


@dataclass(frozen=True)
class Choice:
    """A strategy and why it was taken.

    Args:
        strategy: never ``"auto"``.
        why: the rule that decided, half a sentence.
    """

    strategy: Strategy
    why: str


@dataclass(frozen=True)
class Use:
    """One kind of use of a network, as it was run.

    Args:
        net: the network's class.
        shared: whether all tasks used the same weights.
        device: the type of device.
        choice: how it was run.
    """

    net: str
    shared: bool
    device: str
    choice: Choice

    def __str__(self) -> str:
        weights = "shared weights" if self.shared else "weights of each task's own"
        return f"strategy: {self.choice.strategy} ({self.net}, {weights}, {self.device}: {self.choice.why})"


@dataclass
class StrategyRecord:
    """What a :func:`recorded` block ran, each kind of use once, in the order in which they came.

    Args:
        uses: filled by ``nets.apply``.
        steps: how meta-steps were compiled, filled by ``train.compiled``; empty where they were not.
    """

    uses: list[Use] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    _seen: set[tuple[int, bool, str, Strategy, Strategy]] = field(default_factory=set)

    def note(self, net: nn.Module, leaf: Tensor, *, shared: bool, asked: Strategy, choice: Choice) -> None:
        """One call of ``nets.apply``."""
        key = (id(net), shared, leaf.device.type, asked, choice.strategy)
        if key in self._seen:  # nearly always: a training calls this many times a step
            return
        self._seen.add(key)
        use = Use(type(net).__name__, shared, leaf.device.type, choice)
        if use not in self.uses:
            self.uses.append(use)


_record: ContextVar[StrategyRecord | None] = ContextVar("quickstudy_strategy_record", default=None)


@contextmanager
def recorded(record: StrategyRecord) -> Iterator[StrategyRecord]:
    """Let ``record`` take down every strategy that is used inside."""
    token = _record.set(record)
    try:
        yield record
    finally:
        _record.reset(token)


def note_steps(how: str) -> None:
    """Have it taken down, where someone records, how meta-steps are computed: ``"trace"``, ``"inductor"``, ..."""
    record = _record.get()
    if record is not None and how not in record.steps:
        record.steps.append(how)


def strategy_for(net: nn.Module, leaf: Tensor, *, shared: bool, asked: Strategy) -> Strategy:
    """What ``nets.apply`` shall do: what was asked for, or what the rules say; taken down where someone records.

    Args:
        net: the network.
        leaf: its input ``[T, N, ...]``.
        shared: all tasks use the network's own weights.
        asked: ``"auto"``, or the strategy that the user wants.
    """
    choice = choose(net, leaf, shared=shared) if asked == "auto" else _ASKED[asked]
    record = _record.get()
    if record is not None:
        record.note(net, leaf, shared=shared, asked=asked, choice=choice)
    return choice.strategy


# The rules' answers, made once: a training asks many times a step.
_LAUNCHES = "a GPU would wait for the launches of a loop over tasks"
_PACKED = Choice("packed", "examples do not see each other, so the rows of all tasks go through together")
_ONE_TASK = Choice("loop", "there is one task")
_BATCHED_SHARED = Choice("batched", "all tasks share the weights, so its form with a task axis has the same kernels")
_LOOP_LAID_OUT = Choice("loop", "a CPU's convolutions are faster on a loop's pictures, which are channels-last")
_BATCHED_ON_GPU = Choice("batched", _LAUNCHES)
_BATCHED_FASTER = Choice("batched", "its form with a task axis is faster than a loop here")
_BATCHED_SLOWER = Choice("loop", "its form with a task axis is slower than a loop here")
_NO_BATCHED_FORM = Choice("loop", "it has no form with a task axis, and vmap gains little on a CPU")
_VMAP_ON_GPU = Choice("vmap", _LAUNCHES)
_VMAP_CANNOT = Choice("loop", "it holds layers that vmap cannot run")
_ASKED = {asked: Choice(asked, "as asked for") for asked in STRATEGIES if asked != "auto"}


def choose_strategy(net: nn.Module, leaf: Tensor, *, shared: bool) -> Strategy:
    """The fastest strategy that fits; see :func:`choose`."""
    return choose(net, leaf, shared=shared).strategy


def choose(net: nn.Module, leaf: Tensor, *, shared: bool) -> Choice:
    """The fastest strategy that fits, by the measurements in ``benchmarks/strategies.py``, and the rule that said so.

    Args:
        net: the network.
        leaf: its input ``[T, N, ...]``.
        shared: all tasks use the network's own weights.
    """
    if shared and not couples_examples(net) and not has_foreign_buffers(net):
        return _PACKED
    batched, pictures = has_batched_form(net), bool(getattr(net, "channels_last", False))
    faster = batched and cast(HasBatchedForm, net).batched_on_cpu
    if leaf.shape[0] == 1:  # no loop at all, but fewer operators without functional_call, which a convolution hides
        return _BATCHED_FASTER if faster and not shared and not pictures else _ONE_TASK
    if leaf.is_cuda:
        if batched:
            return _BATCHED_SHARED if shared else _BATCHED_ON_GPU
        return _VMAP_CANNOT if has_foreign_buffers(net) or foreign_coupling(net) else _VMAP_ON_GPU
    if not batched:
        return _NO_BATCHED_FORM
    if shared:
        return _LOOP_LAID_OUT if pictures else _BATCHED_SHARED
    return _BATCHED_FASTER if faster else _BATCHED_SLOWER


def has_batched_form(net: object) -> bool:
    """``isinstance(net, HasBatchedForm)``, which Python works out anew at each call, and its layers are its own."""
    formed = callable(getattr(net, "batched", None)) and hasattr(net, "batched_on_cpu")
    return formed and bool(getattr(net, "layers_as_built", True))


def listened_to(*layers: nn.Module) -> bool:
    """Whether a hook waits for one of these layers to be called."""
    return any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)


@functools.cache
def takes_head(kind: type) -> bool:
    """Whether the batched form of such networks has a place for a linear layer on top."""
    form = getattr(kind, "batched", None)
    return callable(form) and "head" in inspect.signature(form).parameters


def has_foreign_buffers(net: nn.Module) -> bool:
    """Whether a layer that is not ours may write into its buffers, as torch's batch norm does in training."""
    return any(
        layer.training and not isinstance(layer, AbstractNorm) and next(layer.buffers(recurse=False), None) is not None
        for layer in net.modules()
    )
