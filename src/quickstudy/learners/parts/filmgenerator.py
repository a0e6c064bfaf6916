"""Floor 3: a network's FiLM weights for a task, generated from its support set (Requeima et al. 2019, CNAPs)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.nets.adapters import Film
from quickstudy.nets.apply import Params, apply
from quickstudy.nets.conv4 import Conv4
from quickstudy.nets.mlp import MLP

_LARGE_ENOUGH_TO_POOL = 16
"""Pixels of a side from which on four blocks can halve by pooling."""


class TaskEncoder(nn.Module):
    """A support set to one vector: the mean over its examples of a small network.

    Its norms use the support's own rows, in training and testing alike, as in the authors' code; no query is seen.

    Args:
        example: shape of one example.
        size: of the vector.

    Raises:
        InputError: the shape is not known, or of a dict of inputs.
    """

    def __init__(self, example: tuple[int, ...] | dict[str, tuple[int, ...]] | None, size: int) -> None:
        super().__init__()
        if example is None or isinstance(example, dict):
            raise InputError(
                "Cannot build a network that reads support sets: it needs the shape of one example, a single tensor. "
                "Pass example=, or use film=False."
            )
        self.net: nn.Module
        if len(example) == 3 and example[1] == example[2]:
            pool: Literal["max", "stride"] = "max" if example[1] >= _LARGE_ENOUGH_TO_POOL else "stride"
            self.net = Conv4(example[0], example[1], filters=size, pool=pool, norm="transductive", readout="mean")
        else:
            self.net = MLP(int(torch.Size(example).numel()), (size, size))

    def forward(self, support: Examples) -> Tensor:
        """``[T, size]``; rows without a label are not read."""
        counted = support.labelled
        out = apply(self.net, support.x, mask=counted).out  # zero where not counted
        return out.sum(1) / counted.sum(1, keepdim=True).clamp(min=1)


class FilmGenerator(nn.Module):
    """One vector a task to a scale and a shift for each channel of a network.

    For each layer a linear map to its channels, then for scales and shifts three residual linear layers, times a
    learned factor a channel that begins near 0: the network begins near its own.

    Args:
        film: which layers.
        size: of the vector.
    """

    def __init__(self, film: Film, size: int) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        self.factors = nn.ParameterDict()
        for name, zeros in film.named_parameters():
            key, channels = name.replace(".", "_"), len(zeros)
            linears = [nn.Linear(size, channels), *(nn.Linear(channels, channels) for _ in range(3))]
            self.layers[key] = nn.ModuleList(linears)
            self.factors[key] = nn.Parameter(0.001 * torch.randn(channels))
        self.names = {name.replace(".", "_"): name for name, _ in film.named_parameters()}

    def forward(self, task: Tensor) -> Params:
        """``[T, size]`` to ``"scales.n"``, ``"shifts.n"`` ``[T, C]``; see ``nets.adapters.Film``."""
        made = {}
        for key, name in self.names.items():
            layers = self.layers[key]
            assert isinstance(layers, nn.ModuleList)
            x = layers[0](task)
            for layer in layers[1:]:
                x = F.relu(x)
                x = x + layer(x)
            made[name] = x * self.factors[key]
        return made

    def penalty(self) -> Tensor:
        """The squared size of all factors: how far a task may take the network from its own weights."""
        return torch.stack([factor.square().sum() for factor in self.factors.values()]).sum()
