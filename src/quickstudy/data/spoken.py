"""Floor 1: what all data sets of spoken words share: from their recordings to tasks.

    files -> Recording -> waveforms of one rate and length -> store (cached) -> SoundTasks

Words decide the role, and where it is asked for speakers too: those who are heard in the test are then not heard in
training or validation.
"""

from __future__ import annotations

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from quickstudy.data.audio import as_bytes, fit, need_soundfile, read
from quickstudy.data.augment import Augmentation
from quickstudy.data.classfolders import and_more, read_each, with_others
from quickstudy.data.counts import Count
from quickstudy.data.dataset import check_role
from quickstudy.data.soundtasks import SoundTasks, Speakers
from quickstudy.data.source import Place, place
from quickstudy.data.store import ArrayStore, Pictures, open_or_build
from quickstudy.errors import DataError, InputError
from quickstudy.files import cache_root

__all__ = ["AbstractSpoken", "Recording"]

_CODE = 1  # to be raised whenever the same files would give other waveforms
_log = logging.getLogger(__name__)
_RATES = (4000, 48000)
_SECONDS = (0.1, 10.0)


@dataclass(frozen=True)
class Recording:
    """One file.

    Args:
        word: what is said.
        speaker: who says it; empty where that is not known.
        name: tells it apart, and how errors call it.
        read: gives its bytes.
    """

    word: str
    speaker: str
    name: str
    read: Callable[[], bytes]


class AbstractSpoken(ABC):
    """A data set of spoken words.

    Args:
        rate: samples a second; a network must be told the same.
        seconds: length of all recordings: shorter ones lie in silence, of longer ones the part with the most energy
            is taken.
        augment: change recordings at random in training (speed, shift, gain, noise, time and frequency masks).
        speaker_disjoint: no one is heard both in the support and in the query of a task.

    Raises:
        InputError: a rate or length that makes no sense.
    """

    name: str
    splits: tuple[str, ...]
    each_once = False
    """Whether copies of a recording are refused; published sets stay as they are."""

    def __init__(self, *, rate: int, seconds: float, augment: bool, speaker_disjoint: bool) -> None:
        if not _RATES[0] <= rate <= _RATES[1]:
            raise InputError(f"Cannot use rate = {rate}: expected {_RATES[0]} to {_RATES[1]} samples a second.")
        if not _SECONDS[0] <= seconds <= _SECONDS[1]:
            raise InputError(f"Cannot use seconds = {seconds}: expected {_SECONDS[0]} to {_SECONDS[1]:g}.")
        self.rate, self.seconds, self.augment, self.speaker_disjoint = rate, seconds, augment, speaker_disjoint

    @property
    def samples(self) -> int:
        """How long each recording is."""
        return round(self.rate * self.seconds)

    @property
    def shape(self) -> tuple[int, ...]:
        """(samples,)."""
        return (self.samples,)

    @property
    def place(self) -> Place:
        """What words count in; see :class:`quickstudy.data.source.Origin`."""
        return place(self.name)

    @property
    def divided(self) -> dict[str, list[str]]:
        """Role -> its words; kept with each run."""
        return {role: self.words(role) for role in self.splits}

    @abstractmethod
    def _find(self) -> list[Recording]:
        """All recordings, in any order."""

    @abstractmethod
    def _fingerprint(self) -> str:
        """Changes whenever a file does: part of the cache's name."""

    def _passed_over(self) -> list[Path]:
        """Files beside the recordings that are not read."""
        return []

    @abstractmethod
    def words(self, role: str) -> list[str]:
        """The words that a role draws from.

        Raises:
            UnknownName: there is no such role.
        """

    def voices(self, role: str) -> frozenset[str] | None:
        """The speakers that a role is restricted to; None: all."""
        del role
        return None

    @cached_property
    def recordings(self) -> list[Recording]:
        """All of them, as they stand in the store: by word, then by name."""
        return sorted(self._find(), key=lambda recording: (recording.word, recording.name))

    @cached_property
    def store(self) -> ArrayStore:
        """All waveforms as bytes, memory-mapped; read once, then from the cache.

        Raises:
            DataError: files are missing or cannot be read; names the first of them.
            InputError: soundfile is missing.
            StorageError: the cache cannot be written.
        """
        what = [_CODE, self.name, self.rate, self.samples, self._fingerprint()]
        digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
        return open_or_build(cache_root() / "sounds" / f"{self.name}-{digest}", self._build)

    @cached_property
    def speakers(self) -> Speakers | None:
        """Who speaks in each row of the store; None where that is not known."""
        names = sorted({recording.speaker for recording in self.recordings})
        if names in ([], [""]):
            return None
        number = {name: place for place, name in enumerate(names)}
        return Speakers(tuple(names), np.array([number[recording.speaker] for recording in self.recordings]))

    def tasks(
        self,
        role: str,
        *,
        shot: Count,
        query: Count,
        seed: int,
        way: Count | None = None,
        dirichlet: float | None = None,
    ) -> SoundTasks:
        """Tasks of one role; see :meth:`quickstudy.data.dataset.DataSet.tasks`."""
        check_role(self, role)
        store, speakers = self._part(role)
        return SoundTasks(
            store,
            store.numbers(self.words(role)),
            data=self.name,
            split=role,
            way=way,
            shot=shot,
            query=query,
            seed=seed,
            rate=self.rate,
            speakers=speakers,
            divided=self.speaker_disjoint,
            augmentation=Augmentation() if self.augment and role.startswith("train") else None,
            dirichlet=dirichlet,
            place=self.place,
        )

    def _part(self, role: str) -> tuple[ArrayStore, Speakers | None]:
        """The store, or its rows of the speakers of a role; words keep their numbers."""
        voices, store, speakers = self.voices(role), self.store, self.speakers
        if voices is None or speakers is None:
            return store, speakers
        keep = np.array([recording.speaker in voices for recording in self.recordings])
        counts = np.add.reduceat(keep.astype(np.int64), store.starts[:-1])
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        digest = hashlib.sha256(json.dumps([store.hash, np.flatnonzero(keep).tolist()]).encode()).hexdigest()
        part = ArrayStore(np.ascontiguousarray(store.images[keep]), store.classes, starts, digest)
        return part, Speakers(speakers.names, speakers.of_row[keep])

    def _build(self) -> ArrayStore:
        need_soundfile()
        files = ((recording.word, recording.name, recording.read) for recording in self.recordings)
        classes = read_each(files, lambda content, name: as_bytes(fit(read(content, name, self.rate), self.samples)))
        if self.each_once:
            self._refuse_copies(classes)
        if others := self._passed_over():
            _log.warning("Passed over, as no recordings of a word: %s.", and_more(others))
        return ArrayStore.from_classes({word: np.stack(waves) for word, waves in classes.items()})

    def _refuse_copies(self, classes: dict[str, list[Pictures]]) -> None:
        """Of a recording in the support and a copy in the query the answer could be looked up."""
        first: dict[bytes, Recording] = {}
        waves = (wave for word in classes.values() for wave in word)  # in the order of the recordings
        pairs = [
            (recording, first.setdefault(hashlib.sha256(wave.tobytes()).digest(), recording))
            for recording, wave in zip(self.recordings, waves, strict=True)
        ]
        copies = [(recording, known) for recording, known in pairs if known is not recording]
        if copies:
            recording, known = copies[0]
            sentence = (
                f"Cannot use {recording.name}: it holds the same sound as {known.name}, and what was learned from "
                "cannot be asked for. Remove one of them."
            )
            raise DataError(with_others(sentence, [other.name for other, _ in copies[1:]]))
