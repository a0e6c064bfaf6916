"""ResNet-12, the larger network of the few-shot papers."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.errors import InputError
from quickstudy.nets.norms import make_norm

__all__ = ["ResNet12", "ResidualBlock"]

_SLOPE = 0.1  # of the leaky ReLU below zero


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions, each with a norm, beside a 1x1 convolution with a norm; their sum, halved.

    Args:
        in_channels: channels in.
        channels: channels out.
        norm: one of ``nets.norms.NORMS``.
        pool: halve the map by 2x2 max-pooling.
    """

    def __init__(self, in_channels: int, channels: int, norm: str, pool: bool) -> None:
        super().__init__()
        widths = [in_channels, channels, channels, channels]
        bias = norm == "none"  # a norm brings its own
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=bias) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(make_norm(norm, channels) for _ in range(3))
        self.short = nn.Conv2d(in_channels, channels, 1, bias=bias)
        self.short_norm = make_norm(norm, channels)
        self.pool = pool
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming's normal weights for leaky ReLUs, as in MetaOptNet's code."""
        for conv in [*self.convs, self.short]:
            assert isinstance(conv, nn.Conv2d)
            nn.init.kaiming_normal_(conv.weight, a=_SLOPE, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W] -> [N, channels, H/2, W/2]``."""
        beside = self.short_norm(self.short(x))
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            if number < 2:  # the third is added first
                x = F.leaky_relu(x, _SLOPE)
        x = F.leaky_relu(x + beside, _SLOPE)
        return F.max_pool2d(x, 2) if self.pool else x


class ResNet12(nn.Module):
    """Four residual blocks of three convolutions.

    B. Oreshkin, P. Rodríguez López, A. Lacoste, "TADAM: task dependent adaptive metric for improved few-shot
    learning", NeurIPS 2018 (its network of twelve convolutions, 64-128-256-512); with the widths 64-160-320-640 of
    K. Lee, S. Maji, A. Ravichandran, S. Soatto, "Meta-learning with differentiable convex optimization", CVPR 2019
    (MetaOptNet).

    Deviations: no dropout and no DropBlock. Both draw random numbers in the middle of the network, and here whatever
    is random in a training is a function of the task's number; pictures are changed at random instead
    (``quickstudy.data.pictureaugment``).

    ``map_shape`` is the shape of the last map, ``(C, H, W)``, which ``readout="flatten"`` lays flat; None with another
    readout.

    Args:
        in_channels: 1 for grey pictures, 3 for colour.
        image_size: height and width of the (square) pictures; 84 in the papers.
        widths: channels of the four blocks.
        norm: one of ``nets.norms.NORMS``; see there which are inductive.
        readout: the last map's spatial ``"mean"``, or ``"flatten"`` it.

    Raises:
        InputError: the pictures are too small for four halvings, or widths that make no sense.

    >>> ResNet12(3, 84).out_features
    640
    """

    channels_last = True  # see nets.apply.laid_out

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int = 84,
        *,
        widths: tuple[int, int, int, int] = (64, 160, 320, 640),
        norm: Literal["batch", "transductive", "task", "group", "layer", "instance", "none"] = "batch",
        readout: Literal["mean", "flatten"] = "mean",
    ) -> None:
        super().__init__()
        if len(widths) != 4 or min(*widths, in_channels) < 1:
            raise InputError(
                f"ResNet-12 needs the widths of four blocks, 1 or more, and at least one channel, received "
                f"widths={list(widths)} and {in_channels} channels."
            )
        size = image_size // 16
        if size < 1:
            raise InputError(
                f"Cannot halve pictures of {image_size} pixels four times: ResNet-12 needs at least 16x16. Use larger "
                "pictures (--data.size), or the network 'conv4' with halvings=3."
            )
        self.blocks = nn.ModuleList(ResidualBlock(a, b, norm, pool=True) for a, b in pairwise((in_channels, *widths)))
        self.in_channels, self.image_size, self.readout = in_channels, image_size, readout
        self.map_shape = (widths[3], size, size) if readout == "flatten" else None
        self.out_features = widths[3] * (size * size if readout == "flatten" else 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W] -> [N, out_features]``."""
        built = (self.in_channels, self.image_size, self.image_size)
        if x.shape[-3:] != built:
            raise InputError(
                f"This ResNet-12 was built for pictures of shape {list(built)}, received {list(x.shape[-3:])}. Resize "
                "the pictures, or build the network for theirs."
            )
        for block in self.blocks:
            x = block(x)
        return x.mean((2, 3)) if self.readout == "mean" else x.flatten(1)
