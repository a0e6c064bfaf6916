"""Floor 1: Arabic Speech Commands, 40 words spoken by 30 people.

A. Ghandoura, F. Hjabo, O. Al Dakkak, "Building and benchmarking an Arabic Speech Commands dataset for small-footprint
keyword spotting", Engineering Applications of Artificial Intelligence 2021.
"""

from __future__ import annotations

import re
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

from quickstudy.data.dataset import check_role
from quickstudy.data.speechfiles import Files, published
from quickstudy.data.spoken import AbstractSpoken, Recording
from quickstudy.errors import DataError, InputError
from quickstudy.files import data_root

__all__ = ["ArabicCommands"]

# The words in the order of their names' BLAKE2b digests: 24 to train on, 6 to validate, these 10 to test.
_TEST = ("close", "disable", "down", "five", "open", "previous", "right", "seven", "six", "zero")
_VALIDATION = ("four", "left", "move", "ok", "one", "stop")
_TRAIN = (
    *("backward", "cancel", "digit", "direction", "eight", "enable", "enter", "forward", "next", "nine", "no"),
    *("options", "receive", "record", "rotate", "send", "start", "three", "two", "undo", "up", "yes"),
    *("zoom in", "zoom out"),
)
_WORDS = {"train": _TRAIN, "validation": _VALIDATION, "test": _TEST, "train+validation": (*_TRAIN, *_VALIDATION)}

# The speakers of the published train.csv; those of val.csv and test.csv are the other twelve.
_TRAINING_SPEAKERS = frozenset(f"{n:08}" for n in (1, 5, 6, 9, 11, 13, 15, 16, 17, 18, 19, 20, 22, 23, 24, 27, 29, 30))
_FILE = re.compile(r"dataset/([^/]+)/(\d{8})_NO_(\d+)\.wav")


class ArabicCommands(AbstractSpoken):
    """Arabic words: 24 to train on, 6 to validate on, 10 to test on, a fixed list.

    Args:
        root: the folder that holds ``arabic-speech-commands/``, with a zip file or the unpacked ``dataset/``.
        rate: samples a second; 8,000, as of Free Spoken Digits, so that one may be trained and the other tested on.
        seconds: length of all recordings.
        augment: change recordings at random in training.
        speaker_disjoint: no one is heard both in the support and in the query of a task.
        speakers: ``"held-out"``: the 18 speakers of the published training list train and validate, the 12 others
            test, so that words *and* speakers of the test are new; ``"all"``: everybody everywhere.
        takes: how many of the ten recordings that were published of each word by each speaker are used.

    Raises:
        InputError: a rate, a length or a number of takes that makes no sense.
    """

    name = "arabic-commands"
    splits = ("train", "validation", "test", "train+validation")

    def __init__(
        self,
        root: Path | None = None,
        *,
        rate: int = 8000,
        seconds: float = 1.0,
        augment: bool = True,
        speaker_disjoint: bool = True,
        speakers: Literal["held-out", "all"] = "held-out",
        takes: int = 1,
    ) -> None:
        super().__init__(rate=rate, seconds=seconds, augment=augment, speaker_disjoint=speaker_disjoint)
        if not 1 <= takes <= 10:
            raise InputError(f"Cannot use takes = {takes}: expected 1 to 10, as many as were published.")
        self._root, self._held_out, self._takes = root, speakers == "held-out", takes

    def words(self, role: str) -> list[str]:
        """The words of a role."""
        check_role(self, role)
        return sorted(_WORDS[role])

    def voices(self, role: str) -> frozenset[str] | None:
        """The speakers of a role."""
        if not self._held_out:
            return None
        everyone = frozenset(recording.speaker for recording in self.recordings)
        return everyone - _TRAINING_SPEAKERS if role == "test" else everyone & _TRAINING_SPEAKERS

    @cached_property
    def _files(self) -> Files:
        folder = data_root(self._root) / "arabic-speech-commands"
        return published(self.name, folder, ("dataset_round01.zip", "dataset.zip"), "dataset", "Arabic Speech Commands")

    def _fingerprint(self) -> str:
        return f"{self._files.fingerprint} {self._takes}"

    def _find(self) -> list[Recording]:
        found = []
        for name in self._files.names:
            if (match := _FILE.fullmatch(name)) and int(match[3]) <= self._takes:
                found.append(Recording(match[1], match[2], name, partial(self._files.reader, name)))
        words = {recording.word for recording in found}
        if missing := sorted({*_TRAIN, *_VALIDATION, *_TEST} - words):
            raise DataError(
                f"Cannot use Arabic Speech Commands: {len(missing)} of its 40 words have no recording, such as "
                f"{missing[0]!r}. Copy the data again."
            )
        known = {*_TRAIN, *_VALIDATION, *_TEST}
        return [recording for recording in found if recording.word in known]
