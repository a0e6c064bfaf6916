"""Log-mel spectrograms, computed where the waveforms lie, and the cepstral coefficients that are made of them."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.errors import InputError

__all__ = ["Cepstrum", "LogMel"]


class LogMel(nn.Module):
    """Waveforms -> pictures of how much energy each band has at each time.

    Frames are cut by a Hann window, their power spectra summed in triangular bands of equal width on the mel scale
    (S. Davis, P. Mermelstein, IEEE Transactions on Acoustics, Speech and Signal Processing 1980), and logarithms taken.
    What lies more than ``range_db`` below a recording's loudest point counts as silence. Nothing is learned, and
    nothing of another recording is looked at.

    Args:
        samples: length of a waveform.
        rate: samples a second.
        mels: bands, from 0 to half the rate.
        hop: seconds from frame to frame.
        window: seconds of a frame.
        range_db: decibels from the loudest point to silence.
        normalise: take each band's mean over time away, which leaves out microphone and room, and divide by the
            recording's standard deviation.

    Raises:
        InputError: sizes that make no sense.
    """

    def __init__(
        self,
        samples: int,
        rate: int = 8000,
        *,
        mels: int = 40,
        hop: float = 0.02,
        window: float = 0.032,
        range_db: float = 60.0,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        self.samples, self.rate, self.mels = samples, rate, mels
        self.hop, self.window = round(hop * rate), round(window * rate)
        if not 0 < self.hop <= self.window or samples < self.window:
            raise InputError(
                f"Cannot make spectrograms of {samples} samples at {rate} a second with a hop of {hop} and a window of "
                f"{window} seconds: expected hop <= window <= the recording's length."
            )
        if not 2 <= mels <= self.window // 2:
            raise InputError(
                f"Cannot make {mels} mel bands of a window of {self.window} samples: use 2 to {self.window // 2}."
            )
        if not range_db > 0:
            raise InputError(f"Cannot use range_db = {range_db}: expected decibels above 0.")
        self.floor, self.normalise = range_db * math.log(10) / 10, normalise
        self.frames = samples // self.hop
        self.n_fft = 1 << (self.window - 1).bit_length()

    def forward(self, x: Tensor) -> Tensor:
        """``[..., samples] -> [..., mels, frames]``."""
        if x.shape[-1] != self.samples:
            raise InputError(
                f"This network was built for recordings of {self.samples} samples, received {x.shape[-1]}. Give the "
                "data the same rate and seconds."
            )
        wide = x.dtype if x.dtype == torch.float64 else torch.float32  # half precision has no Fourier transform
        hann, bank = _constants(self.window, self.n_fft, self.rate, self.mels, wide, x.device)
        # The first frame is centred on the first sample's hop, so that each hop has one.
        left = (self.window - self.hop) // 2
        padded = F.pad(x.to(wide), (left, self.window - self.hop - left))
        frames = padded.unfold(-1, self.window, self.hop)[..., : self.frames, :] * hann
        power = torch.fft.rfft(frames, n=self.n_fft).abs().square() @ bank
        log = power.clamp(min=1e-10).log().transpose(-1, -2)
        log = torch.maximum(log, log.amax((-1, -2), keepdim=True) - self.floor)
        if self.normalise:
            log = log - log.mean(-1, keepdim=True)
            log = log / (log.square().mean((-1, -2), keepdim=True) + 1e-4).sqrt()
        return log.to(x.dtype)


class Cepstrum(nn.Module):
    """Mel-frequency cepstral coefficients, MFCC: the cosine transform of a log-mel spectrogram, and how they change.

    Args:
        mel: the spectrogram, not normalised.
        coefficients: how many, without the first, which is loudness.
        deltas: the differences over two frames on either side, too (their regression slope).
    """

    def __init__(self, mel: LogMel, *, coefficients: int = 13, deltas: bool = True) -> None:
        super().__init__()
        if not 1 <= coefficients < mel.mels:
            raise InputError(
                f"Cannot make {coefficients} cepstral coefficients of {mel.mels} bands: use 1 to {mel.mels - 1}."
            )
        self.mel, self.coefficients, self.deltas = mel, coefficients, deltas

    @property
    def size(self) -> int:
        """Numbers a frame."""
        return self.coefficients * (2 if self.deltas else 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., samples] -> [..., frames, size]``."""
        log = self.mel(x)
        cepstrum = log.transpose(-1, -2) @ _cosines(self.mel.mels, self.coefficients).to(log)
        return torch.cat([cepstrum, slopes(cepstrum)], -1) if self.deltas else cepstrum


def slopes(x: Tensor) -> Tensor:
    """The regression slope over two frames on either side, ``[..., frames, D]``; the ends are repeated."""
    frames = x.shape[-2]
    at = torch.arange(frames, device=x.device)
    ahead = [x[..., (at + k).clamp(0, frames - 1), :] - x[..., (at - k).clamp(0, frames - 1), :] for k in (1, 2)]
    return (ahead[0] + 2 * ahead[1]) / 10


def _constants(
    window: int, n_fft: int, rate: int, mels: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The window ``[window]`` and the bands ``[n_fft / 2 + 1, mels]``: not buffers, for they are no state."""
    # While a computation is followed on tensors without contents, what is made has none either, and must not be kept.
    make = _kept if torch._C._len_torch_dispatch_stack() == 0 else _made
    return make(window, n_fft, rate, mels, dtype, device)


def _made(
    window: int, n_fft: int, rate: int, mels: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    hann = torch.hann_window(window, dtype=torch.float64)
    hertz = torch.linspace(0, rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, mels + 2, dtype=torch.float64) / 2595) - 1)
    below, centre, above = edges[:-2], edges[1:-1], edges[2:]
    rising = (hertz[:, None] - below) / (centre - below)
    falling = (above - hertz[:, None]) / (above - centre)
    bank = torch.minimum(rising, falling).clamp(min=0)
    # Low bands may be narrower than the spectrum's lines: such a band takes the nearest line.
    line = torch.arange(len(hertz))[:, None] == (hertz[:, None] - centre).abs().argmin(0)
    bank = torch.where(bank.sum(0) == 0, line.to(bank), bank)
    return hann.to(device, dtype), bank.to(device, dtype)


_kept = functools.cache(_made)


def _cosines(mels: int, coefficients: int) -> Tensor:
    """The orthonormal DCT-II without its first row, ``[mels, coefficients]``, float64."""
    k = torch.arange(1, coefficients + 1, dtype=torch.float64)
    n = torch.arange(mels, dtype=torch.float64)
    return torch.cos(math.pi / mels * (n[:, None] + 0.5) * k) * math.sqrt(2 / mels)
