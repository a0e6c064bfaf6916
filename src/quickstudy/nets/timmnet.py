"""Networks for pictures from timm, where it is installed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from quickstudy.errors import InputError

__all__ = ["Timm", "need_timm"]


class Timm(nn.Module):
    """A vision network of ``timm`` and its pooled features.

    Norms of timm's networks are torch's own: gradient-based learners refuse those that keep running statistics, so take
    a network with layer norm for them, or ``frozen = true`` below a learner on features.

    Args:
        in_channels: of the pictures.
        image_size: height and width of the (square) pictures.
        model: its name in timm, such as ``"resnet18"``.
        pretrained: with timm's weights, from the hub.
        resize: pixels along a side that the network sees; by default those that it was made for, where it takes no
            others, else the pictures' own.
        frozen: its weights stay as they are, and norms and dropout are as in the test.

    Raises:
        InputError: timm or torchvision, which it needs, is missing, there is no such model, or it cannot read pictures
            of that size.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int = 84,
        *,
        model: str = "resnet18",
        pretrained: bool = False,
        resize: int | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        timm = need_timm()
        try:
            self.body: nn.Module = timm.create_model(model, pretrained=pretrained, num_classes=0, in_chans=in_channels)
        except (RuntimeError, ValueError, OSError) as error:
            said = str(error).split("\n")[0].rstrip(".")
            raise InputError(
                f"Cannot make the network {model!r} of timm: {said}. timm.list_models() names those that there are."
            ) from error
        about: dict[str, Any] = dict(getattr(self.body, "pretrained_cfg", None) or {})
        mean, std = (list(about.get(name, [])) for name in ("mean", "std"))
        fits = len(mean) == len(std) == in_channels
        mean, std = (mean, std) if fits else ([0.5] * in_channels, [0.5] * in_channels)
        self.mean, self.std = tuple(mean), tuple(std)  # no buffers, which a training might write into
        own = about.get("input_size", (0, 0, 0))[-1] if about.get("fixed_input_size") else None
        self.in_channels, self.size, self.frozen = in_channels, resize or own or image_size, frozen
        if frozen:
            self.body.requires_grad_(False)
            self.body.eval()
        self.out_features = self._features(model)

    @override
    def train(self, mode: bool = True) -> Timm:
        """As of any module; a frozen body stays as in the test."""
        super().train(mode)
        if self.frozen:
            self.body.eval()
        return self

    def _features(self, model: str) -> int:
        """How many features come out, by trying: some of timm's networks have more than they say."""
        self.body.eval()
        try:
            with torch.no_grad():
                return int(self(torch.zeros(1, self.in_channels, self.size, self.size)).shape[1])
        except (RuntimeError, AssertionError) as error:
            said = str(error).split("\n")[0].rstrip(".")
            raise InputError(
                f"The network {model!r} of timm cannot read pictures of {self.size} pixels: {said}. Say another "
                "--net.resize."
            ) from error
        finally:
            self.body.train(not self.frozen)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W] -> [N, out_features]``, pictures in 0 .. 1."""
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False)
        mean, std = (x.new_tensor(part).view(-1, 1, 1) for part in (self.mean, self.std))
        found: Tensor = self.body((x - mean) / std)
        return found


def need_timm() -> Any:
    """The module ``timm``.

    Raises:
        InputError: it, or torchvision, which it needs, is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise InputError(
            f"Cannot make the network 'timm': the package timm, or torchvision, which it needs, is not installed "
            f"({error}). Run pip install timm, or use 'resnet12', or 'hf-vision' with the extra vision."
        ) from error
    return timm
