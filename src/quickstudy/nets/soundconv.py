"""Conv-4 on spectrograms."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.nets.conv4 import ConvBlock
from quickstudy.nets.logmel import LogMel

__all__ = ["SoundConv4"]


class SoundConv4(nn.Module):
    """A waveform's log-mel spectrogram, then the four blocks of Conv-4.

    Args:
        example: ``(samples,)``, of one waveform.
        rate: samples a second; the data's.
        filters: channels of each block.
        norm: one of ``nets.norms.NORMS``.
        mels: bands of the spectrogram.
        hop: seconds from frame to frame.
        readout: ``"flatten"``: the last map whole; ``"time"``: averaged over time, so that a word may lie anywhere;
            ``"mean"``: over bands, too.

    Raises:
        InputError: the inputs are no waveforms, or so few bands or frames that nothing is left of them.
    """

    channels_last = False  # inputs are waveforms; see ``nets.apply``

    def __init__(
        self,
        example: tuple[int, ...] | dict[str, tuple[int, ...]],
        *,
        rate: int = 8000,
        filters: int = 64,
        norm: str = "batch",
        mels: int = 40,
        hop: float = 0.02,
        readout: Literal["flatten", "time", "mean"] = "flatten",
    ) -> None:
        super().__init__()
        if isinstance(example, dict) or len(example) != 1:
            raise InputError(
                f"The network 'sound-conv4' listens to waveforms (samples,), but one example of these tasks has the "
                f"shape {example}. Use it with recordings, or another network."
            )
        self.mel = LogMel(example[0], rate, mels=mels, hop=hop)
        height, width = mels, self.mel.frames
        for _ in range(4):
            height, width = height // 2, width // 2
        if min(height, width) < 1:
            raise InputError(
                f"Cannot halve spectrograms of {mels} bands and {self.mel.frames} frames four times: use at least 16 "
                "bands and 16 frames (a smaller hop, or longer recordings)."
            )
        channels = [1, filters, filters, filters, filters]
        self.blocks = nn.ModuleList(ConvBlock(channels[k], channels[k + 1], "max", norm) for k in range(4))
        self.batched_on_cpu = False
        self.readout = readout
        self.map_shape = (filters, height, width) if readout == "flatten" else None
        self.out_features = filters * {"flatten": height * width, "time": height, "mean": 1}[readout]

    def forward(self, x: Tensor) -> Tensor:
        """``[N, samples] -> [N, out_features]``."""
        x = self.mel(x)[..., None, :, :]
        for block in self.blocks:
            x = block(x)
        return self._read_out(x).flatten(1)

    def batched(self, params: dict[str, Tensor], x: Tensor) -> Tensor:
        """``[T, N, samples] -> [T, N, out_features]``; see ``nets.apply``."""
        x = self.mel(x)[..., None, :, :]
        for number, block in enumerate(self.blocks):
            assert isinstance(block, ConvBlock)
            x = block.batched(params, f"blocks.{number}.", x)
        return self._read_out(x).flatten(2)

    def _read_out(self, x: Tensor) -> Tensor:
        if self.readout == "flatten":
            return x
        return x.mean(-1) if self.readout == "time" else x.mean((-1, -2))
