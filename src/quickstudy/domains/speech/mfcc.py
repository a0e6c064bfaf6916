"""Floor 5: mel-frequency cepstral coefficients as features of a whole recording."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.nets.logmel import Cepstrum, LogMel

__all__ = ["Mfcc", "cepstrum", "spoken"]

_LOUD = 30.0  # decibels below the loudest frame: what is fainter at either end is not the word


class Mfcc(nn.Module):
    """One vector a recording, for k-NN and logistic regression; it has nothing to train.

    Args:
        example: ``(samples,)`` of one waveform.
        rate: samples a second; the data's.
        readout: ``"frames"``: the coefficients of a few moments between the word's first and last sound, evenly
            spaced, so that fast and slow speech are comparable; ``"moments"``: mean and standard deviation over the
            word.
        points: how many moments.

    Raises:
        InputError: the inputs are no waveforms.
    """

    def __init__(
        self,
        example: tuple[int, ...] | dict[str, tuple[int, ...]],
        *,
        rate: int = 8000,
        readout: Literal["frames", "moments"] = "frames",
        points: int = 20,
    ) -> None:
        super().__init__()
        self.cepstrum, self.readout, self.points = cepstrum(example, rate), readout, points
        self.out_features = self.cepstrum.size * (points if readout == "frames" else 2)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, samples] -> [N, out_features]``."""
        frames = self.cepstrum(x)
        first, last = spoken(self.cepstrum.mel(x))
        if self.readout == "frames":
            return standard(_between(frames, first, last, self.points)).flatten(1)
        at = torch.arange(frames.shape[1], device=x.device)
        inside = ((at >= first[:, None]) & (at <= last[:, None]))[..., None].to(frames)
        count = inside.sum(1)
        mean = (frames * inside).sum(1) / count
        spread = ((frames - mean[:, None]).square() * inside).sum(1) / count
        return torch.cat([mean, spread.sqrt()], 1)


def cepstrum(example: tuple[int, ...] | dict[str, tuple[int, ...]], rate: int) -> Cepstrum:
    """The usual coefficients: 13 without loudness, and their slopes.

    Raises:
        InputError: the inputs are no waveforms.
    """
    if isinstance(example, dict) or len(example) != 1:
        raise InputError(
            f"MFCC are made of waveforms (samples,), but one example of these tasks has the shape {example}. Use them "
            "with recordings."
        )
    return Cepstrum(LogMel(example[0], rate, normalise=False))


def spoken(log: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last frame that is not much fainter than the loudest, ``[N]`` each.

    Args:
        log: ``[N, mels, frames]``, logarithms of energy.
    """
    energy = log.logsumexp(1)
    loud = energy > energy.amax(1, keepdim=True) - _LOUD * math.log(10) / 10
    at = torch.arange(log.shape[2], device=log.device).expand_as(loud)
    return at.masked_fill(~loud, log.shape[2]).amin(1), at.masked_fill(~loud, -1).amax(1)


def standard(frames: Tensor) -> Tensor:
    """Each coefficient less its mean, by its standard deviation over the recording, ``[N, frames, D]``."""
    centred = frames - frames.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + 1e-4).sqrt()


def _between(frames: Tensor, first: Tensor, last: Tensor, points: int) -> Tensor:
    """``[N, points, D]``: frames read at evenly spaced moments, between two of them in proportion."""
    share = torch.linspace(0, 1, points, device=frames.device, dtype=frames.dtype)
    place = first[:, None] + share * (last - first)[:, None]
    before = place.floor().long().clamp(max=frames.shape[1] - 1)
    after = (before + 1).clamp(max=frames.shape[1] - 1)
    part = (place - before)[..., None]
    width = (-1, -1, frames.shape[2])
    left, right = (frames.gather(1, at[..., None].expand(width)) for at in (before, after))
    return left * (1 - part) + right * part
