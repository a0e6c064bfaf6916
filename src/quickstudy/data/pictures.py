"""Floor 1: pictures of one's own: a folder with a subfolder for each class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from typing_extensions import override

from quickstudy.data.big.abstract import check_ahead
from quickstudy.data.big.folders import count_up_to
from quickstudy.data.big.manyfiles import indexed
from quickstudy.data.big.streamed import StreamedStore
from quickstudy.data.classfolders import ClassFolders, Wording
from quickstudy.data.picturefiles import SUFFIXES
from quickstudy.data.picturesets import AbstractPictures, PictureFile
from quickstudy.data.rowstore import RowStore
from quickstudy.data.source import Place, place
from quickstudy.errors import InputError
from quickstudy.keys import Integers

__all__ = ["Images"]

_MOST = 4 << 30  # bytes of a store; a larger one is neither built in memory nor read at each start
_WORDING = Wording("pictures", "picture", "picture", "class", "classes", SUFFIXES, "Add one", "Add classes")


class Images(AbstractPictures):
    """A folder of pictures: ``<folder>/<class>/<any name>.jpg``, PNG, JPEG, GIF, BMP, WebP or TIFF, of any size.

    Args:
        folder: one subfolder a class; files further below belong to the class, too. Or ``train/``, ``val/`` and
            ``test/`` with the classes in them. A picture that lies there twice is used once.
        split: ``"auto"``: as the folders ``train/``, ``val/`` and ``test/`` (or ``Training``, ``valid``, ``test_set``
            and the like) say, where there are such, else 60 % of the classes train, 15 % validate, 25 % test, at least
            two of each, chosen by a hash of their names, so that the same classes always play the same part;
            ``"names"``: by the names, whatever they are; ``"test"``: all classes test, for a learner that was trained
            on other data.
        size: pixels along a side; of each picture the largest square in its middle is brought to that.
        channels: 3, or 1 for grey pictures.
        augment: change pictures at random in training.
        flip: mirroring is among the changes; false for letters, signs, and whatever has a left and a right.
        keep: ``"store"``: all are read before training and kept at this size; ``"index"``: only which there are, and
            each is read and decoded when it is drawn: for millions, see docs/big-data.md; copies are not looked for
            then. ``"pixels"``: as ``"store"``, but never all in memory at once. ``"auto"``: the store, up to 4 GiB of
            it, else the index.
        ahead: with an index, how many steps are read ahead while the learner computes; 0: none.

    Raises:
        InputError: an option that makes no sense.
    """

    name = "images"
    each_once = True

    def __init__(
        self,
        folder: Path | None = None,
        *,
        split: Literal["auto", "names", "test"] = "auto",
        size: int = 84,
        channels: Literal[1, 3] = 3,
        augment: bool = True,
        flip: bool = True,
        keep: Literal["auto", "store", "index", "pixels"] = "auto",
        ahead: int = 2,
    ) -> None:
        super().__init__(size=size, channels=channels, augment=augment, flip=flip)
        check_ahead(ahead)
        self._folder, self._split, self._keep, self._ahead = folder, split, keep, ahead
        self.splits = ("test",) if split == "test" else ("train", "validation", "test", "train+validation")

    @property
    def folder(self) -> Path:
        """Where the pictures lie.

        Raises:
            InputError: nobody said it.
        """
        if self._folder is None:
            raise InputError(
                "Cannot look for pictures: it is not said where. Give a folder with a subfolder for each class: "
                "--data.folder DIR, or folder = in [data]."
            )
        return Path(self._folder).expanduser()

    @property
    @override
    def place(self) -> Place:
        """The folder."""
        return place(self.name, self.folder)

    @property
    def divided(self) -> dict[str, list[str]]:
        """Role -> its classes."""
        return self._folders.roles if self._indexed is None else self._indexed.index.divided()

    @cached_property
    def _indexed(self) -> StreamedStore | None:
        """The pictures by an index, which is made once; None where all are kept in the store."""
        keep = self._keep
        if keep == "auto":
            most = _MOST // (self.channels * self.size**2)
            keep = "index" if count_up_to(self._folders.parents, SUFFIXES, most) > most else "store"
        if keep == "store":
            return None
        return indexed(self._folders, keep, self.size, self.channels, self._ahead)

    @override
    def _of_role(self, role: str) -> tuple[RowStore, Sequence[int] | Integers]:
        if self._indexed is None:
            return super()._of_role(role)
        return self._indexed, self._indexed.index.numbers(role)

    @cached_property
    def _folders(self) -> ClassFolders:
        return ClassFolders(self.folder, _WORDING, self._split)

    def _fingerprint(self) -> str:
        return self._folders.fingerprint() + "each once"

    def _find(self) -> list[PictureFile]:
        return [PictureFile(group, str(path), path.read_bytes) for path, group in self._folders.files.items()]

    @override
    def _passed_over(self) -> list[Path]:
        return self._folders.passed_over
