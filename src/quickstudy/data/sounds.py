"""Floor 1: recordings of one's own: a folder with a subfolder for each word."""

from __future__ import annotations

import unicodedata
from functools import cached_property
from pathlib import Path
from typing import Literal

from typing_extensions import override

from quickstudy.data.audio import SUFFIXES
from quickstudy.data.classfolders import ClassFolders, Wording
from quickstudy.data.dataset import check_role
from quickstudy.data.source import Place, place
from quickstudy.data.spoken import AbstractSpoken, Recording
from quickstudy.errors import DataError, InputError

__all__ = ["Sounds"]

_WORDING = Wording(
    "recordings", "recording", "sound file", "word", "words", SUFFIXES, "Record it again", "Record more words"
)


class Sounds(AbstractSpoken):
    """A folder of recordings: ``<folder>/<word>/<any name>.wav``, WAV, FLAC, OGG or MP3, of any rate.

    Args:
        folder: one subfolder a word; files further below belong to the word, too. Or ``train/``, ``val/`` and ``test/``
            with the words in them.
        split: ``"words"``: as the folders ``train/``, ``val/`` and ``test/`` (or ``Training``, ``valid``, ``test_set``
            and the like) say, where there are such, else 60 % of the words train, 15 % validate, 25 % test, at least
            two of each, chosen by a hash of their names, so that the same words always play the same part;
            ``"names"``: by the names, whatever they are; ``"test"``: all words test, for a learner that was trained on
            other data.
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
        split: Literal["words", "names", "test"] = "words",
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

    @property
    @override
    def place(self) -> Place:
        """The folder."""
        return place(self.name, self.folder)

    def words(self, role: str) -> list[str]:
        """The words of a role."""
        check_role(self, role)
        return self._folders.roles[role]

    @cached_property
    def _folders(self) -> ClassFolders:
        return ClassFolders(self.folder, _WORDING, self._split)

    def _fingerprint(self) -> str:
        return self._folders.fingerprint() + self._speakers + "each once"

    def _find(self) -> list[Recording]:
        files = self._folders.files
        return [Recording(word, self._speaker(path), str(path), path.read_bytes) for path, word in files.items()]

    @override
    def _passed_over(self) -> list[Path]:
        return self._folders.passed_over

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
            return _called(speaker)
        parts = self._folders.inside(path)
        if len(parts) < 3:
            raise DataError(
                f"Cannot tell who speaks in {path}: with speakers = 'folder' files lie in WORD/SPEAKER/. Move it, or "
                "leave speakers out."
            )
        return _called(parts[1])


def _called(speaker: str) -> str:
    """Anna and anna are one person."""
    return unicodedata.normalize("NFC", speaker).casefold()
