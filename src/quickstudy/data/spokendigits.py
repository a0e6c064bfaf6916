"""Floor 1: Free Spoken Digits, English digits spoken by six people, 50 times each: to test on.

Z. Jackson et al., "Free Spoken Digit Dataset", 2018, doi:10.5281/zenodo.1342401.
"""

from __future__ import annotations

import re
from functools import cached_property, partial
from pathlib import Path

from quickstudy.data.dataset import check_role
from quickstudy.data.speechfiles import Files, published
from quickstudy.data.spoken import AbstractSpoken, Recording
from quickstudy.errors import DataError
from quickstudy.files import data_root

__all__ = ["SpokenDigits"]

_FILE = re.compile(r"recordings/(\d)_([a-z]+)_\d+\.wav")


class SpokenDigits(AbstractSpoken):
    """English digits, all ten of them for the test: what was learned in another language is tried on them.

    Args:
        root: the folder that holds ``free-spoken-digit/``, with ``recordings.zip`` or the unpacked ``recordings/``.
        rate: samples a second; the files have 8,000.
        seconds: length of all recordings.
        augment: here without effect, for there is no training.
        speaker_disjoint: no one is heard both in the support and in the query of a task.

    Raises:
        InputError: a rate or length that makes no sense.
    """

    name = "spoken-digits"
    splits = ("test",)

    def __init__(
        self,
        root: Path | None = None,
        *,
        rate: int = 8000,
        seconds: float = 1.0,
        augment: bool = True,
        speaker_disjoint: bool = True,
    ) -> None:
        super().__init__(rate=rate, seconds=seconds, augment=augment, speaker_disjoint=speaker_disjoint)
        self._root = root

    def words(self, role: str) -> list[str]:
        """The ten digits."""
        check_role(self, role)
        return list("0123456789")

    @cached_property
    def _files(self) -> Files:
        folder = data_root(self._root) / "free-spoken-digit"
        return published(self.name, folder, ("recordings.zip",), "recordings", "Free Spoken Digits")

    def _fingerprint(self) -> str:
        return self._files.fingerprint

    def _find(self) -> list[Recording]:
        found = []
        for name in self._files.names:
            if match := _FILE.fullmatch(name):
                found.append(Recording(match[1], match[2], name, partial(self._files.reader, name)))
        if missing := sorted(set("0123456789") - {recording.word for recording in found}):
            raise DataError(
                f"Cannot use Free Spoken Digits: there is no recording of the digit {missing[0]}. Copy the data again."
            )
        return found
