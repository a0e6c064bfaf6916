"""Floor 5: features of pictures from before networks: histograms of gradients, and of colours."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.errors import InputError

__all__ = ["ColourHistogram", "Hog"]

_CLIP = 0.2  # as Dalal and Triggs


class Hog(nn.Module):
    """Histograms of oriented gradients; nothing to train.

    N. Dalal, B. Triggs, "Histograms of oriented gradients for human detection", CVPR 2005: gradients of the channel
    where they are steepest, shared between the two nearest of some directions without sign, summed over cells, each
    block of 2x2 cells brought to length 1, clipped at 0.2 and brought to length 1 again.

    Args:
        example: ``(C, H, W)`` of one picture.
        cells: along a side.
        directions: of half a turn.

    Raises:
        InputError: the inputs are no pictures, or smaller than their cells.
    """

    def __init__(
        self, example: tuple[int, ...] | dict[str, tuple[int, ...]], *, cells: int = 5, directions: int = 9
    ) -> None:
        super().__init__()
        _, height, width = picture_shape(example)
        if min(height, width) < 2 * cells:
            raise InputError(f"Cannot divide pictures of {height} x {width} pixels into {cells} x {cells} cells.")
        self.cells, self.directions = cells, directions
        self.out_features = (cells - 1) ** 2 * 4 * directions

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W] -> [N, out_features]``."""
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
        down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
        steep = (across.square() + down.square()).sqrt()
        length, channel = steep.max(1, keepdim=True)
        angle = torch.atan2(down.gather(1, channel), across.gather(1, channel)) % math.pi
        place = angle / math.pi * self.directions - 0.5
        centres = torch.arange(self.directions, device=x.device, dtype=x.dtype).view(1, -1, 1, 1)
        away = (place - centres).abs()
        away = torch.minimum(away, self.directions - away)  # half a turn is none
        maps = length * (1 - away).clamp(min=0)  # [N, directions, H, W]
        cells = F.adaptive_avg_pool2d(maps, self.cells)
        blocks = F.unfold(cells, 2).transpose(1, 2)  # [N, blocks, 4 * directions]
        blocks = _of_length_one(_of_length_one(blocks).clamp(max=_CLIP))
        return blocks.flatten(1)


class ColourHistogram(nn.Module):
    """How often each of some colours occurs, as square roots; nothing to train.

    M. Swain, D. Ballard, "Color indexing", International Journal of Computer Vision 1991. Of square roots, Euclidean
    distance is Hellinger's.

    Args:
        example: ``(C, H, W)`` of one picture.
        levels: of each channel.

    Raises:
        InputError: the inputs are no pictures.
    """

    def __init__(self, example: tuple[int, ...] | dict[str, tuple[int, ...]], *, levels: int = 4) -> None:
        super().__init__()
        self.levels, channels = levels, picture_shape(example)[0]
        self.out_features = levels**channels

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W] -> [N, out_features]``."""
        level = (x * self.levels).long().clamp(0, self.levels - 1)
        number = torch.zeros_like(level[:, 0])
        for channel in level.unbind(1):
            number = number * self.levels + channel
        number = number.flatten(1)
        count = x.new_zeros(len(x), self.out_features)
        count.scatter_add_(1, number, torch.ones_like(number, dtype=x.dtype))
        return (count / number.shape[1]).sqrt()


def picture_shape(example: tuple[int, ...] | dict[str, tuple[int, ...]]) -> tuple[int, int, int]:
    """``(C, H, W)``.

    Raises:
        InputError: the inputs are no pictures.
    """
    if isinstance(example, dict) or len(example) != 3:
        raise InputError(
            f"These features are made of pictures (channels, height, width), but one example of these tasks has the "
            f"shape {example}. Use them with pictures."
        )
    return example


def _of_length_one(x: Tensor) -> Tensor:
    return x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()
