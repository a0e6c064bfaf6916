"""Floor 6: what people hand to an estimator, told apart and made into what a network reads.

    rows      a table: 2-D numbers, a DataFrame
    pictures  arrays [n, H, W] or [n, H, W, 3], Pillow's images, paths
    texts     strings, in a list, an array or a column of a DataFrame
    sounds    waveforms, with their rate

A reader is made from the labelled examples and keeps what it found in them (which number is white, which side of the
brightness is ink), so that a new example is read in the same way, whatever stands beside it.
"""

from __future__ import annotations

import functools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from typing_extensions import override

from quickstudy.data import audio
from quickstudy.data.picturefiles import decode, fitted, settled
from quickstudy.data.source import TaskShape
from quickstudy.data.tokens import HubTokens
from quickstudy.errors import InputError
from quickstudy.estimators.refusals import refuse_several_kinds
from quickstudy.estimators.tables import Table
from quickstudy.targets import Inputs

__all__ = [
    "AbstractReader",
    "InkReader",
    "Kind",
    "PictureReader",
    "RowReader",
    "SoundReader",
    "TextReader",
    "kind_of",
    "looks_drawn",
]

Kind: TypeAlias = Literal["rows", "pictures", "texts", "sounds"]

_COLOUR, _EVEN, _PAPER = 8, 32, 0.4  # of 255; of 255; a share of all pixels
_FRAME, _BOX = 28, 20  # drawings are placed as letters and characters are in training: the longer side 20 of 28


def kind_of(X: Any, rate: int | None = None) -> Kind:
    """What examples are.

    Args:
        X: n of them.
        rate: samples a second, where they are waveforms.

    Raises:
        InputError: they are nothing that is known here, or of several kinds, or the rate is none.
    """
    if rate is not None:
        if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or rate < 1:
            raise InputError(f"rate must be a whole number of samples a second, such as 16000, received {rate!r}.")
        return "sounds"
    if isinstance(X, Table) or (hasattr(X, "iloc") and X.ndim != 1) or hasattr(X, "toarray"):  # also sparse matrices
        return "rows"
    if isinstance(X, Tensor):
        X = X.detach().cpu().numpy()
    elif hasattr(X, "__array__") and not isinstance(X, np.ndarray):
        X = np.asarray(X)
    if isinstance(X, np.ndarray) and X.dtype != object and X.dtype.kind not in "US":
        if X.ndim in (3, 4):
            return "pictures"
        return "rows"
    if isinstance(X, str | bytes | Path):
        raise InputError(f"Expected a list of examples, received one {type(X).__name__}. Put it into a list: [x].")
    items = list(X) if not isinstance(X, np.ndarray) or X.ndim == 1 else []
    kinds = {_kind_of_one(item) for item in items}
    if len(kinds) > 1:
        refuse_several_kinds(items, kinds)
    return kinds.pop() if kinds else "rows"


def _kind_of_one(item: Any) -> Kind:
    if isinstance(item, str | np.str_):
        return "texts"
    if isinstance(item, Path):
        return "sounds" if item.suffix.lower() in audio.SUFFIXES else "pictures"
    if isinstance(item, Image.Image):
        return "pictures"
    if isinstance(item, np.ndarray | Tensor) and item.ndim in (2, 3):
        return "pictures"
    return "rows"


class AbstractReader(ABC):
    """From n examples as people have them to what a network reads.

    Attributes:
        kind: of the examples.
    """

    kind: ClassVar[Kind]

    @abstractmethod
    def read(self, X: Any) -> Inputs:
        """``[n, ...]``.

        Raises:
            InputError: an example cannot be read; names its number.
        """

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What makes it read as it does, as JSON."""


@dataclass(frozen=True)
class RowReader(AbstractReader):
    """Rows of numbers.

    Args:
        columns: how many.
    """

    kind: ClassVar[Kind] = "rows"
    columns: int

    @override
    def read(self, X: Any) -> Tensor:
        return torch.tensor(np.asarray(X, dtype=np.float32))

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {"columns": self.columns}


@dataclass(frozen=True)
class PictureReader(AbstractReader):
    """Pictures of any size: the largest square in the middle of each, brought to the network's size.

    Args:
        size: pixels along a side.
        channels: 1 or 3.
        white: the number of the brightest pixels, where pictures are arrays that are not of 8 bits.
    """

    kind: ClassVar[Kind] = "pictures"
    size: int
    channels: int
    white: float = 255.0

    @staticmethod
    def of(X: Any, shape: TaskShape) -> PictureReader:
        """A reader of pictures like these."""
        channels, size = _picture_shape(shape)
        return PictureReader(size, channels, white_of(X))

    @override
    def read(self, X: Any) -> Tensor:
        return torch.from_numpy(np.stack([fitted(picture, self.size, self.channels) for picture in self.pictures(X)]))

    def pictures(self, X: Any) -> list[Image.Image]:
        """Each as one of Pillow's images of 8 bits."""
        return [_picture(item, number, self.white) for number, item in enumerate(X)]

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {"size": self.size, "channels": self.channels, "white": self.white}


@dataclass(frozen=True)
class InkReader(AbstractReader):
    """Drawings and letters, for a network that was trained on ink 255 on 0, the longer side 20 of 28, centred.

    Args:
        size: pixels along a side.
        white: see :class:`PictureReader`.
        dark: the ink is dark, on bright paper.
    """

    kind: ClassVar[Kind] = "pictures"
    size: int
    white: float = 255.0
    dark: bool = False

    @staticmethod
    def of(X: Any, shape: TaskShape) -> InkReader:
        """A reader of drawings like these: what most of the pixels along the edges are is paper."""
        _, size = _picture_shape(shape)
        white = white_of(X)
        edges = [_edge(np.asarray(_picture(item, number, white).convert("L"))) for number, item in enumerate(X)]
        return InkReader(size, white, bool(np.median(np.concatenate(edges)) > 127))

    @override
    def read(self, X: Any) -> Tensor:
        return torch.from_numpy(np.stack([self._one(item, number) for number, item in enumerate(X)]))

    def _one(self, item: Any, number: int) -> NDArray[np.uint8]:
        pixels = np.asarray(_picture(item, number, self.white).convert("L"), dtype=np.float32)
        ink = 255 - pixels if self.dark else pixels
        ink = ink - float(np.median(_edge(ink)))  # paper that is not quite white
        ink = np.clip(ink * (255 / max(float(ink.max()), 1.0)), 0, 255)
        rows, columns = (np.flatnonzero((ink > 64).any(axis)) for axis in (1, 0))
        if not len(rows):  # an empty sheet
            return np.zeros((self.size, self.size), np.uint8)
        box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        longer = max(box.shape)
        side = max(longer + 2, round(longer * _FRAME / _BOX))
        sheet = np.zeros((side, side), np.float32)
        top, left = (side - box.shape[0]) // 2, (side - box.shape[1]) // 2
        sheet[top : top + box.shape[0], left : left + box.shape[1]] = box
        drawn = Image.fromarray(sheet.round().astype(np.uint8))
        return np.asarray(
            drawn.resize(
                (self.size, self.size), Image.Resampling.BICUBIC if side < self.size else Image.Resampling.LANCZOS
            )
        )

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {"size": self.size, "white": self.white, "dark": self.dark}


@dataclass(frozen=True)
class SoundReader(AbstractReader):
    """Waveforms, brought to the network's rate and length.

    Args:
        samples: that the network reads.
        wanted: samples a second that it was trained with.
        rate: samples a second of waveforms that are handed in; those of files say it themselves.
    """

    kind: ClassVar[Kind] = "sounds"
    samples: int
    wanted: int
    rate: int | None = None

    @override
    def read(self, X: Any) -> Tensor:
        waves = [self._one(item, number) for number, item in enumerate(X)]
        silent = [str(item) for item, wave in zip(X, waves, strict=True) if isinstance(item, Path) and not wave.any()]
        if silent:
            more = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
            warnings.warn(f"Nothing is to be heard in {silent[0]}{more}. Record it again or remove it.", stacklevel=2)
        return torch.from_numpy(np.stack(waves))

    def _one(self, item: Any, number: int) -> NDArray[np.float32]:
        if isinstance(item, Path):
            try:
                wave = audio.read(item.read_bytes(), str(item), self.wanted)
            except OSError as error:
                raise InputError(f"Cannot read {item}: {error.strerror or error}.") from error
            return audio.fit(wave, self.samples)
        given = np.asarray(item.detach().cpu() if isinstance(item, Tensor) else item, dtype=np.float64)
        if given.ndim != 1 or not len(given) or not np.isfinite(given).all():
            raise InputError(
                f"Cannot read recording {number}: expected a waveform [samples] of finite numbers, found shape "
                f"{list(given.shape)}{'' if np.isfinite(given).all() else ' with NaN or infinity'}."
            )
        sound = audio.resample(given, self.rate or self.wanted, self.wanted)
        sound = sound / max(float(np.abs(sound).max()), 1e-12)  # the loudest sample at 1, as in files
        return audio.fit(sound.astype(np.float32), self.samples)

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {"samples": self.samples, "wanted": self.wanted, "rate": self.rate}


@dataclass(frozen=True)
class TextReader(AbstractReader):
    """Texts, as their letters, for networks that read those; and as numbers of tokens.

    Args:
        tokenizer: a tokenizer of Hugging Face; None: letters alone.
        length: tokens that are kept of a text.
    """

    kind: ClassVar[Kind] = "texts"
    tokenizer: str | None = None
    length: int = 0

    @override
    def read(self, X: Any) -> dict[str, Tensor]:
        """``{text [n, B]}``, the bytes of UTF-8, 0 where a text has ended; ``input_ids`` and ``attention_mask``."""
        letters = [self._one(item, number) for number, item in enumerate(X)]
        rows = np.zeros((len(letters), max(map(len, letters))), dtype=np.int16)
        for row, text in zip(rows, letters, strict=True):
            row[: len(text)] = np.frombuffer(text, dtype=np.uint8)
        found = {"text": torch.from_numpy(rows)}
        if self.tokenizer is None:
            return found
        tokens = _tokens(self.tokenizer)
        numbers = tokens.encode([text.decode() for text in letters], self.length)
        ids = torch.full((len(numbers), self.length), tokens.padding)
        there = torch.zeros_like(ids)
        for place, one in enumerate(numbers):
            ids[place, : len(one)] = torch.tensor(one)
            there[place, : len(one)] = 1
        return {"input_ids": ids, "attention_mask": there, **found}

    def _one(self, item: Any, number: int) -> bytes:
        text = item if isinstance(item, str) else ""
        letters = text.replace("\0", " ").encode("utf-8", "replace")
        if not text.strip():
            raise InputError(
                f"Cannot read text {number}: expected words, found {item!r}. Leave out texts that are empty."
            )
        return letters

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer, "length": self.length}


@functools.cache
def _tokens(name: str) -> HubTokens:
    return HubTokens(name)


# --- pictures -----------------------------------------------------------------------------------------


def white_of(X: Sequence[Any]) -> float:
    """The number of the brightest pixels: 255 for 8 bits, 1 for numbers up to 1, else the largest met with."""
    arrays = [np.asarray(item) for item in X if not isinstance(item, Image.Image | Path)]
    if not arrays or all(array.dtype == np.uint8 for array in arrays):
        return 255.0
    largest = max(float(array.max(initial=0.0)) for array in arrays)
    return (
        1.0 if largest <= 1 else 255.0 if 16 < largest <= 255 and all(a.dtype.kind in "ui" for a in arrays) else largest
    )


def _picture(item: Any, number: int, white: float) -> Image.Image:
    """One picture of 8 bits, grey or colour.

    Raises:
        InputError: it is none.
    """
    if isinstance(item, Path):
        try:
            return decode(item.read_bytes(), str(item))
        except OSError as error:
            raise InputError(f"Cannot read {item}: {error.strerror or error}.") from error
    if isinstance(item, Image.Image):
        shown = settled(item, f"picture {number}")
        return shown.convert("RGB" if len(shown.getbands()) > 2 or shown.mode == "P" else "L")
    pixels = np.asarray(item.detach().cpu() if isinstance(item, Tensor) else item)
    if isinstance(item, Tensor) and pixels.ndim == 3 and pixels.shape[0] in (1, 3):
        pixels = np.moveaxis(pixels, 0, 2) if pixels.shape[2] not in (1, 3, 4) else pixels  # as PyTorch has channels
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)) or not pixels.size:
        raise InputError(
            f"Cannot read picture {number}: expected pixels [H, W] or [H, W, 3], found shape {list(pixels.shape)}. "
            "Where channels come first, move them: numpy.moveaxis(X, 1, -1)."
        )
    if not np.isfinite(pixels.astype(np.float64)).all() or pixels.min() < 0:
        raise InputError(f"Cannot read picture {number}: it has pixels that are negative, NaN or infinite.")
    if pixels.dtype != np.uint8:
        pixels = np.clip(pixels.astype(np.float64) * (255 / white), 0, 255).round().astype(np.uint8)
    return settled(Image.fromarray(np.ascontiguousarray(pixels)), f"picture {number}")


def _edge(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _picture_shape(shape: TaskShape) -> tuple[int, int]:
    """Channels and pixels along a side.

    Raises:
        InputError: the learner reads no pictures.
    """
    example = shape.example
    if isinstance(example, dict) or len(example) != 3 or example[1] != example[2] or example[0] not in (1, 3):
        raise InputError(
            f"This learner reads examples of shape {example}, and no pictures. Give it such examples, or take another."
        )
    return example[0], example[1]


def looks_drawn(X: Sequence[Any]) -> bool:
    """Whether pictures are drawings: without colour, and most of each as even as paper."""
    white = white_of(X)
    paper = []
    for number, item in enumerate(X):
        pixels = np.asarray(_picture(item, number, white).convert("RGB"), dtype=np.int16)
        if (pixels.max(2) - pixels.min(2)).mean() > _COLOUR:
            return False
        grey = pixels.mean(2)
        paper.append((np.abs(grey - np.median(_edge(grey))) < _EVEN).mean())
    return float(np.median(paper)) > _PAPER
