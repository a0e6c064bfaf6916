"""Floor 1: what operators in C with own first and second derivatives have in common.

Such an operator has a plain form, a function of tensors made of torch's operators. It is what third derivatives are
taken of, and what computes where C may not.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import Tensor

from quickstudy import native

Plain: TypeAlias = Callable[..., Tensor]


class Functions:
    """The functions of a file of C, for both precisions.

    Args:
        source: the file.
        tensors: of each function, how many addresses it takes after that of its ``Shape``.
        numbers: the types of what it takes after those.
        result: the type of what the functions return, if anything.
    """

    def __init__(
        self,
        source: Path,
        tensors: Mapping[str, int],
        numbers: Mapping[str, Sequence[Any]] = MappingProxyType({}),
        result: Any = None,
    ) -> None:
        self._source, self._tensors, self._numbers, self._result = source, dict(tensors), dict(numbers), result

    @functools.cached_property
    def _found(self) -> dict[str, Any] | None:
        library = native.library(self._source)
        if library is None:
            return None
        found = {}
        for name, count in self._tensors.items():
            takes = ((ctypes.c_void_p,) * (1 + count), tuple(self._numbers.get(name, ())))
            for ending in native.suffixes():
                function = found[name + ending] = getattr(library, name + ending)
                function.argtypes, function.restype = sum(takes, ()), self._result
        return found

    def there(self) -> bool:
        """Whether they can be had."""
        return self._found is not None

    def form(self, name: str, dtype: torch.dtype) -> Any:
        """The function of a name, without its ending, for a precision."""
        found = self._found
        assert found is not None
        return found[name + native.suffix(dtype)]

    def call(self, name: str, shape: Any, *tensors: Tensor | None) -> None:
        """Call the form for the first tensor's precision; all must be laid out as it expects (see :func:`relaid`).

        Args:
            name: of the function, without its ending.
            shape: a reference to the structure that the file calls ``Shape``.
            tensors: in the function's order; None is a null pointer.
        """
        assert tensors[0] is not None
        assert len(tensors) == self._tensors[name]  # ctypes would hand on more, as whole numbers
        function = self.form(name, tensors[0].dtype)
        function(shape, *[None if tensor is None else tensor.data_ptr() for tensor in tensors])


def relaid(*tensors: Tensor | None) -> list[Any]:
    """What was saved for a derivative, maps channels-last, as C reads it: hooks may have laid it otherwise."""
    return [None if part is None else _laid(part) for part in tensors]


def _laid(part: Tensor) -> Tensor:
    layout = torch.channels_last if part.dim() == 4 else torch.contiguous_format
    return part if part.is_contiguous(memory_format=layout) else part.contiguous(memory_format=layout)


def derivative_of(plain: Plain, inputs: Sequence[Tensor], cotangent: Tensor, *, recorded: bool) -> tuple[Tensor, ...]:
    """The derivative of ``plain(*inputs)`` with respect to each; differentiable where ``recorded``."""
    with torch.enable_grad(), native.kernels("torch"):
        leaves = _leaves(inputs)
        return torch.autograd.grad(plain(*leaves), leaves, cotangent, create_graph=recorded)


def second_of(
    plain: Plain, inputs: Sequence[Tensor], cotangent: Tensor, cotangents: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """The derivative of :func:`derivative_of`: with respect to its cotangent, and to each input.

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
        first = derivative_of(plain, leaves[1:], leaves[0], recorded=True)
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
