"""Floor 1: kernels that cannot be differentiated twice: going round them, and naming the layer where there is no way.

Fused kernels (attention, cuDNN's recurrent layers) are differentiated once only. Both have a plain form with the same
results, which :func:`plain_kernels` takes. Torch notices a missing second derivative in the backward pass of the outer
loop, where no layer has a name any more: :func:`blamed_layer` finds it by trying each layer alone.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from quickstudy.errors import InputError

AnyModule = TypeVar("AnyModule", bound=nn.Module)
Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
_SIGNS = ("double backward", "differentiate twice", "doesn't support double")
_ONCE = torch.autograd.function.once_differentiable(lambda ctx: None).__code__
"""The code that every backward pass marked so consists of; torch keeps no other sign of the mark."""
_ATTENTION = (
    (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
)
"""Torch's switches for the forms of attention (of all devices, in spite of their place); the plain one first."""


def misses_first_derivative(error: RuntimeError) -> bool:
    """Whether torch complains that an operation has no derivative at all."""
    text = str(error).lower()
    return "derivative for" in text and "is not implemented" in text and "backward" not in text


def misses_second_derivative(error: RuntimeError) -> bool:
    """Whether torch complains that an operation, which has a derivative, has no second one."""
    text = str(error).lower()
    unwritten = "is not implemented" in text and not misses_first_derivative(error)
    return unwritten or any(sign in text for sign in _SIGNS)


def once_differentiable_names(output: Tensor, inputs: Sequence[Tensor]) -> list[str]:
    """Functions marked ``@once_differentiable`` on the way from ``output`` back to ``inputs``.

    Torch complains of them only where their cotangent has a graph and ``backward()`` walks past; else their part of a
    second derivative is silently zero.

    Args:
        output: a tensor with a graph.
        inputs: tensors in that graph, where the walk back ends.

    Returns:
        Their names, each once.
    """
    leaves = {id(tensor) for tensor in inputs}
    # Whether a node lies on a way to the inputs; a node is judged when all behind it are.
    leads: dict[Any, bool] = {tensor.grad_fn: True for tensor in inputs if tensor.grad_fn is not None}
    names, waiting = [], [output.grad_fn]
    while waiting:
        node = waiting[-1]
        if node is None or leads.get(node) is not None:
            waiting.pop()
            continue
        behind = [before for before, _ in node.next_functions if before is not None]
        unseen = [before for before in behind if before not in leads]
        if unseen:
            waiting += unseen
            continue
        waiting.pop()
        leads[node] = id(getattr(node, "variable", None)) in leaves or any(leads[before] for before in behind)
        backward = getattr(getattr(node, "_forward_cls", None), "backward", None)
        if leads[node] and getattr(backward, "__code__", None) is _ONCE:
            names.append(str(node._forward_cls.__name__))  # type: ignore[attr-defined]
    return sorted(set(names))


@contextmanager
def plain_kernels(net: nn.Module) -> Iterator[None]:
    """Attention and recurrent layers computed inside in their plain form, which can be differentiated twice.

    The switches are torch's own, of the whole process, and put back afterwards.
    """
    recurrent = any(isinstance(layer, nn.RNNBase) for layer in net.modules())
    cudnn = torch.backends.cudnn.enabled
    # What sdpa_kernel(SDPBackend.MATH) does, in a tenth of its time: this surrounds each call of a network.
    before: list[bool] = [enabled() for enabled, _ in _ATTENTION]  # type: ignore[no-untyped-call]
    try:
        for (_, enable), wanted in zip(_ATTENTION, (True, False, False, False), strict=True):
            enable(wanted)
        if recurrent:  # convolutions would be slower without cuDNN
            torch.backends.cudnn.enabled = False
        yield
    finally:
        for (_, enable), wanted in zip(_ATTENTION, before, strict=True):
            enable(wanted)
        if recurrent:
            torch.backends.cudnn.enabled = cudnn


def blamed_layer(module: AnyModule, run: Callable[[AnyModule], object]) -> str | None:
    """The innermost layer that lacks a derivative, first or second, as ``name (type)``; None where none is found.

    Args:
        module: a learner or a network; it is copied, nothing is written.
        run: calls it on some data; each layer is then tried alone on the inputs that it saw.
    """
    trial = copy.deepcopy(module)
    for part in trial.modules():
        if isinstance(getattr(part, "strategy", None), str):
            part.strategy = "loop"  # type: ignore[assignment]  # tensors seen inside vmap cannot be kept
    calls = _calls(trial, run)
    names = {layer: name for name, layer in trial.named_modules()}
    innermost_first = sorted(calls, key=lambda layer: -names[layer].count("."))
    # A fused kernel is to blame only where no layer fails in the plain form, which `apply` has used.
    for context in (plain_kernels(trial), contextlib.nullcontext()):
        with context:
            for layer in innermost_first:
                if _fails(layer, calls[layer]):
                    return f"{names[layer] or 'network'!r} ({type(layer).__name__})"
    return None


def _calls(module: AnyModule, run: Callable[[AnyModule], object]) -> dict[nn.Module, Call]:
    """What each layer was called with first."""
    calls: dict[nn.Module, Call] = {}

    def note(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.setdefault(layer, (_kept(args), _kept(kwargs)))

    handles = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in module.modules()]
    try:
        with contextlib.suppress(RuntimeError, InputError), torch.random.fork_rng(devices=[]):
            run(module)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _kept(value: Any) -> Any:
    """A copy outside any graph that derivatives can be taken in."""
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.is_floating_point())
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(_kept(part) for part in value)
    if isinstance(value, dict):
        return {name: _kept(part) for name, part in value.items()}
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    """The floating tensors in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _fails(layer: nn.Module, call: Call) -> bool:
    """Whether a derivative of this layer alone, the first or the second, is missing."""
    args, kwargs = call
    leaves = [*_tensors([args, kwargs]), *(p.requires_grad_() for p in layer.parameters() if p.is_floating_point())]
    if not leaves:
        return False
    try:
        with torch.enable_grad():
            # Squares, so that a layer that is linear in itself has a second derivative to ask for.
            out = sum((part.square().sum() for part in _tensors(layer(*args, **kwargs))), leaves[0].new_zeros(()))
            first = torch.autograd.grad(out, leaves, create_graph=True, allow_unused=True)
            squares = [part.square().sum() for part in first if part is not None and part.requires_grad]
            if squares:
                # Not autograd.grad, which walks towards the leaves only and may pass by the node that complains.
                torch.stack(squares).sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        return misses_first_derivative(error) or misses_second_derivative(error)
    return False
