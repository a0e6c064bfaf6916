"""Floor 6: examples that are the same one twice, whatever their files are called.

Alike to the byte, or alike to look at:

pictures    the same thumbnail of 16 x 16: after another size, another format, another quality
sounds      the same waveform between its first and its last sound, at 4 kHz: after another rate, another loudness
texts       the same words, whatever the case, the punctuation and the white space
rows        the same cells

What is altered further than that (cropped, mirrored, another take of the same sentence) is not found.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from quickstudy.data import audio
from quickstudy.estimators.files import Found
from quickstudy.estimators.inputs import PictureReader
from quickstudy.estimators.tables import Table
from quickstudy.keys import Integers

__all__ = ["groups_of"]

Floats: TypeAlias = NDArray[np.float32]
Pairs: TypeAlias = list[tuple[int, int]]

_SIDE = 16
_ALIKE, _LEVELS, _ASPECT = 0.995, 6.0, 1.05  # correlation; of 255; width by height, one by the other
_RATE, _SECONDS = 4000, 4.0
_ENVELOPE, _WAVE, _LENGTH = 0.97, 0.95, 1.05  # correlations; of two lengths, one by the other
_FRAME = 40  # samples of an envelope's frame
_BLOCK = 1024  # rows whose likeness to all others is computed at once
_MOST = 20_000  # examples; of more only those that are alike to the byte are looked for


def groups_of(found: Found) -> Integers:
    """Which examples are the same: a number for each, ``[n]``, the same number for the same example.

    Args:
        found: examples that can be read.
    """
    n = len(found.names)
    pairs = list(_exact(found))
    if found.kind == "pictures" and n <= _MOST:
        pairs += _pictures(found.X)
    elif found.kind == "sounds" and n <= _MOST:
        pairs += _sounds(found.X)
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _exact(found: Found) -> Iterator[tuple[int, int]]:
    first: dict[Any, int] = {}
    for number, key in enumerate(_keys(found)):
        at = first.setdefault(key, number)
        if at != number:
            yield at, number


def _keys(found: Found) -> Iterator[Any]:
    if found.kind == "texts":
        yield from map(_plain_words, found.X)
    elif isinstance(found.X, Table):
        yield from map(tuple, found.X.rows)
    elif found.kind == "rows":
        yield from map(tuple, found.X.tolist())
    else:
        for file in found.X:
            yield hashlib.sha256(file.read_bytes()).digest()


def _plain_words(text: str) -> str:
    """Words alone; where there are none, as of a row of question marks, the text."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(words) or text.strip()


def _pictures(files: Sequence[Path]) -> Pairs:
    sides, thumbs = [], []
    reader = PictureReader(_SIDE, 3)
    for file in files:
        picture = reader.pictures([file])[0].convert("RGB")
        sides.append(picture.width / picture.height)
        thumbs.append(np.asarray(picture.resize((_SIDE, _SIDE), reducing_gap=2.0), dtype=np.float32).ravel())
    levels, aspect = np.stack(thumbs), np.array(sides)
    found = []
    for one, two in _correlated(levels, _ALIKE):
        if max(aspect[one], aspect[two]) <= _ASPECT * min(aspect[one], aspect[two]):
            found += [(one, two)] if np.abs(levels[one] - levels[two]).mean() <= _LEVELS else []
    return found


def _sounds(files: Sequence[Path]) -> Pairs:
    waves = [_spoken(audio.read(file.read_bytes(), str(file), _RATE)) for file in files]
    shapes = np.stack([_envelope(wave) for wave in waves])
    found = []
    for one, two in _correlated(shapes, _ENVELOPE):
        lengths = sorted((len(waves[one]), len(waves[two])))
        if lengths[1] <= _LENGTH * lengths[0] and _same_wave(waves[one], waves[two]):
            found.append((one, two))
    return found


def _spoken(wave: Floats) -> Floats:
    """Between the first and the last sample that is not faint."""
    loud = np.flatnonzero(np.abs(wave) > 0.05)
    return wave[loud[0] : loud[-1] + 1][: int(_RATE * _SECONDS)] if len(loud) else wave[:1]


def _envelope(wave: Floats) -> Floats:
    size = int(_RATE * _SECONDS) // _FRAME
    padded = np.zeros(size * _FRAME, dtype=np.float32)
    padded[: len(wave)] = wave
    return np.asarray(np.sqrt((padded.reshape(size, _FRAME) ** 2).mean(1)), dtype=np.float32)


def _same_wave(one: Floats, two: Floats) -> bool:
    """Whether two waves are alike where one is moved against the other."""
    size = 1 << (len(one) + len(two)).bit_length()
    across = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(two, size)), size)
    scale = float(np.linalg.norm(one) * np.linalg.norm(two))
    return scale > 0 and float(np.abs(across).max()) >= _WAVE * scale


def _correlated(rows: Floats, least: float) -> Iterator[tuple[int, int]]:
    """Pairs of rows whose correlation is that large; two that do not vary at all are alike."""
    centred = rows - rows.mean(1, keepdims=True)
    size = np.linalg.norm(centred, axis=1, keepdims=True)
    flat = size[:, 0] < 1e-3 * np.sqrt(rows.shape[1])
    unit = np.where(flat[:, None], 0, centred / np.maximum(size, 1e-9))
    for first in range(0, len(rows), _BLOCK):
        likeness = unit[first : first + _BLOCK] @ unit.T
        likeness[np.ix_(flat[first : first + _BLOCK], flat)] = 1
        for one, two in zip(*np.nonzero(likeness >= least), strict=True):
            if first + one < two:
                yield int(first + one), int(two)
