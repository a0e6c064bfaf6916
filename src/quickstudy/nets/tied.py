"""Floor 1: weights that a network uses in more than one place, under weights of a task's own."""

from __future__ import annotations

from torch import Tensor, nn


def with_tied(net: nn.Module, params: dict[str, Tensor]) -> dict[str, Tensor]:
    """``params``, each also under the names of the other layers that hold the same parameter.

    A parameter is listed once, under the first of its names. A second *layer* that holds it must be given the same
    weights. A layer that merely has two names must not be given them twice: torch's ``functional_call`` would then
    put the task's weights back in place of the parameter.

    Args:
        net: the network.
        params: name -> weights, by the names of ``net.named_parameters()``.
    """
    places: dict[int, dict[tuple[int, str], str]] = {}  # parameter -> (layer, attribute) -> first name
    for prefix, layer in net.named_modules():  # each layer once, under its first name
        for name, p in layer.named_parameters(recurse=False, remove_duplicate=False):
            places.setdefault(id(p), {})[id(layer), name] = f"{prefix}.{name}" if prefix else name
    every = dict(params)
    for names in places.values():
        given = [params[name] for name in names.values() if name in params]
        if given:
            every |= dict.fromkeys(names.values(), given[0])
    return every
