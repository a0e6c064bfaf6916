"""Floor 1: pictures of one's own: a folder with a subfolder for each class."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

from quickstudy.data.classfolders import Wording, class_files, divide, subfolders, with_others
from quickstudy.data.picturefiles import SUFFIXES
from quickstudy.data.picturesets import AbstractPictures, PictureFile
from quickstudy.data.speechfiles import fingerprint
from quickstudy.errors import DataError, InputError

__all__ = ["Images"]

_WORDING = Wording("pictures", "picture", "picture", "class", "classes", SUFFIXES, "Add one")
_PARTS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
"""Names of folders that hold a part each, in small letters, and the role of what lies in them."""


class Images(AbstractPictures):
    """A folder of pictures: ``<folder>/<class>/<any name>.jpg``, PNG, JPEG, GIF, BMP, WebP or TIFF, of any size.

    Args:
        folder: one subfolder a class; files further below belong to the class, too. Or ``train/``, ``val/`` and
            ``test/`` with the classes in them. A picture that lies there twice is used once.
        split: ``"auto"``: as the folders ``train/``, ``val/`` and ``test/`` say, where there are such, else 60 %
            of the classes train, 15 % validate, 25 % test, at least two of each, chosen by a hash of their names, so
            that the same classes always play the same part; ``"names"``: by the names, whatever they are; ``"test"``:
            all classes test, for a learner that was trained on other data.
        size: pixels along a side; of each picture the largest square in its middle is brought to that.
        channels: 3, or 1 for grey pictures.
        augment: change pictures at random in training.
        flip: mirroring is among the changes; false for letters, signs, and whatever has a left and a right.

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
    ) -> None:
        super().__init__(size=size, channels=channels, augment=augment, flip=flip)
        self._folder, self._split = folder, split
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
    def divided(self) -> dict[str, list[str]]:
        """Role -> its classes."""
        return self._roles

    @cached_property
    def _roles(self) -> dict[str, list[str]]:
        if self._parts and self._split != "test":
            return self._as_laid_out()
        names = sorted({group for files in self._files.values() for group in files.values()})
        if self._split == "test":
            return {"test": names}
        parts = divide(names)
        if parts is None:
            raise DataError(
                f"Cannot divide the classes of {self.folder} into training, validation and test: it has {len(names)} "
                f"({', '.join(names)}), and each part needs two. Add classes, or test a learner that was trained on "
                "other data on all of them, with split = 'test'."
            )
        return parts

    def _as_laid_out(self) -> dict[str, list[str]]:
        """The folders' own parts; where there is none to validate on, a fifth of the training classes."""
        parts = {role: sorted(set(files.values())) for role, files in self._files.items()}
        if "validation" not in parts:
            chosen = divide(parts["train"])
            if chosen is None:
                raise DataError(
                    f"Cannot set classes of {self.folder / 'train'} apart for validation: it has "
                    f"{len(parts['train'])} ({', '.join(parts['train'])}), and six are needed. Add classes, or a "
                    "folder val/."
                )
            parts["validation"] = chosen["validation"]
            parts["train"] = sorted(set(parts["train"]) - set(chosen["validation"]))
        return parts | {"train+validation": sorted(parts["train"] + parts["validation"])}

    @cached_property
    def _parts(self) -> dict[str, Path]:
        """Role -> the folder that holds its classes; none where classes lie side by side."""
        if self._split == "names" or not self.folder.is_dir():
            return {}
        folders = subfolders(self.folder)
        roles = [_PARTS.get(path.name.lower()) for path in folders]
        parts = {role: path for role, path in zip(roles, folders, strict=True) if role is not None}
        if len(parts) < 2 or not any(map(subfolders, parts.values())):
            return {}  # pictures of trains
        wanted = {"train", "test"} if self._split == "auto" else set()
        missing = sorted(wanted - set(parts))
        if missing or len(parts) < len(folders):
            others = [path.name for path in folders if path not in parts.values()]
            said = f"{missing[0]}/ is missing" if missing else f"{others[0]}/ is none"
            names = ", ".join(path.name for path in parts.values())
            raise DataError(
                f"Cannot tell what the folders of {self.folder} are: {names} hold folders, as parts of the data do, "
                f"but {said}. Lay out train/, test/ and perhaps val/ with classes in them, and nothing beside them; "
                "or all classes side by side; or, if these are names of classes, say split = 'names'."
            )
        return parts

    @cached_property
    def _files(self) -> dict[str, dict[Path, str]]:
        """Role (empty where classes lie side by side) -> each file and its class."""
        if not self._parts:
            return {"": class_files(self.folder, _WORDING)}
        found = {role: class_files(path, _WORDING) for role, path in self._parts.items()}
        seen: dict[str, str] = {}
        twice: list[tuple[str, str, str]] = []
        for role, files in found.items():
            for group in sorted(set(files.values())):
                if group in seen:
                    twice.append((group, seen[group], role))
                seen[group] = role
        if twice and self._split != "test":
            group, first, second = twice[0]
            sentence = (
                f"Cannot use the class {group!r} of {self.folder}: it lies both among {first} and {second}, and a "
                "learner is tested on classes that it has never seen. Put each class into one of them, or all classes "
                "side by side into one folder, to be divided by their names."
            )
            raise DataError(with_others(sentence, [repr(name) for name, _, _ in twice[1:]]))
        return found

    @property
    def _paths(self) -> dict[Path, str]:
        return {path: group for files in self._files.values() for path, group in files.items()}

    def _fingerprint(self) -> str:
        return fingerprint(list(self._paths), self.folder) + "each once"

    def _find(self) -> list[PictureFile]:
        return [PictureFile(group, str(path), path.read_bytes) for path, group in self._paths.items()]
