"""Floor 1: what of a network changes for a task, when not all of it does.

Some parts are a choice among the network's own parameters (``biases``, ``norms``), and for these only names are needed.
Others are a few new numbers from which weights are made, and the module stays as it is:

    film    a scale and a shift for each channel: rows (1 + s) W and bias (1 + s) b + t. They sit on the affine weights
            of norms where the network has any, else on its linear layers and convolutions
    lora    W + (alpha / rank) B A for each linear layer and convolution (its kernel flattened to [O, I k k])

Both begin as the plain network, exactly: s = t = 0, B = 0. Nothing is patched: :meth:`AbstractAdapter.expand` makes a
dict of weights for ``nets.apply``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal, TypeAlias

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from typing_extensions import override

from quickstudy.errors import InputError
from quickstudy.nets.norms import AbstractNorm

__all__ = ["AbstractAdapter", "Film", "LowRank", "Part", "make_adapter", "parts_own_names"]

Part: TypeAlias = Literal["all", "head", "body", "biases", "norms", "film", "lora"]

_TORCH_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_TRANSPOSED = nn.modules.conv._ConvTransposeNd
_ATTENTION_WEIGHTS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


class AbstractAdapter(nn.Module, ABC):
    """A few parameters, one set a task, from which weights of a network are made."""

    @abstractmethod
    def expand(self, weights: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights that change.

        Args:
            weights: the network's own, as ``named_parameters`` has them.
            own: this adapter's parameters by name, each ``[T, ...]``.

        Returns:
            Name in the network -> ``[T, ...]``.
        """


class Film(AbstractAdapter):
    """A scale and a shift for each channel (Perez et al., "FiLM", AAAI 2018), both 0 at first.

    Args:
        net: the network whose channels they act on. A layer without a bias gets no shift.

    Raises:
        InputError: it has neither norms with weights nor linear layers or convolutions, or these share a weight or have
            it computed from others.

    >>> adapter = Film(nn.Linear(3, 2))
    >>> sorted(name for name, _ in adapter.named_parameters())
    ['scales.0', 'shifts.0']
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        named = dict(net.named_parameters(remove_duplicate=False))
        _check_plain(net, "film")
        weighted = [(name, layer) for name, layer in net.named_modules() if _join(name, "weight") in named]
        owners = [name for name, layer in weighted if is_norm(layer)]
        owners = owners or [name for name, layer in weighted if has_rows(layer)]
        if not owners:
            raise InputError(
                f"part='film' scales and shifts channels, but {type(net).__name__} has neither norms with weights nor "
                "linear layers or convolutions. Use part='biases' or part='all'."
            )
        self.weights = tuple(_join(name, "weight") for name in owners)
        _check_own(net, owners)
        self.biases = tuple(bias if (bias := _join(name, "bias")) in named else None for name in owners)
        zeros = [named[name].new_zeros(len(named[name])) for name in self.weights]
        self.scales = nn.ParameterList(nn.Parameter(zero.clone()) for zero in zeros)
        shifted = (zero for zero, bias in zip(zeros, self.biases, strict=True) if bias is not None)
        self.shifts = nn.ParameterList(nn.Parameter(zero.clone()) for zero in shifted)

    @override
    def expand(self, weights: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
        made, n_shift = {}, 0
        for number, (name, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            shift = None if bias is None else own[f"shifts.{n_shift}"]
            weight, moved = modulated(
                weights[name], None if bias is None else weights[bias], 1 + own[f"scales.{number}"], shift
            )
            made[name] = weight
            if bias is not None and moved is not None:
                made[bias] = moved
                n_shift += 1
        return made


def modulated(weight: Tensor, bias: Tensor | None, scale: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias that put out each channel ``scale`` times as large, and ``shift`` higher.

    Args:
        weight: ``[C, ...]``.
        bias: ``[C]``, or like the weight of a norm over several axes; None where there is none.
        scale: ``[T, C]``.
        shift: ``[T, C]``; None where there is no bias.

    Returns:
        ``[T, C, ...]`` each.
    """

    def along(channels: Tensor, like: Tensor) -> Tensor:
        return channels.view(*channels.shape, *(1,) * (like.dim() - 1))

    moved = None if bias is None or shift is None else bias * along(scale, bias) + along(shift, bias)
    return weight * along(scale, weight), moved


class LowRank(AbstractAdapter):
    """Low-rank changes of weights (Hu et al., "LoRA", ICLR 2022): W + (alpha / rank) B A.

    A is drawn as a linear layer's weight is (from torch's global generator), B is 0, so that the first gradient moves
    B alone. A step of B changes W by about rank / (3 I) of what the same step of W would: the inner rate wants to be
    larger.

    Args:
        net: the network; frozen weights are as good as others.
        rank: r, at most min(O, I) of each weight.
        alpha: ``rank`` by default, for a factor of 1.

    Raises:
        InputError: a rank below 1, or a network with nothing to factor, or whose weights are computed from others.

    >>> {name: tuple(p.shape) for name, p in LowRank(nn.Linear(5, 3), rank=2).named_parameters()}
    {'up.0': (3, 2), 'down.0': (2, 5)}
    """

    def __init__(self, net: nn.Module, rank: int = 4, alpha: float | None = None) -> None:
        super().__init__()
        if rank < 1:
            raise InputError(f"part='lora' needs a rank of at least 1, received {rank}.")
        _check_plain(net, "lora")
        named = dict(net.named_parameters())  # of tied weights, the first name alone
        self.weights = tuple(name for name in _matrices(net) if name in named)
        if not self.weights:
            raise InputError(
                f"part='lora' factors changes of matrices, but {type(net).__name__} has no linear layer and no "
                "convolution. Use part='biases' or part='all'."
            )
        self.factor = 1.0 if alpha is None else alpha / rank
        self.up, self.down = nn.ParameterList(), nn.ParameterList()
        for name in self.weights:
            like = named[name].detach()
            rows, columns = like.shape[0], like[0].numel()
            inner = min(rank, rows, columns)
            self.up.append(nn.Parameter(like.new_zeros(rows, inner)))
            bound = 1 / math.sqrt(columns)
            self.down.append(nn.Parameter(like.new_empty(inner, columns).uniform_(-bound, bound)))

    @override
    def expand(self, weights: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
        made = {}
        for number, name in enumerate(self.weights):
            change = self.factor * own[f"up.{number}"] @ own[f"down.{number}"]  # [T, O, I k k]
            made[name] = weights[name] + change.reshape(-1, *weights[name].shape)
        return made


def make_adapter(net: nn.Module, part: Part, rank: int) -> AbstractAdapter | None:
    """The adapter that a part asks for; None for parts that are the network's own parameters.

    Args:
        net: the network.
        part: what is adapted.
        rank: of ``"lora"``.
    """
    if part == "film":
        return Film(net)
    return LowRank(net, rank) if part == "lora" else None


def parts_own_names(net: nn.Module, part: Part) -> set[str]:
    """Names of the network's own parameters that belong to a part and are not frozen.

    A network may name in ``outer`` where the names of parameters begin that no task adapts, such as embeddings.

    Raises:
        InputError: ``"biases"`` or ``"norms"`` of a network that has none that may change.
    """
    outer = tuple(getattr(net, "outer", ()))
    free = {name: p for name, p in net.named_parameters() if p.requires_grad and not name.startswith(outer)}
    if part in ("all", "body"):
        return set(free)
    if part == "biases":
        found = {name for name in free if "bias" in name.rpartition(".")[2]}
    elif part == "norms":
        inside = {_join(name, own) for name, layer in net.named_modules() if is_norm(layer) for own in _own(layer)}
        found = set(free) & inside
    else:
        return set()
    if not found:
        raise InputError(
            f"part={part!r} has nothing to adapt: {type(net).__name__} has no {part} that may change. Build it "
            "with them (and with requires_grad=True), or use another part, such as 'film', 'lora' or 'head'."
        )
    return found


def is_norm(layer: nn.Module) -> bool:
    """Whether a layer is a norm: ours, torch's, or one whose class is called so (``LlamaRMSNorm``)."""
    return isinstance(layer, (AbstractNorm, *_TORCH_NORMS)) or type(layer).__name__.endswith("Norm")


def _check_plain(net: nn.Module, part: str) -> None:
    """Weights are parameters that can be put in their place.

    Raises:
        InputError: naming a layer whose weight a parametrisation computes.
    """
    for name, layer in net.named_modules():
        changed = isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)) or is_norm(layer)
        old = any(hasattr(layer, name) for name in ("weight_g", "weight_orig"))  # before torch had parametrisations
        if changed and (is_parametrized(layer, "weight") or old):
            raise InputError(
                f"part={part!r} cannot change the layer {name!r} ({type(layer).__name__}): a parametrisation, such as "
                "weight_norm or spectral_norm, computes its weight from others. Remove it (torch.nn.utils.parametrize."
                "remove_parametrizations), or use part='all'."
            )


def _check_own(net: nn.Module, owners: list[str]) -> None:
    """Each layer that is modulated has a weight of its own.

    Raises:
        InputError: naming two layers that share one.
    """
    names: dict[int, str] = {}
    for name, layer in net.named_modules():
        weight = layer._parameters.get("weight")
        first = name if weight is None else names.setdefault(id(weight), name)
        if first != name and (first in owners or name in owners):
            raise InputError(
                f"part='film' cannot scale the layers {first!r} and {name!r} apart: they share one weight. Use "
                "part='biases' or part='all'."
            )


def has_rows(layer: nn.Module) -> bool:
    """Whether each row of the layer's weight makes one channel."""
    convolution = isinstance(layer, nn.modules.conv._ConvNd) and not isinstance(layer, _TRANSPOSED)
    return isinstance(layer, nn.Linear) or convolution


def _matrices(net: nn.Module) -> Iterator[str]:
    """Names of the weights that a low-rank change suits; GPT-2's ``Conv1D`` is a linear layer."""
    for name, layer in net.named_modules():
        linear = isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)) or type(layer).__name__ == "Conv1D"
        for own, weight in _own(layer).items():
            if (linear and own == "weight") or (isinstance(layer, nn.MultiheadAttention) and own in _ATTENTION_WEIGHTS):
                if weight.is_floating_point():
                    yield _join(name, own)


def _own(layer: nn.Module) -> dict[str, Tensor]:
    return dict(layer.named_parameters(recurse=False))


def _join(layer: str, name: str) -> str:
    return f"{layer}.{name}" if layer else name
