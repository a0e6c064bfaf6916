"""Floor 3: features for baselines, from a network or straight from the inputs."""

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


def flat_features(net: nn.Module | None, examples: Examples) -> Tensor:
    """One vector an example, ``[T, N, D]``, zero on padding: the network's output, or the inputs flattened.

    Raises:
        InputError: dict inputs without a network.
    """
    if net is not None:
        return apply(net, examples.x, mask=examples.mask).out.flatten(2)
    leaf = first_leaf(examples.x)
    x = as_inputs(examples.x, leaf.dtype if leaf.is_floating_point() else torch.get_default_dtype())
    if isinstance(x, dict):
        raise InputError(
            f"Cannot flatten inputs named {sorted(x)}: give this baseline a network that turns them into one."
        )
    x = x.flatten(2).to(torch.promote_types(x.dtype, torch.float32))
    return torch.where(examples.real[..., None], x, 0.0)
