"""Floor 1: MedNIST, small grey pictures of six kinds; kinds are left out in training, and told apart in the test.

B. J. Erickson, Mayo Clinic; gathered from TCIA, the RSNA Bone Age Challenge and the NIH chest X-rays. CC BY-SA 4.0. The
kinds are easily told apart: a demonstration, and no claim.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.counts import Count
from quickstudy.data.dataset import check_role
from quickstudy.data.source import place
from quickstudy.data.speechfiles import archived
from quickstudy.data.store import ArrayStore, Pictures, open_or_build
from quickstudy.errors import DataError, InputError, UnknownName
from quickstudy.files import cache_root, data_root

__all__ = ["MedNIST"]

CLASSES = ("AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT")
_CODE = 2  # to be raised whenever the same files would give other pictures


class MedNIST:
    """Abdomen, chest and head CT, breast MRI, chest X-ray and hand X-ray: grey pictures, uint8.

    Copies of a file are left out: one could be learned from and another asked for in one task (ten of 3,000 here).

    Three kinds test, the others train. There are no kinds to spare for a validation: settings are those of Omniglot.

    Args:
        root: the folder that holds ``mednist-subset/``, with one zip file of ``<kind>/<name>.jpeg``, the published
            ``MedNIST.tar.gz``, or such folders.
        held_out: the kinds that test, two to four.
        size: pixels along a side; pictures are shrunk from 64 with Pillow's Lanczos filter.

    Raises:
        UnknownName: no such kind.
        InputError: too few kinds on a side, or a size that makes no sense.
    """

    name = "mednist"
    splits = ("train", "test")

    def __init__(
        self, root: Path | None = None, *, held_out: Sequence[str] = ("BreastMRI", "CXR", "HeadCT"), size: int = 28
    ) -> None:
        for kind in held_out:
            if kind not in CLASSES:
                raise UnknownName.among("kind of MedNIST", kind, CLASSES)
        if not 2 <= len(set(held_out)) <= 4:
            raise InputError(
                f"Cannot divide MedNIST with held-out = {list(held_out)}: expected two to four of its six kinds, so "
                "that two or more train."
            )
        if not 1 <= size <= 64:
            raise InputError(f"Cannot make MedNIST with size = {size!r}: expected a whole number from 1 to 64 pixels.")
        self.held_out, self.size, self._root = tuple(sorted(set(held_out))), size, root

    @property
    def shape(self) -> tuple[int, int, int]:
        """(1, size, size)."""
        return (1, self.size, self.size)

    @property
    def folder(self) -> Path:
        """Where the files are looked for."""
        return data_root(self._root) / "mednist-subset"

    @cached_property
    def store(self) -> ArrayStore:
        """All pictures, memory-mapped.

        Raises:
            DataError: files are missing, damaged, or of other kinds.
            StorageError: the cache cannot be written.
        """
        archives = [*sorted(self.folder.glob("*.zip")), *sorted(self.folder.glob("*.tar.gz"))]
        files = list(_packed(archives[0]) if archives else _lying(self.folder))
        digest = hashlib.sha256(str(_CODE).encode())
        for kind, where, data in files:
            digest.update(f"{kind}/{where}".encode() + hashlib.sha256(data).digest())
        once: dict[str, dict[bytes, str]] = {kind: {} for kind in CLASSES}  # by content, the first of each
        for kind, where, data in files:
            if kind in once:
                once[kind].setdefault(data, where)
        found = {kind: [(where, data) for data, where in mine.items()] for kind, mine in once.items()}
        missing = [kind for kind, mine in found.items() if not mine]
        if missing:
            raise DataError(
                f"Cannot find MedNIST in {self.folder}: there is no picture <kind>/<name>.jpeg of {', '.join(missing)} "
                "in a zip file or in folders. Say where it is: --data-root DIR."
            )

        def build() -> ArrayStore:
            return ArrayStore.from_classes(
                {kind: np.stack([_read(*one, self.size) for one in mine]) for kind, mine in found.items()}
            )

        return open_or_build(cache_root() / f"mednist-{self.size}px-{digest.hexdigest()[:16]}", build)

    @property
    def divided(self) -> dict[str, list[str]]:
        """Role -> its kinds; kept with each run, which is then tested on no kind that it was trained on."""
        return {"train": [kind for kind in CLASSES if kind not in self.held_out], "test": list(self.held_out)}

    def classes(self, role: str) -> list[int]:
        """Class numbers of the store that ``role`` draws from."""
        check_role(self, role)
        return self.store.numbers([kind for kind in CLASSES if (kind in self.held_out) == (role == "test")])

    def tasks(self, role: str, *, shot: Count, query: Count, seed: int, way: Count | None = None) -> ClassTasks:
        """Tasks of one role; see :meth:`quickstudy.data.dataset.DataSet.tasks`."""
        return ClassTasks(
            self.store,
            self.classes(role),
            data=self.name,
            split=role,
            way=way,
            shot=shot,
            query=query,
            seed=seed,
            place=place(self.name),
        )


def _packed(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Kind, place and bytes of each picture of a zip or tar file."""
    files = archived(path)
    for name in files.names:
        if name.lower().endswith((".jpeg", ".jpg", ".png")):
            yield Path(name).parent.name, f"{path}: {name}", files.reader(name)


def _lying(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    for kind in CLASSES:
        for path in sorted((folder / kind).glob("*")):
            if path.suffix.lower() in (".jpeg", ".jpg", ".png"):
                yield kind, str(path), path.read_bytes()


def _read(where: str, data: bytes, size: int) -> Pictures:
    try:
        with Image.open(io.BytesIO(data)) as image:
            grey = image.convert("L").resize((size, size), Image.Resampling.LANCZOS)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"Cannot read the picture {where}: {error}. Bring it again, or leave it out.") from error
    return np.asarray(grey, dtype=np.uint8)
