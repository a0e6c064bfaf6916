"""Floor 3: features for baselines, from a network or straight from the inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quickstudy.episode import Examples, as_inputs
from quickstudy.errors import InputError
from quickstudy.nets.apply import apply


def flat_features(net: nn.Module | None, examples: Examples) -> Tensor:
    """One vector an example, ``[T, N, D]``, zero on padding: the network's output, or the inputs flattened.

    Raises:
        InputError: dict inputs without a network.
    """
    if net is not None:
        return apply(net, examples.x, mask=examples.mask).out.flatten(2)
    x = as_inputs(examples.x, torch.get_default_dtype())
    if isinstance(x, dict):
        raise InputError(
            f"Cannot flatten inputs named {sorted(x)}: give this baseline a network that turns them into one."
        )
    x = x.flatten(2).to(torch.promote_types(x.dtype, torch.float32))
    return torch.where(examples.real[..., None], x, 0.0)
