"""Floor 3: covariance functions of features, with learned hyper-parameters."""

from __future__ import annotations

from math import log, pi
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.errors import InputError
from quickstudy.learners.parts.features import known_size
from quickstudy.learners.parts.options import one_of
from quickstudy.nets.norms import make_norm

KernelName: TypeAlias = Literal["linear", "cosine", "rbf", "spectral", "bn-cosine"]


def centred(net: nn.Module) -> nn.Module:
    """The network, its features laid flat and batch-normed.

    Raises:
        InputError: the size of its features is not known.
    """
    size = known_size(net)
    if size is None:
        raise InputError(
            f"Cannot build kernel='bn-cosine' on {type(net).__name__}: its feature size is not known. Give the network "
            "an attribute out_features."
        )
    return nn.Sequential(net, nn.Flatten(), make_norm("batch", size))


class Kernel(nn.Module):
    """A covariance of features f and g; size, length and all else are positive through their logarithms.

        linear      size · f·g
        cosine      size · f·g / (|f| |g|)
        rbf         size · exp(-|f - g|² / (2 length²))
        spectral    Σ_q size_q Π_d exp(-2 π² (f_d - g_d)² width_qd²) cos(2 π (f_d - g_d) frequency_qd)
        bn-cosine   cosine, of features that went through a batch norm, which :func:`centred` puts behind the network

    "spectral" is the spectral mixture of A. Wilson, R. Adams, "Gaussian process kernels for pattern discovery and
    extrapolation", ICML 2013: it can know that functions are periodic.

    Args:
        name: one of the above.
        features: D, which ``"spectral"`` must know.
        mixtures: how many parts ``"spectral"`` adds up.

    Raises:
        InputError: no such kernel, D is not known where it must be, or no mixture.
    """

    def __init__(self, name: KernelName, features: int | None = None, *, mixtures: int = 4) -> None:
        super().__init__()
        one_of("DKT", "kernel", name, get_args(KernelName))
        self.name = name
        if name != "spectral":
            self.log_size = nn.Parameter(torch.zeros(()))
            if name == "rbf":
                self.log_length = nn.Parameter(torch.zeros(()))
            return
        if features is None or not mixtures >= 1:
            raise InputError(
                "kernel='spectral' needs at least one mixture and a network with an attribute out_features, received "
                f"mixtures={mixtures} and a feature size that is {'not known' if features is None else 'known'}."
            )
        self.log_size = nn.Parameter(torch.full((mixtures,), -log(mixtures)))
        # Parts that begin alike would stay alike. Slow and wide to begin with, so that neighbours are alike at first.
        self.log_width = nn.Parameter(log(0.05) + 0.5 * torch.randn(mixtures, features))
        self.log_frequency = nn.Parameter(log(0.05) + 0.5 * torch.randn(mixtures, features))

    def forward(self, f: Tensor, g: Tensor) -> Tensor:
        """``[T, N, D], [T, M, D] -> [T, N, M]``, in the dtype of ``f``."""
        size = self.log_size.to(f.dtype).exp()
        if self.name == "linear":
            return size * (f @ g.transpose(1, 2))
        if self.name in ("cosine", "bn-cosine"):
            return size * (F.normalize(f, dim=2) @ F.normalize(g, dim=2).transpose(1, 2))
        apart = f[:, :, None] - g[:, None]  # [T, N, M, D]; squares of differences do not cancel
        if self.name == "rbf":
            return size * torch.exp(-apart.square().sum(3) / (2 * self.log_length.to(f.dtype).exp() ** 2))
        width = self.log_width.to(f.dtype).exp()
        decay = torch.exp(-2 * pi**2 * apart.square() @ width.square().T)  # [T, N, M, Q]
        waves = torch.cos(2 * pi * apart[..., None, :] * self.log_frequency.to(f.dtype).exp()).prod(-1)
        return (size * decay * waves).sum(-1)

    def variance(self, f: Tensor) -> Tensor:
        """The diagonal of ``forward(f, f)``, ``[T, N]``."""
        size = self.log_size.to(f.dtype).exp()
        if self.name == "linear":
            return size * f.square().sum(2)
        if self.name in ("cosine", "bn-cosine"):
            return size * F.normalize(f, dim=2).square().sum(2)
        return size.sum() * torch.ones_like(f[..., 0])
