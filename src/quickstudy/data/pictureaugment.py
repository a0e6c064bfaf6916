"""Floor 1: pictures changed at random in training: a pure function of a key, a task's number and a row's place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.store import Pictures
from quickstudy.keys import Integers, Key, uniform

__all__ = ["PictureChanges"]

_WORDS = 8  # a row's
_PARTS = 64  # of the distance between two pixels; see `_lines`


@dataclass(frozen=True)
class PictureChanges:
    """How far a picture may be changed; each change is drawn evenly between its ends.

    Args:
        least: the smallest part of the area that is cut out and enlarged to the whole.
        stretch: the part cut out is up to so many times as wide as high, or as high as wide.
        flip: half of the pictures are mirrored, left to right; not for letters, signs, or hands.
        brightness: times 1 - this to 1 + this.
        contrast: likewise, of the distances from the picture's mean.
        colour: likewise, of the distances from grey; nothing where pictures are grey.
    """

    least: float = 0.5
    stretch: float = 4 / 3
    flip: bool = True
    brightness: float = 0.3
    contrast: float = 0.3
    colour: float = 0.3

    def apply(self, pictures: Pictures, key: Key, tasks: Integers) -> Pictures:
        """Change every row.

        Args:
            pictures: ``[T, N, H, W]`` or ``[T, N, C, H, W]``.
            key: of the source; with the numbers below it fixes everything.
            tasks: ``[T]``, each task's number.

        Returns:
            The same shape; a row depends on its own picture, its task's number and its place alone.
        """
        n_task, n_row, height, width = *pictures.shape[:2], *pictures.shape[-2:]
        drawn = uniform(key.bits(tasks, n_row * _WORDS).reshape(n_task * n_row, _WORDS))
        rows = pictures.reshape(n_task * n_row, -1, height, width)
        cut = self._cut(rows, drawn)
        changed = self._lit(cut, drawn)
        return changed.round().clip(0, 255).astype(np.uint8).reshape(pictures.shape)

    def _cut(self, rows: Pictures, drawn: NDArray[np.float64]) -> NDArray[np.float32]:
        """A part of each picture, enlarged, perhaps mirrored, ``[rows, C, H, W]``."""
        area = self.least + (1 - self.least) * drawn[:, 0]
        aspect = np.power(self.stretch, 2 * drawn[:, 1] - 1)
        high, wide = (np.minimum(np.sqrt(part), 1.0) for part in (area / aspect, area * aspect))
        vertical = _lines(rows.shape[2], high, drawn[:, 2], np.zeros(len(rows), dtype=bool))
        mirrored = (drawn[:, 4] < 0.5) & self.flip
        across = _lines(rows.shape[3], wide, drawn[:, 3], mirrored)
        # Exact, in whatever order a product is summed: weights are parts of 64, pixels whole, and all fits 24 bits.
        cut: NDArray[np.float32] = vertical[:, None] @ rows.astype(np.float32) @ across[:, None].transpose(0, 1, 3, 2)
        return cut

    def _lit(self, rows: NDArray[np.float32], drawn: NDArray[np.float64]) -> NDArray[np.float32]:
        """Brighter or darker, with more contrast or less, more colour or less."""
        gains = [1 + most * (2 * drawn[:, 5 + k] - 1) for k, most in enumerate(self._gains)]
        bright, contrast, colour = (gain.astype(np.float32)[:, None, None, None] for gain in gains)
        rows *= bright
        if rows.shape[1] == 3:
            grey = (rows[:, :1] + rows[:, 1:2] + rows[:, 2:]) / np.float32(3)
            rows -= grey
            rows *= colour
            rows += grey
        mean = rows.mean((1, 2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
        lit: NDArray[np.float32] = mean + (rows - mean) * contrast
        return lit

    @property
    def _gains(self) -> tuple[float, float, float]:
        return self.brightness, self.contrast, self.colour


def _lines(
    size: int, share: NDArray[np.float64], place: NDArray[np.float64], mirrored: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """What each line of the new picture takes of those of the old, ``[rows, size, size]``: two neighbours' shares.

    Args:
        size: lines.
        share: ``[rows]``, how much of the old picture is seen.
        place: ``[rows]``, 0 .. 1, from the first place where that may begin to the last.
        mirrored: ``[rows]``, in the other order.
    """
    span = share * (size - 1)
    at = np.arange(size) / max(size - 1, 1)
    where = (place * (size - 1 - span))[:, None] + span[:, None] * np.where(mirrored[:, None], 1 - at, at)
    parts = np.round(where * _PARTS).astype(np.int64)
    first, rest = np.divmod(parts, _PARTS)
    lines = np.zeros((len(share), size, size), dtype=np.float32)
    row, line = np.arange(len(share))[:, None], np.arange(size)
    lines[row, line, first] = 1 - rest / _PARTS
    lines[row, line, np.minimum(first + 1, size - 1)] += (rest / _PARTS).astype(np.float32)
    return lines
