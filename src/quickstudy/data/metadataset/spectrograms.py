"""Floor 1: recordings as grey pictures: how much energy each band has at each time, brightest where it is loudest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["pictured"]

_WINDOW, _STEP = 0.032, 0.016  # seconds
_RANGE = 60.0  # decibels from a recording's loudest point to black


def pictured(waves: NDArray[np.float32], rate: int, size: int) -> NDArray[np.uint8]:
    """Logarithms of energies in mel bands.

    Args:
        waves: ``[n, samples]``, -1 .. 1.
        rate: samples a second.
        size: bands, and columns into which the frames are averaged.

    Returns:
        uint8 ``[n, size, size]``, low bands below, time to the right.

    >>> hum = np.sin(2 * np.pi * 500 * np.arange(8000) / 8000).astype(np.float32)
    >>> picture = pictured(hum[None], 8000, 28)[0]
    >>> picture.shape, int(picture[:, 14].argmax()), int(picture.max())
    ((28, 28), 20, 255)
    """
    window, step = round(_WINDOW * rate), round(_STEP * rate)
    frames = np.lib.stride_tricks.sliding_window_view(waves, window, axis=1)[:, ::step]
    power = np.abs(np.fft.rfft(frames * np.hanning(window).astype(np.float32), axis=2)) ** 2
    energy = power @ _bank(window, rate, size)  # [n, frames, size]
    edges = np.linspace(0, energy.shape[1], size + 1).astype(np.int64)
    starts = np.minimum(edges[:-1], energy.shape[1] - 1)
    counts = np.maximum(np.diff(edges), 1)
    columns = np.add.reduceat(energy, starts, axis=1) / counts[:, None]
    loudest = np.maximum(columns.max((1, 2), keepdims=True), 1e-12)
    decibels = 10 * np.log10(np.maximum(columns / loudest, 1e-12))
    bright = np.clip(1 + decibels / _RANGE, 0, 1) * 255
    return np.ascontiguousarray(np.rint(bright).astype(np.uint8).transpose(0, 2, 1)[:, ::-1])


def _bank(window: int, rate: int, bands: int) -> NDArray[np.float64]:
    """``[window / 2 + 1, bands]``: triangles of equal width on the mel scale."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    # Narrower than two frequencies, low bands would miss all of them.
    width = rate / window
    place = np.arange(window // 2 + 1)[:, None] * width
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising = 1 - (middle - place) / np.maximum(middle - low, width)
    falling = 1 - (place - middle) / np.maximum(high - middle, width)
    return np.clip(np.minimum(rising, falling), 0, None)
