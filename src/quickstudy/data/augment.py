"""Floor 1: recordings changed at random in training: a pure function of a key, a task's number and a row's place.

The recording itself is changed, not its spectrogram, so that every network, and MFCC, hears the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.audio import Wave
from quickstudy.keys import Bits, Integers, Key, uniform

__all__ = ["Augmentation"]

_WORDS = 9  # a row's: what is drawn of it but the noise
_CHANGES, _NOISE = range(2)  # streams


@dataclass(frozen=True)
class Augmentation:
    """How far a recording may be changed; each change is drawn evenly between its ends.

    Args:
        speed: faster or slower by up to this share, and higher or lower with it, as another speaker.
        shift: earlier or later by up to this share of the length.
        gain: louder or softer by up to so many decibels.
        noise: white noise, so many decibels below the recording: the loudest and the faintest.
        time_mask: up to this share of the length is silenced (SpecAugment, Park et al. 2019).
        frequency_mask: up to this share of the mel scale is taken out.
    """

    speed: float = 0.1
    shift: float = 0.1
    gain: float = 6.0
    noise: tuple[float, float] = (10.0, 50.0)
    time_mask: float = 0.15
    frequency_mask: float = 0.15

    def apply(self, waves: Wave, key: Key, tasks: Integers, rate: int) -> Wave:
        """Change every row.

        Args:
            waves: ``[T, N, samples]``.
            key: of the source; with the numbers below it fixes everything.
            tasks: ``[T]``, each task's number.
            rate: samples a second.

        Returns:
            ``[T, N, samples]``, float32; a row depends on its own recording, its task's number and its place alone.
        """
        n_task, n_row, samples = waves.shape
        words = key.bits(tasks, n_row * _WORDS, _CHANGES).reshape(n_task * n_row, _WORDS)
        drawn = uniform(words)
        rows = self._moved(waves.reshape(-1, samples), drawn[:, 0], drawn[:, 1])
        rows = self._noisy(rows, drawn[:, 2], drawn[:, 3], _white(key, tasks, n_row, samples))
        rows = self._hushed(rows, drawn[:, 4], drawn[:, 5])
        return self._filtered(rows, drawn[:, 6], drawn[:, 7], rate).reshape(waves.shape).astype(np.float32)

    def _moved(self, rows: Wave, speed: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float64]:
        """Faster or slower around the middle, then earlier or later; silence comes in at the ends."""
        samples = rows.shape[1]
        middle = (samples - 1) / 2
        factor = 1 + self.speed * (2 * speed - 1)
        offset = self.shift * samples * (2 * shift - 1)
        place = (np.arange(samples) - middle) * factor[:, None] + (middle - offset)[:, None]
        inside = (place >= 0) & (place <= samples - 1)
        place = np.where(inside, place, 0.0)
        before = np.minimum(place.astype(np.int64), samples - 2)
        part = place - before
        left, right = (np.take_along_axis(rows, before + k, 1) for k in (0, 1))
        return np.where(inside, left * (1 - part) + right * part, 0.0)

    def _noisy(
        self, rows: NDArray[np.float64], level: NDArray[np.float64], gain: NDArray[np.float64], white: Wave
    ) -> NDArray[np.float64]:
        loudest, faintest = self.noise
        below = loudest + (faintest - loudest) * level
        power = np.sqrt(np.square(rows).mean(1)) * 10 ** (-below / 20)
        louder = 10 ** (self.gain * (2 * gain - 1) / 20)
        made: NDArray[np.float64] = (rows + power[:, None] * white) * louder[:, None]
        return made

    def _hushed(
        self, rows: NDArray[np.float64], width: NDArray[np.float64], begin: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        samples = rows.shape[1]
        many = self.time_mask * samples * width
        first = begin * (samples - many)
        at = np.arange(samples)
        hushed: NDArray[np.float64] = np.where((at >= first[:, None]) & (at < (first + many)[:, None]), 0.0, rows)
        return hushed

    def _filtered(
        self, rows: NDArray[np.float64], width: NDArray[np.float64], begin: NDArray[np.float64], rate: int
    ) -> NDArray[np.float64]:
        spectrum = np.fft.rfft(rows, axis=1)
        hertz = np.fft.rfftfreq(rows.shape[1], 1 / rate)
        mel = np.log1p(hertz / 700)
        mel /= mel[-1]
        many = self.frequency_mask * width
        first = begin * (1 - many)
        out = (mel >= first[:, None]) & (mel < (first + many)[:, None])
        filtered: NDArray[np.float64] = np.fft.irfft(np.where(out, 0, spectrum), n=rows.shape[1], axis=1)
        return filtered


def _white(key: Key, tasks: Integers, n_row: int, samples: int) -> Wave:
    """White noise of mean square 1, ``[T * N, samples]``: evenly distributed, four numbers a word."""
    each = -(-samples // 4)
    words: Bits = key.bits(tasks, n_row * each, _NOISE).reshape(len(tasks) * n_row, each)
    numbers = words.astype("<u8").view("<i2")[:, :samples].astype(np.float32)
    numbers *= np.float32(np.sqrt(3) / 32768)
    return numbers
