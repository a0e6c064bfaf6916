"""Floor 1: the one way in which learners run a network.

One maths, several ways to run it:

    packed    shared weights, examples that do not see each other: the real rows of all tasks in one call
    loop      one call a task, without padding; the reference for the others
    vmap      torch.func.vmap over the tasks
    batched   the network's own form with a task axis (``batched(params, x)``), where it has one

All give the same outputs and gradients (float64: within 1e-10). Padded rows enter no network: they are
dropped, or replaced by zeros first, so that NaN in them changes nothing.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from quickstudy.episode import Inputs, as_inputs, first_leaf, map_leaves, may_read
from quickstudy.errors import InputError
from quickstudy.nets.dense import Layer
from quickstudy.nets.norms import Moments, NormPass, couples_examples, foreign_coupling, norm_pass
from quickstudy.nets.secondorder import plain_kernels
from quickstudy.nets.strategy import (
    STRATEGIES,
    HasBatchedForm,
    Params,
    Strategy,
    choose_strategy,
    has_batched_form,
    has_foreign_buffers,
    strategy_for,
    takes_head,
)
from quickstudy.nets.survey import Survey
from quickstudy.nets.tied import with_tied

__all__ = [
    "ROWS_AT_ONCE",
    "STRATEGIES",
    "Applied",
    "HasBatchedForm",
    "Params",
    "Strategy",
    "apply",
    "choose_strategy",
    "laid_out",
    "network_dtype",
]

ROWS_AT_ONCE = 128
"""Examples that a packed call on a CPU computes at once."""

# How torch's errors speak of shapes, and of the type of numbers.
_OF_SHAPES = re.compile(r"\b(shapes?|sizes?|channels|dimensions?)\b")
_OF_WHOLE_NUMBERS = re.compile(r"\b(dtype|datatype|long|int|short|char|byte|bool)\b", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Applied:
    """What a network gave.

    Args:
        out: ``[T, N, ...]``, zero on padding.
        moments: statistics that norms measured, each ``[T, ...]``.
        buffers: buffers of foreign layers as each task left them, each ``[T, ...]`` (the module's are untouched).
        headed: ``out`` is what the head that was handed in makes of the network's outputs.
    """

    out: Tensor
    moments: Moments = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)
    headed: bool = False

    @property
    def carried(self) -> dict[str, Tensor]:
        """What the engine hands to ``absorb_statistics``, detached."""
        return {name: value.detach() for name, value in (self.moments | self.buffers).items()}


def apply(
    net: nn.Module,
    x: Inputs,
    *,
    params: Params | None = None,
    mask: Tensor | None = None,
    given: Moments | None = None,
    strategy: Strategy = "auto",
    head: Layer | None = None,
) -> Applied:
    """Run ``net`` on T tasks.

    Args:
        net: any module that maps ``[N, ...]`` (or a dict of such) to ``[N, ...]``.
        x: ``[T, N, ...]`` leaves; uint8 pictures become floats in 0 .. 1.
        params: weights of its own for each task, ``[T, ...]`` by name; those not named are the module's.
        mask: bool ``[T, N]``, False on padding.
        given: norm moments measured on the support, ``[T, ...]``.
        strategy: how to run it; ``"auto"`` chooses by network and device.
        head: a linear layer on top; networks compute it whose form with a task axis has a place for it, in fewer
            operators, and others leave it (see ``Applied.headed``).

    Returns:
        Outputs and statistics.

    Raises:
        InputError: the strategy does not fit the network, or what is handed in is not of it.
    """
    survey = Survey.of(net)
    x = as_inputs(x, survey.dtype)
    if strategy not in STRATEGIES:
        raise InputError(f"There is no strategy {strategy!r}. Use one of {', '.join(STRATEGIES)}.")
    if params:
        _check_params(net, survey, params, first_leaf(x).shape[0])
    if strategy == "packed" and (params or given):
        raise InputError(
            "Strategy 'packed' shares θ between tasks and takes no weights or norm moments of each task's own. "
            "Use strategy='loop' or 'auto' (learner.strategy in a recipe)."
        )
    if mask is not None and may_read() and bool(mask.all()):
        mask = None
    # Weights of their own are the result of a gradient, or will meet one.
    fused = params and torch.is_grad_enabled() and not getattr(net, "without_fused_kernels", False)
    kernels = plain_kernels(net) if fused else nullcontext()
    try:
        with kernels:
            return _run(net, survey, x, params, mask, given, strategy, head)
    except RuntimeError as error:
        refusal = _unreadable(net, x, str(error).split("\n")[0].rstrip("."))
        if refusal is None:
            raise
        raise refusal from error


def _unreadable(net: nn.Module, x: Inputs, said: str) -> InputError | None:
    """What torch says of inputs that a network cannot read, in a sentence of ours.

    None where it speaks of something else, such as a device that is out of memory.
    """
    leaves = x if isinstance(x, dict) else {"x": x}
    if "DTensor" in said:
        return InputError(
            f"The weights of {type(net).__name__} are divided over processes (DTensor), and cannot be a task's own so: "
            f"{said.rstrip('!')}. Gather them first (weight.full_tensor()), or take a learner whose network no task "
            "adapts, such as ProtoNet or ANIL; docs/scaling.md says what works."
        )
    whole = next((leaf.dtype for leaf in leaves.values() if not leaf.is_floating_point()), None)
    if whole is not None and _OF_WHOLE_NUMBERS.search(said):
        return InputError(
            f"{type(net).__name__} cannot read these inputs, which are whole numbers ({whole}): {said}. "
            "Integers are handed on as they are, for token ids; give measurements as floats, x.float()."
        )
    if _OF_SHAPES.search(said):
        shapes = ", ".join(f"{name} {list(leaf.shape[2:])}" for name, leaf in leaves.items())
        return InputError(
            f"{type(net).__name__} cannot read examples of this shape, {shapes}: {said}. Give it what it was built for."
        )
    return None


def _check_params(net: nn.Module, survey: Survey, params: Params, n_task: int) -> None:
    """Weights that a task brings are the network's, one set a task.

    Raises:
        InputError: naming the first that is not.
    """
    strange = next((name for name in params if name not in survey.parameters), None)
    if strange is not None:
        known = [name for name, _ in net.named_parameters(remove_duplicate=False)]
        known += [name for name, _ in net.named_buffers(remove_duplicate=False)]
        strange = next((name for name in params if name not in known), None)
    if strange is not None:
        raise InputError(
            f"{type(net).__name__} has no weight {strange!r}. Name weights as its named_parameters() does."
        )
    for name, value in params.items():
        if value.dim() == 0 or value.shape[0] != n_task:
            raise InputError(
                f"Expected the weight {name!r} once for each of {n_task} tasks, [{n_task}, ...], found shape "
                f"{list(value.shape)}."
            )


def _run(
    net: nn.Module,
    survey: Survey,
    x: Inputs,
    params: Params | None,
    mask: Tensor | None,
    given: Moments | None,
    strategy: Strategy,
    head: Layer | None,
) -> Applied:
    chosen = strategy_for(net, first_leaf(x), shared=params is None, asked=strategy)
    dropping = mask is not None and may_read()
    if chosen == "packed" and (dropping or mask is None):
        return _packed(net, x, mask)
    if chosen == "loop" and mask is not None and not dropping:  # which rows are padding is a value
        chosen = "batched" if has_batched_form(net) else "vmap"
    if chosen == "loop":
        return _loop(net, x, params or {}, mask, given)
    if mask is not None:
        x = map_leaves(lambda leaf: torch.where(_like(mask, leaf), leaf, torch.zeros((), dtype=leaf.dtype)), x)
    if chosen == "packed":
        applied = _packed(net, x, None)
    else:
        applied = (
            _vmap(net, x, params, mask, given)
            if chosen == "vmap"
            else _batched(net, survey, x, params, mask, given, head)
        )
    if mask is None:
        return applied
    return replace(applied, out=torch.where(_like(mask, applied.out), applied.out, 0.0))


def network_dtype(net: nn.Module) -> torch.dtype:
    """The floating dtype that ``net`` computes in (float32 for a network without parameters)."""
    return Survey.of(net).dtype


def laid_out(net: nn.Module, x: Inputs) -> Inputs:
    """Pictures ``[N, C, H, W]`` in channels-last layout for networks that say ``channels_last = True``.

    The convolution kernels of CPUs are faster so. Others get them as they are: many flatten with
    ``view``, which that layout does not allow.
    """
    if not getattr(net, "channels_last", False):
        return x

    def convert(leaf: Tensor) -> Tensor:
        if leaf.dim() != 4 or not leaf.is_floating_point() or leaf.requires_grad:
            return leaf
        # A copy, because .to(memory_format=...) leaves a single channel's strides as they are.
        return torch.empty_like(leaf, memory_format=torch.channels_last).copy_(leaf)

    return map_leaves(convert, x)


def _like(mask: Tensor, leaf: Tensor) -> Tensor:
    return mask.view(*mask.shape, *(1,) * (leaf.dim() - 2))


def _names(net: nn.Module) -> dict[nn.Module, str]:
    return {layer: name for name, layer in net.named_modules()}


def _packed(net: nn.Module, x: Inputs, mask: Tensor | None) -> Applied:
    if couples_examples(net) or has_foreign_buffers(net):
        raise InputError(
            "Strategy 'packed' would mix tasks: this network's outputs depend on the rows beside an example. "
            "Use strategy='loop' or 'auto' (learner.strategy in a recipe)."
        )
    n_task, n_row = first_leaf(x).shape[:2]
    rows = map_leaves(lambda leaf: leaf.flatten(0, 1) if mask is None else leaf[mask], x)
    out = torch.cat([net(laid_out(net, block)) for block in _blocks(rows)])
    if mask is None:
        return Applied(out.reshape(n_task, n_row, *out.shape[1:]))
    full = out.new_zeros(n_task, n_row, *out.shape[1:])
    return Applied(full.index_put((mask,), out))


def _blocks(rows: Inputs) -> list[Inputs]:
    """Rows in portions whose activations stay in a CPU's caches."""
    leaf = first_leaf(rows)
    if torch.compiler.is_compiling() or leaf.is_cuda or leaf.shape[0] <= ROWS_AT_ONCE:
        return [rows]  # while it is exported nobody knows how many there will be
    if isinstance(rows, Tensor):
        return list(torch.split(rows, ROWS_AT_ONCE))
    parts = zip(*(torch.split(leaf, ROWS_AT_ONCE) for leaf in rows.values()), strict=True)
    return [dict(zip(rows, part, strict=True)) for part in parts]


def _call(
    net: nn.Module,
    names: dict[nn.Module, str],
    params: Params,
    x: Inputs,
    given: Moments | None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Moments]:
    """One task: ``[N, ...] -> [N, ...]``."""
    with norm_pass(NormPass(names, mask=mask, given=given)) as the_pass:
        out = functional_call(net, with_tied(net, params), (x,), tie_weights=False) if params else net(x)
    return out, the_pass.measured


def _loop(net: nn.Module, x: Inputs, params: Params, mask: Tensor | None, given: Moments | None) -> Applied:
    names = _names(net)
    n_task, n_row = first_leaf(x).shape[:2]
    # Layers of others may write their buffers in training: they get copies, passed on from task to task.
    foreign = {n: b.clone() for n, b in net.named_buffers()} if has_foreign_buffers(net) else {}
    outs, measured, left = [], [], []
    # Taken apart at once: the derivative of value[t] would be a tensor of all tasks for each of them.
    own, seen = _each_task(params), _each_task(given or {})
    for t in range(n_task):
        mine = {name: parts[t] for name, parts in own.items()} | foreign
        theirs = None if given is None else {name: parts[t] for name, parts in seen.items()}
        out, moments = _call(net, names, mine, laid_out(net, _rows_of(x, t, mask)), theirs)
        if mask is not None:
            out = out.new_zeros(n_row, *out.shape[1:]).index_put((mask[t],), out)
        outs.append(out)
        measured.append(moments)
        left.append({name: value.clone() for name, value in foreign.items()})
    stacked = {name: torch.stack([m[name] for m in measured]) for name in measured[0]}
    return Applied(torch.stack(outs), stacked, {name: torch.stack([b[name] for b in left]) for name in foreign})


def _each_task(tensors: dict[str, Tensor]) -> dict[str, tuple[Tensor, ...]]:
    """``[T, ...]`` by name -> T tensors by name."""
    return {name: tensor.unbind(0) for name, tensor in tensors.items()}


def _rows_of(x: Inputs, task: int, mask: Tensor | None) -> Inputs:
    return map_leaves(lambda leaf: leaf[task] if mask is None else leaf[task][mask[task]], x)


def _vmap(net: nn.Module, x: Inputs, params: Params | None, mask: Tensor | None, given: Moments | None) -> Applied:
    if has_foreign_buffers(net):
        raise InputError(
            "Strategy 'vmap' cannot run layers in training mode that write into their buffers, such as torch's own "
            "batch norm. Use strategy='loop' (or 'auto'), or one of quickstudy's norms."
        )
    if mask is not None and foreign_coupling(net):
        raise InputError(
            "Strategy 'vmap' cannot run ragged tasks through a layer that looks at several rows and knows no mask. "
            "Use strategy='loop' (or 'auto'), or one of quickstudy's norms."
        )
    names = _names(net)

    def one(p: Params, x_t: Inputs, m: Tensor | None, g: Moments | None) -> tuple[Tensor, Moments]:
        return _call(net, names, p, x_t, g, m)

    axes = (0 if params else None, 0, None if mask is None else 0, None if given is None else 0)
    out, moments = vmap(one, in_dims=axes, randomness="different")(params or {}, x, mask, given)
    return Applied(out, moments)


def _batched(
    net: nn.Module,
    survey: Survey,
    x: Inputs,
    params: Params | None,
    mask: Tensor | None,
    given: Moments | None,
    head: Layer | None,
) -> Applied:
    if not has_batched_form(net) or not (isinstance(x, Tensor) or getattr(net, "named_inputs", False)):
        raise InputError(
            f"Strategy 'batched' needs a network with a batched form and a single input tensor; "
            f"{type(net).__name__} has none. Use strategy='vmap' or 'loop'."
        )
    every = survey.parameters | params if params else survey.parameters
    form = cast(HasBatchedForm, net).batched
    with norm_pass(NormPass(survey.names, mask=mask, given=given, batched=True)) as the_pass:
        if head is not None and takes_head(cast(Any, type(net))):
            return Applied(form(every, x, head), the_pass.measured, headed=True)  # type: ignore[call-arg, arg-type]
        return Applied(form(every, x), the_pass.measured)  # type: ignore[arg-type]
