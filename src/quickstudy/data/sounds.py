"""Floor 1: recordings of one's own: a folder with a subfolder for each word."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

from quickstudy.data.audio import SUFFIXES
from quickstudy.data.classfolders import Wording, class_files, divide
from quickstudy.data.dataset import check_role
from quickstudy.data.speechfiles import fingerprint
from quickstudy.data.spoken import AbstractSpoken, Recording
from quickstudy.errors import DataError, InputError

__all__ = ["Sounds"]

_WORDING = Wording("recordings", "recording", "sound file", "word", "words", SUFFIXES, "Record it again")


class Sounds(AbstractSpoken):
    """A folder of recordings: ``<folder>/<word>/<any name>.wav``, WAV, FLAC, OGG or MP3, of any rate.

    Args:
        folder: one subfolder a word; files further below belong to the word, too.
        split: ``"words"``: 60 % of the words train, 15 % validate, 25 % test, at least two of each, chosen by a hash
            of their names, so that the same words always play the same part; ``"test"``: all words test, for a learner
            that was trained on other data.
        speakers: how the speaker is known: ``"none"``, not at all; ``"name"``, by the file's name up to the first
            ``_``, such as ``anna_03.wav``; ``"folder"``, by the folder below the word's, ``<word>/anna/03.wav``.
        rate: samples a second.
        seconds: length of all recordings.
        augment: change recordings at random in training.
        speaker_disjoint: no one is heard both in the support and in the query of a task; by default where speakers
            are known.

    Raises:
        InputError: an option that makes no sense.
    """

    name = "sounds"
    each_once = True

    def __init__(
        self,
        folder: Path | None = None,
        *,
        split: Literal["words", "test"] = "words",
        speakers: Literal["none", "name", "folder"] = "none",
        rate: int = 8000,
        seconds: float = 1.0,
        augment: bool = True,
        speaker_disjoint: bool | None = None,
    ) -> None:
        divided = speakers != "none" if speaker_disjoint is None else speaker_disjoint
        super().__init__(rate=rate, seconds=seconds, augment=augment, speaker_disjoint=divided)
        if divided and speakers == "none":
            raise InputError(
                "Cannot keep the speakers of support and query apart (speaker-disjoint): it is not known who speaks. "
                "Say speakers = 'name' or speakers = 'folder'."
            )
        self._folder, self._split, self._speakers = folder, split, speakers
        self.splits = ("test",) if split == "test" else ("train", "validation", "test", "train+validation")

    @property
    def folder(self) -> Path:
        """Where the recordings lie.

        Raises:
            InputError: nobody said it.
        """
        if self._folder is None:
            raise InputError(
                "Cannot look for recordings: it is not said where. Give a folder with a subfolder for each word: "
                "--data.folder DIR, or folder = in [data]."
            )
        return Path(self._folder).expanduser()

    def words(self, role: str) -> list[str]:
        """The words of a role."""
        check_role(self, role)
        return self._roles[role]

    @property
    def divided(self) -> dict[str, list[str]]:
        """Role -> its words; kept with each run."""
        return self._roles

    @cached_property
    def _roles(self) -> dict[str, list[str]]:
        names = sorted({recording.word for recording in self.recordings})
        if self._split == "test":
            return {"test": names}
        parts = divide(names)
        if parts is None:
            raise DataError(
                f"Cannot divide the words of {self.folder} into training, validation and test: it has "
                f"{len(names)} ({', '.join(names)}), and each part needs two. Record more words, or test a "
                "learner that was trained on other data on all of them, with split = 'test'."
            )
        return parts

    @cached_property
    def _paths(self) -> dict[Path, str]:
        """Each sound file and its word."""
        return class_files(self.folder, _WORDING)

    def _fingerprint(self) -> str:
        return fingerprint(list(self._paths), self.folder) + self._speakers + "each once"

    def _find(self) -> list[Recording]:
        return [Recording(word, self._speaker(path), str(path), path.read_bytes) for path, word in self._paths.items()]

    def _speaker(self, path: Path) -> str:
        if self._speakers == "none":
            return ""
        if self._speakers == "name":
            speaker, found, _ = path.stem.partition("_")
            if not found or not speaker:
                raise DataError(
                    f"Cannot tell who speaks in {path}: with speakers = 'name' a file is called SPEAKER_anything, such "
                    "as anna_03.wav. Rename it, or leave speakers out."
                )
            return speaker
        parts = path.relative_to(self.folder).parts
        if len(parts) < 3:
            raise DataError(
                f"Cannot tell who speaks in {path}: with speakers = 'folder' files lie in WORD/SPEAKER/. Move it, or "
                "leave speakers out."
            )
        return parts[1]
