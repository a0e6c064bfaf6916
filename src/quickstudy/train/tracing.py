"""Floor 4: what one meta-step computes, written down as a flat list of operators.

A learner's meta-loss and its gradient are followed once, on tensors without contents, and every operator that they
call is noted. The note takes (parameters, buffers, the tensors of an episode) and gives (losses, logs, what is
carried, gradients); nothing else of the learner runs when it is played again, no autograd among it.

As the tensors hold nothing, no value can slip into the note as a constant: a learner that reads one (to decide
something, or to draw from its key) is refused in a sentence that names the line. Python's own values, such as a
learning rate or a number of steps, do become constants; :class:`Inventory` says when they have changed.
"""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from typing_extensions import override

from quickstudy.episode import Episode, Examples, Inputs, Real, values_unread
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss
from quickstudy.train.graphs import cleaned
from quickstudy.train.precision import Precision, in_full, mixed

Program: TypeAlias = Callable[[Sequence[Tensor]], list[Tensor]]
"""Flat tensors in (parameters, buffers, episode), flat tensors out."""

_PACKAGE = str(Path(torch.__file__).parent)
_PLAIN = frozenset({bool, int, float, str, type(None)})
_TORCH = frozenset(vars(nn.Module())) - {"training"}
"""What every module has for torch's own book-keeping."""


class _DrawsFromKey(Exception):
    """A learner asked its key for random numbers."""


class _NoKeys:
    """Stands for a learner's keys: to draw from them is an error, as what is drawn would become a constant."""

    def fold(self, *parts: int | str) -> _NoKeys:
        """Other keys, no better."""
        del parts
        return self

    def __getattr__(self, name: str) -> Any:
        raise _DrawsFromKey(name)

    def __len__(self) -> int:
        raise _DrawsFromKey("len")


@dataclass(frozen=True)
class Layout:
    """Which names the flat results go by.

    Args:
        logs: of the logs.
        carried: of what is carried.
        gradients: numbers of the parameters that have a gradient.
    """

    logs: tuple[str, ...]
    carried: tuple[str, ...]
    gradients: tuple[int, ...]

    def unflatten(self, flat: Sequence[Tensor]) -> tuple[MetaLoss, dict[int, Tensor]]:
        """The results, and number of the parameter -> its gradient of the *summed* losses."""
        n_log, n_carried = len(self.logs), len(self.carried)
        logs = dict(zip(self.logs, flat[1 : 1 + n_log], strict=True))
        carried = dict(zip(self.carried, flat[1 + n_log : 1 + n_log + n_carried], strict=True))
        gradients = dict(zip(self.gradients, flat[1 + n_log + n_carried :], strict=True))
        return MetaLoss(flat[0], logs, carried), gradients


@dataclass(frozen=True, eq=False)
class Trace:
    """A meta-step, written down.

    Args:
        graph: runs it, one operator after the other.
        layout: what its results are.
    """

    graph: fx.GraphModule
    layout: Layout


# --- an episode as flat tensors ----------------------------------------------------------------


def leaves_of(episode: Episode) -> list[Tensor]:
    """Its tensors, in an order that depends on its kind alone."""
    found: list[Tensor] = []
    _mapped(episode, found.append)
    return found


def signature(episode: Episode) -> tuple[object, ...]:
    """What a trace depends on: kinds, shapes, layouts and the largest way, but no other value."""
    kinds: list[object] = [_max_way(episode)]
    for part in (episode.support, episode.query):
        names = tuple(part.x) if isinstance(part.x, dict) else None
        sides = tuple(part.side) if isinstance(part.side, dict) else part.side is None
        kinds.append((type(part.target), getattr(part.target, "dim", None), names, sides))
        kinds.append((part.y is None, part.mask is None))
    kinds += map(_form, leaves_of(episode))
    return tuple(kinds)


def _form(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


@dataclass(frozen=True, eq=False)
class Inventory:
    """What a learner holds, read in one walk: this is done in each meta-step.

    Args:
        parameters: each once, in the order of ``named_parameters``.
        buffers: each once, in the order of ``named_buffers``.
        settings: what a trace holds as constants: kinds of its parts, Python's values in them, their own private ones
            among these, and the form of each tensor; hashable, to be compared.
    """

    parameters: list[Tensor]
    buffers: list[Tensor]
    settings: tuple[object, ...]

    @classmethod
    def of(cls, module: nn.Module) -> Inventory:
        """The inventory of ``module``."""
        parameters: dict[int, Tensor] = {}
        buffers: dict[int, Tensor] = {}
        found: list[object] = []
        for part in module.modules():
            found.append(type(part))
            for name, value in vars(part).items():
                kind = type(value)
                if name not in _TORCH and (kind in _PLAIN or (value := _plain(value)) is not None):
                    found += (name, kind, value)
            for p in part._parameters.values():
                if p is not None:
                    parameters[id(p)] = p
                    found += (p.requires_grad, _form(p))
            for b in part._buffers.values():
                if b is not None:
                    buffers[id(b)] = b
                    found.append(_form(b))
        return cls([*parameters.values()], [*buffers.values()], tuple(found))


def _plain(value: object) -> object:
    """``value`` as something to compare, None where it has no such form (modules, functions)."""
    if type(value) in _PLAIN:
        return (type(value), value)
    if isinstance(value, (tuple, list)):
        return tuple(map(_plain, value))
    if isinstance(value, dict):
        return tuple((str(name), _plain(part)) for name, part in value.items())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return tuple(_plain(getattr(value, part.name)) for part in dataclasses.fields(value))
    return None


def _max_way(episode: Episode) -> int | None:
    return None if isinstance(episode.support.target, Real) else episode.support.max_way


def _mapped(episode: Episode, function: Callable[[Tensor], Any]) -> Episode:
    """The same kind of episode of what ``function`` makes of each tensor (or None, to visit them)."""

    def inputs(x: Inputs) -> Any:
        return function(x) if isinstance(x, Tensor) else {name: function(leaf) for name, leaf in x.items()}

    def examples(part: Examples) -> dict[str, Any]:
        new: dict[str, Any] = {"x": inputs(part.x)}
        new["y"] = None if part.y is None else function(part.y)
        new["mask"] = None if part.mask is None else function(part.mask)
        new["side"] = None if part.side is None else inputs(part.side)
        way = None if isinstance(part.target, Real) else function(part.target.way)
        new["target"] = part.target if way is None or isinstance(part.target, Real) else type(part.target)(way)
        return new

    support, query = examples(episode.support), examples(episode.query)
    rest = {name: function(value) for name in ("index", "classes") if (value := getattr(episode, name)) is not None}
    if support["x"] is None or (isinstance(support["x"], dict) and None in support["x"].values()):
        return episode  # a visit
    return Episode(replace(episode.support, **support), replace(episode.query, **query), **rest)


# --- the trace ---------------------------------------------------------------------------------


class _Step(nn.Module):
    """A learner's meta-step as a call of a module, which is what torch can hand other weights to."""

    def __init__(self, learner: AbstractLearner) -> None:
        super().__init__()
        self.learner = learner

    @override
    def forward(self, episode: Episode, precision: Precision, then: Callable[[MetaLoss], list[Tensor]]) -> list[Tensor]:
        """What ``then`` makes of the meta-loss, drawing nothing.

        Gradients are taken in here: inner steps that are computed once more meet the weights that were handed in.
        """
        with mixed(precision, episode.support.device):
            out = self.learner.meta_loss(episode, key=cast(Keys, _NoKeys()))
        return then(in_full(out) if precision == "bf16" else out)


def trace(learner: AbstractLearner, episode: Episode, precision: Precision = "float32") -> Trace:
    """Write down the meta-step of ``learner`` for episodes like this one.

    Args:
        learner: in the mode in which it will be run.
        episode: any of the kind; its values are not read.
        precision: with ``"bf16"`` the casts of autocast are among the operators.

    Raises:
        InputError: the learner reads values, or draws from its key; names it, the line and the operator.
    """
    step = _Step(learner)
    parameters, buffers = dict(step.named_parameters()), dict(step.named_buffers())
    values = [*parameters.values(), *buffers.values(), *leaves_of(episode)]
    max_way, layouts = _max_way(episode), list[Layout]()
    asks = [p.requires_grad for p in parameters.values()]

    def run(*flat: Tensor) -> list[Tensor]:
        rest = iter(flat)
        weights = {name: next(rest).detach().requires_grad_(p.requires_grad) for name, p in parameters.items()}
        held = {name: next(rest) for name in buffers}
        like = _mapped(episode, lambda leaf: next(rest))

        def with_gradients(out: MetaLoss) -> list[Tensor]:
            wanted = [weight for weight, asked in zip(weights.values(), asks, strict=True) if asked]
            found = torch.autograd.grad(out.loss.sum(), wanted, allow_unused=True)
            numbers = [number for number, asked in enumerate(asks) if asked]
            gradients = {number: g for number, g in zip(numbers, found, strict=True) if g is not None}
            layouts.append(Layout(tuple(out.logs), tuple(out.carried), tuple(gradients)))
            return [out.loss.detach(), *out.logs.values(), *out.carried.values(), *gradients.values()]

        return cast(list[Tensor], functional_call(step, weights | held, (like, precision, with_gradients)))

    try:
        # A mode of our own, as make_fx's would go round a value that is read by an unknown number.
        fake = FakeTensorMode()
        empty = [fake.from_tensor(value.detach()) for value in values]
        with fake, values_unread(max_way), torch.enable_grad():
            graph = make_fx(run, tracing_mode="real")(*empty)
    except _DrawsFromKey as error:
        raise InputError(
            f"Cannot compile {type(learner).__name__}: it draws random numbers in each meta-step ({_line(error)}), "
            "which would become constants. Train it with train.compile = 'no'."
        ) from error
    except InputError:
        raise
    except Exception as error:  # torch has many for this, of no common kind
        raise InputError(
            f"Cannot compile {type(learner).__name__}: {_cause(error)} ({_line(error)}), which a trace cannot follow. "
            "Train it with train.compile = 'no'."
        ) from error
    return Trace(cleaned(graph), layouts[-1])


def _cause(error: Exception) -> str:
    """What a trace came to grief over."""
    said = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
    unread = isinstance(error, DataDependentOutputException | DynamicOutputShapeException)
    if unread or "not supported for tensor subclasses" in said:  # numpy(), tolist()
        return "it reads the values of a tensor"
    if "FakeTensor" in said:
        return "it uses a tensor that is no parameter, buffer or part of the episode"
    return f"torch says {said!r}"


def _line(error: BaseException) -> str:
    """The innermost line outside of torch and of this file, ``file.py:12 in name``."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if _PACKAGE not in f.filename and "<" not in f.filename
    ]
    here = [f for f in frames if f.filename != __file__]
    frame = (here or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
