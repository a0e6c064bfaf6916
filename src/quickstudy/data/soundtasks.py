"""Floor 1: N-way K-shot tasks of recordings, where support and query may have to come from different speakers."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from quickstudy.data.audio import from_bytes
from quickstudy.data.augment import Augmentation
from quickstudy.data.batches import BatchSource, ClassBatches
from quickstudy.data.classtasks import ClassTasks, Sizes, _Draw
from quickstudy.data.source import TaskShape, as_indices
from quickstudy.data.store import ArrayStore
from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Integers, Key, integers

__all__ = ["SoundBatches", "SoundTasks", "Speakers"]

_ATTEMPTS = 64  # divisions of the speakers that a task tries
_ORDER = _ATTEMPTS  # the stream that orders the examples


@dataclass(frozen=True, eq=False)
class Speakers:
    """Who speaks in each row of a store.

    Args:
        names: P of them.
        of_row: ``[n]``, numbers below P.
    """

    names: tuple[str, ...]
    of_row: Integers


class SoundTasks(ClassTasks):
    """Tasks that tell ``way`` words apart from ``shot`` recordings of each.

    Inputs are waveforms, float32 ``[T, N, samples]`` in -1 .. 1; networks make spectrograms of them on their device.

    Args:
        store: recordings as :func:`quickstudy.data.audio.as_bytes` keeps them.
        classes: class numbers of the store that tasks are drawn from.
        rate: samples a second.
        speakers: who speaks; None where that is not known.
        divided: each task divides the speakers at random, for all its words: who is heard in its support is not heard
            in its query.
        augmentation: how recordings are changed; None: not at all.
        sizes: data, split, way, shot, query, seed and the like: see :class:`ClassTasks`.

    Raises:
        InputError: a number makes no sense, the words or recordings do not suffice, or speakers shall be divided that
            are not known, or of whom a word has one alone.
    """

    _comparable = True

    def __init__(
        self,
        store: ArrayStore,
        classes: Sequence[int],
        *,
        rate: int,
        speakers: Speakers | None = None,
        divided: bool = False,
        augmentation: Augmentation | None = None,
        **sizes: Unpack[Sizes],
    ) -> None:
        super().__init__(store, classes, **sizes)
        self.rate, self.augmentation = rate, augmentation
        self._known = speakers
        self.speakers: Speakers | None = None
        if divided:
            self._divide_speakers()

    def _divide_speakers(self) -> None:
        self._heard = self._table_of_speakers(self._known)
        self.speakers = self._known

    @override
    def apart(self) -> Self:
        """The same tasks of the same words, whose queries are of other speakers than their support.

        Raises:
            InputError: nobody knows who speaks, a word has one speaker alone, or these tasks are such tasks already.
        """
        if self.speakers is not None:
            raise InputError(
                f"In all tasks of {self._data}/{self._split} queries are of other speakers than the support already "
                "(speaker-disjoint), so that there is nothing to compare with."
            )
        found = copy.copy(self)
        found.__dict__.pop("hash", None)  # which says who speaks, where that divides
        found._divide_speakers()
        return found

    def _table_of_speakers(self, speakers: Speakers | None) -> Integers:
        """How many recordings each speaker has of each class, ``[classes, speakers]``."""
        where = f"{self._data}/{self._split}"
        if speakers is None:
            raise InputError(
                f"Cannot divide the speakers of {where}: it is not known who speaks. Say how file names tell the "
                "speaker (speakers = 'name' or 'folder'), or set speaker-disjoint = false."
            )
        numbers = np.repeat(np.arange(len(self._store.classes)), self._store.sizes)
        heard = np.zeros((len(self._store.classes), len(speakers.names)), dtype=np.int64)
        np.add.at(heard, (numbers, speakers.of_row), 1)
        several = (heard[self._classes] > 0).sum(1)
        if several.min() < 2:
            word = self._store.classes[self._classes[several.argmin()]]
            raise InputError(
                f"Cannot divide the speakers of {where}: all recordings of the word {word!r} are of one speaker. "
                "Record a second one, or set speaker-disjoint = false."
            )
        return heard

    @property
    @override
    def shape(self) -> TaskShape:
        """One waveform, ``(samples,)``."""
        return replace(super().shape, example=(self.samples,))

    @property
    def samples(self) -> int:
        """How long a recording is."""
        return self._store.example[-1] // 2

    @cached_property
    @override
    def hash(self) -> str:
        """Hex sha256 over the recordings, the words and who speaks where."""
        who = None if self.speakers is None else [self.speakers.names, self.speakers.of_row.tolist()]
        return hashlib.sha256(json.dumps([super().hash, self.rate, who]).encode()).hexdigest()

    @property
    @override
    def settings(self) -> dict[str, Any]:
        """What makes these tasks."""
        known = {name: value for name, value in super().settings.items() if name != "rotations"}
        own = {"rate": self.rate, "speaker_disjoint": self.speakers is not None}
        return known | own | {"augmented": self.augmentation is not None}

    @override
    def episodes(self, indices: range | Integers) -> Episode:
        """The tasks with these numbers; ``x`` is float32 ``[T, N, samples]``."""
        tasks, kept = as_indices(indices), super().episodes(indices)
        support, query = (self._heard_as(part, tasks, name) for part, name in _parts(kept))
        return Episode(support, query, index=kept.index, classes=kept.classes)

    def _heard_as(self, examples: Examples, tasks: Integers, part: str) -> Examples:
        x = _waves(examples, self._key.fold("changes", part), tasks, self.rate, self.augmentation)
        return Examples(x, examples.y, examples.target, examples.mask)

    @override
    def batches(self, size: int) -> SoundBatches:  # type: ignore[override]
        """Passes over every recording, changed in each pass as in training tasks; see :class:`ClassTasks`."""
        shape = replace(super().batches(size).shape, example=(self.samples,))
        return SoundBatches(super().batches(size), shape, self._key.fold("changes"), self.rate, self.augmentation)

    @override
    def _draw(self, tasks: Integers) -> _Draw:
        draw = super()._draw(tasks)
        return draw if self.speakers is None else replace(draw, rows=self._divide(tasks, draw))

    def _divide(self, tasks: Integers, draw: _Draw) -> Integers:
        """Rows of each class, ``[T, W, K]``: its shots of some speakers, then queries of the others."""
        assert self.speakers is not None
        support = self._support_speakers(tasks, draw)  # [T, P]
        start, size = self._store.starts[:-1], self._store.sizes
        number = np.maximum(draw.classes, 0)
        longest = int(size[self._classes].max())
        words = self._key.fold("speakers").bits(tasks, number.shape[1] * longest, _ORDER)
        words = words.reshape(*number.shape, longest)
        place = np.arange(longest)
        there = place < size[number][..., None]
        row = np.where(there, start[number][..., None] + place, 0)
        first = np.take_along_axis(support, self.speakers.of_row[row].reshape(len(tasks), -1), 1).reshape(row.shape)
        # A word without its two last bits, and above them where it belongs: support, query, nowhere.
        rank = np.where(there, np.where(first, 0, 1), 2).astype(np.uint64)
        order = ((words >> np.uint64(2)) | (rank << np.uint64(62))).argsort(2, kind="stable")
        row = np.take_along_axis(row, order, 2)
        # Queries follow the shots that are taken, not all that the support's speakers have.
        taken = np.arange(self._most)
        surplus = (first & there).sum(2) - draw.shot
        source = taken + np.where(taken >= draw.shot[..., None], surplus[..., None], 0)
        chosen: Integers = np.take_along_axis(row, np.clip(source, 0, longest - 1), 2)
        return chosen

    def _support_speakers(self, tasks: Integers, draw: _Draw) -> NDArray[np.bool_]:
        """Who is heard in the support, ``[T, P]``: half of them, or as many as it takes, the first that suffice."""
        assert self.speakers is not None
        many = len(self.speakers.names)
        found, left = np.zeros((len(tasks), many), dtype=bool), np.arange(len(tasks))
        key, heard = self._key.fold("speakers"), self._heard[np.maximum(draw.classes, 0)]  # [T, W, P]
        for attempt in range(_ATTEMPTS):
            words = key.bits(tasks[left], many + 1, attempt)
            half = many // 2 if attempt == 0 else 1 + integers(words[:, :1], many - 1)
            support = words[:, 1:].argsort(1, kind="stable").argsort(1, kind="stable") < half
            shots = (heard[left] * support[:, None]).sum(2) >= draw.shot[left]
            queries = (heard[left] * ~support[:, None]).sum(2) >= draw.query[left]
            enough = (shots & queries).all(1)
            found[left[enough]] = support[enough]
            left = left[~enough]
            if not len(left):
                return found
        words_of = ", ".join(repr(self._store.classes[c]) for c in draw.classes[left[0]] if c >= 0)
        raise InputError(
            f"Cannot draw task {tasks[left[0]]} of {self._data}/{self._split}: found no way in {_ATTEMPTS} tries to "
            f"divide the {many} speakers so that support and query of {words_of} have enough recordings of different "
            "ones. Reduce shot or query, or set speaker-disjoint = false."
        )


class SoundBatches(BatchSource):
    """Plain labelled batches of waveforms, float32 ``[1, B, samples]``.

    Args:
        kept: the batches, as bytes.
        shape: of the waveforms.
        key: of what is changed.
        rate: samples a second.
        augmentation: how recordings are changed; None: not at all.
    """

    def __init__(
        self, kept: ClassBatches, shape: TaskShape, key: Key, rate: int, augmentation: Augmentation | None
    ) -> None:
        self._kept, self._shape, self._key = kept, shape, key.fold("batches")
        self._rate, self._augmentation = rate, augmentation

    @property
    @override
    def shape(self) -> TaskShape:
        return self._shape

    @property
    @override
    def hash(self) -> str:
        return self._kept.hash

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return self._kept.settings

    @override
    def batch(self, step: int) -> Examples:
        kept = self._kept.batch(step)
        x = _waves(kept, self._key, np.array([step]), self._rate, self._augmentation)
        return Examples(x, kept.y, kept.target, kept.mask)


def _parts(episode: Episode) -> tuple[tuple[Examples, str], tuple[Examples, str]]:
    return (episode.support, "support"), (episode.query, "query")


def _waves(examples: Examples, key: Key, tasks: Integers, rate: int, augmentation: Augmentation | None) -> torch.Tensor:
    """Waveforms of what a store keeps, ``[T, N, 1, bytes] -> [T, N, samples]``; silence on padding."""
    assert isinstance(examples.x, torch.Tensor)
    waves = from_bytes(examples.x.numpy())
    if augmentation is not None:
        waves = augmentation.apply(waves, key, tasks, rate)
        if examples.mask is not None:
            waves[~examples.mask.numpy()] = 0
    return torch.from_numpy(waves)
