"""Floor 3: features, from a network or straight from the inputs, and their size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quickstudy.episode import Examples, as_inputs, first_leaf
from quickstudy.errors import InputError
from quickstudy.nets.apply import apply
from quickstudy.nets.norms import needs_support_moments, uses_current_rows


def check_singly(net: nn.Module | None) -> None:
    """A baseline's network must look at each example alone.

    Raises:
        InputError: its norms look at other rows even in eval mode.
    """
    if net is not None and (uses_current_rows(net) or needs_support_moments(net)):
        raise InputError(
            "This baseline needs features that do not depend on the examples beside one; the network's norms look at "
            "other rows. Build it with norm='batch', 'group', 'layer', 'instance' or 'none'."
        )


def flat_features(net: nn.Module | None, examples: Examples, size: int | None = None) -> Tensor:
    """One vector an example, ``[T, N, D]``, zero on padding: the network's output, or the inputs flattened.

    In float32 at least: what is computed of them (distances, solvers) has no form, or no digits, in half precision.

    Args:
        net: the network, if any.
        examples: ``[T, N, ...]``.
        size: D of the support, where these are its queries.

    Raises:
        InputError: dict inputs without a network; or queries of another size than the support.
    """
    out = _flat(net, examples)
    if size is not None and out.shape[2] != size:
        raise InputError(
            f"Cannot predict: an example of the query is {out.shape[2]} numbers, one of the support {size}. Give both "
            "the same columns."
        )
    return out


def _flat(net: nn.Module | None, examples: Examples) -> Tensor:
    if net is not None:
        out = apply(net, examples.x, mask=examples.mask).out.flatten(2)
        return out.to(torch.promote_types(out.dtype, torch.float32))
    leaf = first_leaf(examples.x)
    x = as_inputs(examples.x, leaf.dtype if leaf.is_floating_point() else torch.get_default_dtype())
    if isinstance(x, dict):
        raise InputError(
            f"Cannot flatten inputs named {sorted(x)}: give this baseline a network that turns them into one."
        )
    x = (x.flatten(2) if x.dim() > 2 else x[..., None]).to(torch.promote_types(x.dtype, torch.float32))
    return torch.where(examples.real[..., None], x, 0.0)


def known_size(net: nn.Module, out_features: int | None = None) -> int | None:
    """The size of a network's features: what was said, else its attribute ``out_features``, else None."""
    size = out_features if out_features is not None else getattr(net, "out_features", None)
    return size if isinstance(size, int) else None


def feature_size(net: nn.Module, out_features: int | None, what: str = "a classifier") -> int:
    """The size of a network's features.

    Args:
        net: the network.
        out_features: what was said, if anything.
        what: is to be built on it, for the message.

    Raises:
        InputError: nobody said it.
    """
    size = known_size(net, out_features)
    if size is None:
        raise InputError(
            f"Cannot build {what} on {type(net).__name__}: its feature size is not known. "
            "Give the network an attribute out_features, or pass out_features=."
        )
    return size
