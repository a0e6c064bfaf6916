"""Floor 4: meta-steps that are traced once and then played again, without autograd and without Python's detours.

    trace       the operators of a meta-step one after the other, as ``tracing.py`` wrote them down
    inductor    the same, compiled by torch's inductor into kernels of its own; needs a C++ compiler (Triton on a GPU)

On a GPU either is captured in a CUDA graph, so that a whole meta-step is launched at once.

Episodes of another shape, and settings of the learner that have changed, are traced anew; of the traces the ones used
last are kept. What is checked of an episode's values is checked outside, before each call.
"""

from __future__ import annotations

import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, fx

from quickstudy import native
from quickstudy.episode import Episode
from quickstudy.errors import InputError
from quickstudy.learners.learner import AbstractLearner, MetaLoss, check_episode
from quickstudy.nets.maps import C
from quickstudy.nets.strategy import note_steps
from quickstudy.train.cudagraph import captured
from quickstudy.train.graphs import quick
from quickstudy.train.precision import Precision
from quickstudy.train.tracing import Inventory, Layout, Program, leaves_of, signature, trace

__all__ = ["Compile", "Compiled", "remark"]

Compile: TypeAlias = Literal["no", "trace", "inductor"]


def remark(how: Compile, precision: str, device: torch.device) -> str | None:
    """A sentence where a way to compile is slower than none; None where it is not, as far as is known.

    >>> remark("inductor", "float32", torch.device("cpu")) is remark("trace", "bf16", torch.device("cpu")) is None
    True
    """
    # In bf16 there are no kernels in C either way.
    if how != "trace" or precision == "bf16" or device.type != "cpu" or native.asked() == "torch" or not C.there():
        return None
    return (
        "compile: a trace runs torch's operators and not the kernels in C, with which most runs are faster on a CPU "
        "than with 'trace'; try train.compile = 'no' or 'inductor'."
    )


@dataclass(eq=False)
class Compiled:
    """A learner's meta-step, its gradient included, ready to be played again.

    Args:
        learner: trained in place by whoever uses this; nothing is written here but ``grad``.
        how: ``"trace"`` or ``"inductor"``.
        kept: how many traces, of one shape of episodes each.
        precision: of what is traced; ``"tf32"`` is a setting of torch while a trace is played, and leaves it as it is.

    Attributes:
        seconds: spent on tracing and compiling so far.
        traced: how many times.

    Raises:
        InputError: there is no such way; or, in a call, the learner cannot be traced.

    >>> from quickstudy.episode import Examples, Real
    >>> from quickstudy.learners import MAML
    >>> from quickstudy.nets import MLP
    >>> learner, part = MAML(MLP(1), 1, "real"), Examples(torch.ones(2, 3, 1), torch.ones(2, 3, 1), Real(1))
    >>> step = Compiled(learner, "trace")
    >>> out, backward = step(Episode(part, part))
    >>> backward()
    >>> out.loss.shape, learner.model.head.weight.grad.shape, step.traced
    (torch.Size([2]), torch.Size([1, 40]), 1)
    """

    learner: AbstractLearner
    how: Compile
    kept: int = 8
    precision: Precision = "float32"
    seconds: float = 0.0
    traced: int = 0
    _plays: OrderedDict[object, _Play] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        known = [how for how in get_args(Compile) if how != "no"]
        if self.how not in known:
            raise InputError(f"There is no way to compile called {self.how!r}. Use one of {', '.join(known)}.")
        if self.kept < 1:
            raise InputError(f"At least one trace has to be kept, received kept={self.kept}.")

    def __call__(self, episode: Episode, *, of: int = 1) -> tuple[MetaLoss, Callable[[], None]]:
        """The meta-loss of these tasks, detached, and what adds its gradient to the parameters' ``grad``.

        Args:
            episode: its tasks.
            of: how many losses are averaged in the whole step; the gradient is that of the sum of these, divided so.
        """
        check_episode(episode)
        held = Inventory.of(self.learner)
        flat = [*held.parameters, *held.buffers, *leaves_of(episode)]
        play = self._play(episode, held, flat)
        with torch.no_grad():
            out, gradients = play.layout.unflatten(play.program(flat))

        def backward() -> None:
            with torch.no_grad():
                shares = torch._foreach_div(list(gradients.values()), of)
                for number, share in zip(gradients, shares, strict=True):
                    parameter = held.parameters[number]
                    parameter.grad = share if parameter.grad is None else parameter.grad.add_(share)

        return out, backward

    def _play(self, episode: Episode, held: Inventory, flat: Sequence[Tensor]) -> _Play:
        """The trace for episodes like this one; a new one where there is none."""
        key = (signature(episode), held.settings)
        found = self._plays.get(key)
        if found is None:
            started = time.perf_counter()
            found = self._plays[key] = self._made(episode, flat)
            self.seconds, self.traced = self.seconds + time.perf_counter() - started, self.traced + 1
            if len(self._plays) > self.kept:
                self._plays.popitem(last=False)
        self._plays.move_to_end(key)
        return found

    def _made(self, episode: Episode, flat: Sequence[Tensor]) -> _Play:
        written = trace(self.learner, episode, self.precision)
        program: Program | None = None
        if self.how == "inductor":
            program = _by_inductor(written.graph, [leaf.detach() for leaf in flat])
        else:
            note_steps("trace")
        if program is None:
            quicker = quick(written.graph)
            program = lambda tensors: quicker(*tensors)  # noqa: E731
        if episode.support.device.type == "cuda":
            program = captured(program, written.graph, n_fixed=len(flat) - len(leaves_of(episode)))
        return _Play(program, written.layout)


@dataclass(frozen=True, eq=False)
class _Play:
    program: Program
    layout: Layout


def _by_inductor(graph: fx.GraphModule, flat: Sequence[Tensor]) -> Program | None:
    """The graph compiled; None, with a warning, where this machine cannot."""
    from torch import _inductor
    from torch._inductor import config

    said = ""
    # On a CPU the calls between kernels are compiled too, which saves a tenth; not every operator can be called so.
    for whole in (True, False) if flat[0].device.type == "cpu" else (False,):
        try:
            # Random numbers are drawn as torch's own operators draw them, so that compiling changes no result.
            with torch.no_grad(), config.patch(fallback_random=True, cpp_wrapper=whole), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's own, of what it uses itself
                compiled = _inductor.compile(graph, list(flat))
            note_steps("inductor")
            return lambda tensors: list(compiled(*tensors))
        except Exception as error:  # of many kinds, none of them the caller's fault: a trace serves as well
            said = str(error).strip().split("\n")[0].rstrip(".")
    note_steps(f"trace, as inductor cannot compile here ({said})")
    warnings.warn(
        f"torch's inductor cannot compile this meta-step on this machine ({said}); it is traced instead. Inductor "
        "needs a C++ compiler (g++ or clang++) on a CPU, Triton on a GPU; train.compile = 'trace' asks for no more.",
        stacklevel=2,
    )
    return None
