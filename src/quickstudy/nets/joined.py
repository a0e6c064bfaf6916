"""Floor 1: what operators in C with own first and second derivatives have in common.

Such an operator has a plain form, a function of tensors made of torch's operators. It is what third derivatives are
taken of, and what computes where C may not.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from quickstudy import native

Plain: TypeAlias = Callable[..., Tensor]


class Functions:
    """The functions of a file of C, for both precisions.

    Args:
        source: the file.
        tensors: of each function, how many tensors it takes after the address of its ``Shape``.
    """

    def __init__(self, source: Path, tensors: Mapping[str, int]) -> None:
        self._source, self._tensors = source, dict(tensors)

    @functools.cached_property
    def _found(self) -> dict[str, Any] | None:
        library = native.library(self._source)
        if library is None:
            return None
        found = {}
        for name, count in self._tensors.items():
            for ending in native.suffixes():
                function = found[name + ending] = getattr(library, name + ending)
                function.argtypes, function.restype = (ctypes.c_void_p,) * (1 + count), None
        return found

    def there(self) -> bool:
        """Whether they can be had."""
        return self._found is not None

    def call(self, name: str, shape: Any, *tensors: Tensor | None) -> None:
        """Call the form for the first tensor's precision; all must be laid out as it expects.

        Args:
            name: of the function, without its ending.
            shape: a reference to the structure that the file calls ``Shape``.
            tensors: in the function's order; None is a null pointer.
        """
        found = self._found
        assert found is not None and tensors[0] is not None
        assert len(tensors) == self._tensors[name]  # ctypes would hand on more, as whole numbers
        function = found[name + native.suffix(tensors[0])]
        function(shape, *[None if tensor is None else tensor.data_ptr() for tensor in tensors])


def plain_derivative(
    plain: Plain, inputs: Sequence[Tensor], cotangent: Tensor, *, recorded: bool
) -> tuple[Tensor, ...]:
    """The derivative of ``plain(*inputs)`` with respect to each; differentiable where ``recorded``."""
    with torch.enable_grad(), native.kernels("torch"):
        leaves = _leaves(inputs)
        return torch.autograd.grad(plain(*leaves), leaves, cotangent, create_graph=recorded)


def plain_second(
    plain: Plain, inputs: Sequence[Tensor], cotangent: Tensor, cotangents: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """The derivative of :func:`plain_derivative`: with respect to its cotangent, and to each input.

    Differentiable where a graph is being recorded.

    Args:
        plain: the operator.
        inputs: its.
        cotangent: of its output.
        cotangents: of each derivative; at least one is not None.
    """
    recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = _leaves((cotangent, *inputs))
        first = plain_derivative(plain, leaves[1:], leaves[0], recorded=True)
        pairs = [(d, c) for d, c in zip(first, cotangents, strict=True) if c is not None]
        outputs, given = zip(*pairs, strict=True)
        return torch.autograd.grad(outputs, leaves, given, create_graph=recorded, allow_unused=True)


def _leaves(tensors: Sequence[Tensor]) -> list[Tensor]:
    """To take derivatives at: views, as one may have been made of another, and that way must not be counted."""
    return [part.view_as(part) if part.requires_grad else part.detach().requires_grad_() for part in tensors]


def from_groups(values: Tensor, like: Tensor, own: int) -> Tensor:
    """Derivatives ``[groups, ...]`` in the shape of a weight, which groups may share.

    Args:
        values: one a group.
        like: the weight.
        own: how many axes the weight has where each group has its own.
    """
    if like.dim() == own:
        return values.view_as(like)
    return (values[0] if values.shape[0] == 1 else values.sum(0)).view_as(like)


def to_groups(cotangent: Tensor | None, shape: Sequence[int], like: Tensor) -> Tensor:
    """A cotangent of what :func:`from_groups` gave, ``[groups, ...]``; zeros where there is none."""
    if cotangent is None:
        return like.new_zeros(shape)
    if cotangent.numel() != torch.Size(shape).numel():
        cotangent = cotangent.expand(shape[0], *cotangent.shape)
    return cotangent.reshape(shape).contiguous()
