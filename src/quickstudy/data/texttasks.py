"""Floor 1: N-way K-shot tasks of texts.

A row of the store holds a text twice: as the numbers of its tokens, and as the bytes of its letters, for what counts
words by itself and for people who read a report.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from quickstudy.data.batches import BatchSource, ClassBatches
from quickstudy.data.classtasks import ClassTasks, Sizes
from quickstudy.data.corpus import Corpus
from quickstudy.data.source import Origin, TaskShape, as_indices
from quickstudy.data.store import ArrayStore
from quickstudy.data.tokens import AbstractTokens
from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Integers, Key, integers, uniform

__all__ = ["TextBatches", "TextTasks", "Written", "as_examples", "texts_of", "written"]

_STEP = 4  # lengths are multiples of it, so that few different ones meet a network
_WORD = 4  # bytes of a token's number
_LETTERS = 32  # bytes of a text that are kept for each token that there is room for


@dataclass(frozen=True, eq=False)
class Written:
    """Texts of some classes as rows of a store.

    Args:
        store: uint8 ``[n, 1, 4 L + B]``: L numbers of tokens, one more than they are (0 where the text has ended), and
            B bytes of UTF-8, 32 L at most.
        length: L.
        tokens: what made the numbers.
        cut: texts of more than L tokens.
    """

    store: ArrayStore
    length: int
    tokens: AbstractTokens
    cut: int


def written(corpus: Corpus, tokens: AbstractTokens, length: int) -> Written:
    """The texts of all its classes.

    Args:
        corpus: has them.
        tokens: makes the numbers.
        length: tokens that are kept of a text.
    """
    letters = {label: [_begin(text, length) for text in texts] for label, texts in corpus.texts.items()}
    widest = max(len(text) for texts in letters.values() for text in texts)
    rows = {label: _as_rows(texts, letters[label], tokens, length, widest) for label, texts in corpus.texts.items()}
    # One token more than there is room for tells which texts are cut.
    longer = (row for texts in corpus.texts.values() for row in tokens.encode(texts, length + 1))
    cut = sum(len(row) > length for row in longer)
    return Written(ArrayStore.from_classes({label: row[:, None] for label, row in rows.items()}), length, tokens, cut)


def _begin(text: str, length: int) -> bytes:
    """The bytes of a text, of a long one the first: all rows are as wide as the widest."""
    return text.encode()[: _LETTERS * length].decode(errors="ignore").encode()


def _as_rows(
    texts: Sequence[str], letters: Sequence[bytes], tokens: AbstractTokens, length: int, widest: int
) -> NDArray[np.uint8]:
    """``[n, 4 L + B]``; see :class:`Written`."""
    rows = np.zeros((len(texts), _WORD * length + widest), dtype=np.uint8)
    for row, numbers, text in zip(rows, tokens.encode(texts, length), letters, strict=True):
        found = np.array(numbers, dtype="<i4") + 1
        row[: _WORD * len(found)] = found.view(np.uint8)
        row[_WORD * length :][: len(text)] = np.frombuffer(text, dtype=np.uint8)
    return rows


def as_examples(
    texts: Sequence[str], labels: Sequence[int] | None, way: int, tokens: AbstractTokens, length: int
) -> Examples:
    """Anyone's texts as one task, with leaves as those of :class:`TextTasks`.

    Args:
        texts: N of them.
        labels: of each its class, 0 to ``way - 1``; None where they are to be asked for.
        way: how many classes there are.
        tokens: makes the numbers.
        length: tokens that are kept of a text.

    Raises:
        InputError: no text or an empty one, labels that are not as many as the texts, or one that is out of range.
    """
    if not texts or isinstance(texts, str) or any(not text.strip() for text in texts):
        raise InputError(f"Cannot make a task of these texts: expected a list of texts with words, received {texts!r}.")
    if labels is not None and (len(labels) != len(texts) or not all(0 <= label < way for label in labels)):
        raise InputError(
            f"Cannot make a task of {len(texts)} texts with the labels {list(labels)}: expected one of 0 to {way - 1} "
            "for each."
        )
    letters = [_begin(text, length) for text in texts]
    rows = _as_rows(texts, letters, tokens, length, max(map(len, letters)))[None]
    ids, spelled = _apart(rows, length)
    y = None if labels is None else torch.tensor([list(labels)])
    kept = Examples(torch.from_numpy(rows), y, Classes(torch.tensor([way])))
    return _examples(kept, ids[..., : _width([ids], length)], spelled, tokens.padding)


class TextTasks(ClassTasks):
    """Tasks that tell ``way`` classes apart from ``shot`` texts of each.

    Inputs are a dict: ``input_ids`` and ``attention_mask``, int64 ``[T, N, L]``, and ``text``, int16 ``[T, N, B]``, the
    bytes of the text, 0 where it has ended. L and B are cut to the longest text of a call.

    Args:
        texts: of the role.
        rename: the share of words that each task takes for unknown ones: all through a task such a word has the same
            number, one of those that unknown words share. So a network learns to use words that it does not know.
        about: further settings, for results.
        titles: what classes are called for people, where that differs from their names.
        sizes: data, split, way, shot, query, seed and the like: see :class:`ClassTasks`.

    Raises:
        InputError: a number makes no sense, or the classes or texts do not suffice.
    """

    def __init__(
        self,
        texts: Written,
        *,
        rename: float = 0.0,
        about: dict[str, Any] | None = None,
        titles: Mapping[str, str] | None = None,
        **sizes: Unpack[Sizes],
    ) -> None:
        super().__init__(texts.store, range(len(texts.store.classes)), **sizes)
        self.texts, self.rename, self._about = texts, rename if texts.tokens.shared is not None else 0.0, about or {}
        self._titles = titles or {}

    @property
    @override
    def shape(self) -> TaskShape:
        """Of a text: its tokens, which of them are there, and its bytes."""
        return _shape(super().shape, self.texts)

    @cached_property
    @override
    def hash(self) -> str:
        """Hex sha256 over the texts, as tokens and as letters, and their classes."""
        return hashlib.sha256(json.dumps([super().hash, self.texts.length]).encode()).hexdigest()

    @property
    @override
    def settings(self) -> dict[str, Any]:
        """What makes these tasks."""
        known = {name: value for name, value in super().settings.items() if name != "rotations"}
        own = {"length": self.texts.length, "cut": self.texts.cut, "rename": self.rename}
        return known | own | self._about

    @cached_property
    @override
    def origin(self) -> Origin | None:
        """The classes, and how the texts were numbered."""
        kept = super().origin
        return None if kept is None else replace(kept, numbering=self.texts.tokens.digest)

    @override
    def episodes(self, indices: range | Integers) -> Episode:
        """The tasks with these numbers."""
        tasks, kept = as_indices(indices), super().episodes(indices)
        parts = [_rows(part) for part in (kept.support, kept.query)]
        ids, letters = zip(*(_apart(part, self.texts.length) for part in parts), strict=True)
        self._rename(ids, self._key, tasks)
        wide, long = _width(ids, self.texts.length), _width(letters, letters[0].shape[2])
        support, query = (
            _examples(part, number[..., :wide], letter[..., :long], self.texts.tokens.padding)
            for part, number, letter in zip((kept.support, kept.query), ids, letters, strict=True)
        )
        return Episode(support, query, index=kept.index, classes=kept.classes)

    @override
    def names_of(self, episode: Episode) -> list[str]:
        return [self._titles.get(name, name) for name in super().names_of(episode)]

    @override
    def batches(self, size: int) -> TextBatches:  # type: ignore[override]
        """Passes over every text; see :class:`ClassTasks`."""
        return TextBatches(super().batches(size), self, self._key.fold("batches"))

    def _rename(self, ids: Sequence[Integers], key: Key, tasks: Integers) -> None:
        """Some words of each task become unknown ones, in place."""
        shared, size = self.texts.tokens.shared, self.texts.tokens.size
        if not self.rename or shared is None:
            return
        key = key.fold("renamed")
        taken = uniform(key.bits(tasks, size, 0)) < self.rename  # [T, V]
        unknown = shared + integers(key.bits(tasks, size, 1), size - shared)
        # Numbers in rows are one more than a token's; 0 is no token.
        table = np.concatenate(
            [np.zeros((len(tasks), 1), dtype=np.int64), np.where(taken, unknown, np.arange(size)) + 1], 1
        )
        task = np.arange(len(tasks))[:, None, None]
        for part in ids:
            part[...] = table[task, part]


class TextBatches(BatchSource):
    """Plain labelled batches of texts; see :class:`TextTasks` for their leaves.

    Args:
        kept: the batches, as bytes.
        source: what they are made of.
        key: of the words that a batch takes for unknown ones.
    """

    def __init__(self, kept: ClassBatches, source: TextTasks, key: Key) -> None:
        self._kept, self._source, self._key = kept, source, key

    @property
    @override
    def shape(self) -> TaskShape:
        return _shape(self._kept.shape, self._source.texts)

    @property
    @override
    def hash(self) -> str:
        return self._source.hash

    @property
    @override
    def settings(self) -> dict[str, Any]:
        sizes = ("way", "shot", "query", "dirichlet")
        return {name: value for name, value in self._source.settings.items() if name not in sizes} | {
            "batch": self._kept.settings["batch"]
        }

    @override
    def batch(self, step: int) -> Examples:
        kept, texts = self._kept.batch(step), self._source.texts
        ids, letters = _apart(_rows(kept), texts.length)
        self._source._rename([ids], self._key, np.array([step]))
        wide, long = _width([ids], texts.length), _width([letters], letters.shape[2])
        return _examples(kept, ids[..., :wide], letters[..., :long], texts.tokens.padding)


def texts_of(examples: Examples) -> list[list[str]]:
    """The texts of each task, empty on padding.

    Args:
        examples: of :class:`TextTasks`.
    """
    assert isinstance(examples.x, dict)
    letters = examples.x["text"].cpu().numpy().astype(np.uint8)
    return [[row.tobytes().rstrip(b"\0").decode() for row in task] for task in letters]


def _shape(of_bytes: TaskShape, texts: Written) -> TaskShape:
    long = int(texts.store.images.shape[2] - _WORD * texts.length)
    example: dict[str, tuple[int, ...]] = {
        "input_ids": (texts.length,),
        "attention_mask": (texts.length,),
        "text": (long,),
    }
    return replace(of_bytes, example=example, vocabulary=texts.tokens.size)


def _rows(examples: Examples) -> NDArray[np.uint8]:
    """``[T, N, bytes]``."""
    assert isinstance(examples.x, torch.Tensor)
    return examples.x.numpy()[:, :, 0]


def _apart(rows: NDArray[np.uint8], length: int) -> tuple[Integers, NDArray[np.int16]]:
    """Numbers ``[T, N, L]``, 0 where the text has ended, and letters ``[T, N, B]``."""
    numbers = np.ascontiguousarray(rows[..., : _WORD * length]).view("<i4").astype(np.int64)
    return numbers, rows[..., _WORD * length :].astype(np.int16)


def _width(parts: Sequence[NDArray[Any]], most: int) -> int:
    """Of the longest text, rounded up."""
    longest = max(int((part != 0).any((0, 1)).nonzero()[0].max(initial=0)) + 1 for part in parts)
    return min(-(-longest // _STEP) * _STEP, most)


def _examples(kept: Examples, ids: Integers, letters: NDArray[np.int16], padding: int) -> Examples:
    there = ids > 0
    x = {
        "input_ids": torch.from_numpy(np.where(there, ids - 1, padding)),
        "attention_mask": torch.from_numpy(there.astype(np.int64)),
        "text": torch.from_numpy(np.ascontiguousarray(letters)),
    }
    return Examples(x, kept.y, kept.target, kept.mask)
