"""Floor 1: the one-shot challenge: 20 runs of 20-way 1-shot classification within an alphabet, as people did them.

B. Lake, R. Salakhutdinov, J. Tenenbaum, "Human-level concept learning through probabilistic program induction",
Science 350 (2015). The runs were published as pictures alone (``all_runs.zip``). Each drawing is one of the evaluation
set, bit for bit, which is how the characters of :data:`RUNS` were found: two runs for each of ten alphabets, of the
same 20 characters, and in each run one person drew what is learned from and another one what is asked.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from quickstudy.data.counts import Count
from quickstudy.data.dataset import check_role
from quickstudy.data.drawings import AGAIN, SIDE, Zip, read_ink, read_zip, reading, shrink
from quickstudy.data.omniglot import Omniglot, OmniglotRotations
from quickstudy.data.source import Origin, TaskShape, TaskSource, as_indices
from quickstudy.data.store import Pictures
from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import DataError, InputError
from quickstudy.keys import Integers

__all__ = ["RUNS", "LakeRuns", "OmniglotRuns", "Run", "has_published_runs"]

WAY = 20
_PART = "all_runs"
# Of the drawings and answers, however they are packed.
_DIGEST = "744a5a252418b36258d956ce6eabed9661cfb71bb308fe3b3b9e24e49d38f5c7"
_MEMBER = re.compile(r"(?:.*/)?(run\d+)/(class_labels\.txt|(?:training|test)/[^/]+\.png)")
_LINE = re.compile(r"(run\d+)/test/item(\d\d)\.png\s+(run\d+)/training/class(\d\d)\.png")
_SIZES = {"way": WAY, "shot": 1, "query": 1}


@dataclass(frozen=True)
class Run:
    """What one of the runs is made of.

    Args:
        alphabet: of the evaluation set.
        learned_from: number of the person who drew the support, from 1 on.
        asked: who drew the queries.
    """

    alphabet: str
    learned_from: int
    asked: int

    @property
    def names(self) -> tuple[str, ...]:
        """The 20 characters, as they are numbered in the run: ``"<Alphabet>/characterNN"``."""
        return tuple(f"{self.alphabet}/character{number:02}" for number in _CHARACTERS[self.alphabet])


_CHARACTERS = {
    "Atlantean": (1, 2, 3, 4, 5, 7, 8, 9, 10, 13, 14, 16, 19, 20, 21, 22, 23, 24, 25, 26),
    "Ge_ez": (1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 14, 15, 16, 17, 18, 20, 21, 23, 24, 25),
    "Glagolitic": (1, 2, 3, 5, 6, 7, 14, 17, 18, 19, 20, 21, 26, 28, 31, 34, 36, 37, 40, 43),
    "Gurmukhi": (3, 6, 7, 8, 9, 13, 14, 15, 16, 17, 31, 22, 25, 26, 29, 32, 33, 38, 43, 44),
    "Kannada": (1, 3, 5, 8, 11, 12, 13, 14, 19, 20, 21, 23, 25, 26, 27, 28, 33, 35, 40, 41),
    "Malayalam": (2, 4, 5, 9, 13, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 29, 30, 37, 43, 46),
    "Manipuri": (3, 4, 6, 8, 9, 11, 12, 13, 15, 17, 19, 21, 22, 25, 29, 33, 35, 36, 37, 39),
    "Old_Church_Slavonic_(Cyrillic)": (2, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 23, 24, 25, 30, 33, 41, 44, 45),
    "Tengwar": (1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 13, 16, 18, 19, 20, 21, 22, 23, 24, 25),
    "Tibetan": (1, 2, 3, 5, 6, 7, 8, 9, 11, 13, 14, 15, 21, 22, 24, 33, 35, 36, 38, 41),
}

RUNS = (
    Run("Atlantean", 5, 8),
    Run("Atlantean", 3, 2),
    Run("Ge_ez", 3, 7),
    Run("Ge_ez", 4, 2),
    Run("Glagolitic", 6, 4),
    Run("Glagolitic", 3, 2),
    Run("Gurmukhi", 5, 2),
    Run("Gurmukhi", 8, 3),
    Run("Kannada", 2, 1),
    Run("Kannada", 8, 3),
    Run("Malayalam", 3, 7),
    Run("Malayalam", 4, 2),
    Run("Manipuri", 8, 4),
    Run("Manipuri", 7, 3),
    Run("Old_Church_Slavonic_(Cyrillic)", 4, 8),
    Run("Old_Church_Slavonic_(Cyrillic)", 1, 2),
    Run("Tengwar", 1, 4),
    Run("Tengwar", 8, 7),
    Run("Tibetan", 1, 3),
    Run("Tibetan", 8, 5),
)
"""The runs, in their order."""


@dataclass(frozen=True, eq=False)
class _Drawn:
    """The drawings of the runs.

    Args:
        support: bool ``[20, 20, 105, 105]``, run and class; True where there is ink.
        query: likewise, run and item.
        truth: int64 ``[20, 20]``, the class of each item.
    """

    support: NDArray[np.bool_]
    query: NDArray[np.bool_]
    truth: Integers

    @cached_property
    def digest(self) -> str:
        """Hex sha256 of it all."""
        parts = (np.packbits(self.support), np.packbits(self.query), self.truth.astype("<i8"))
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


class OmniglotRuns:
    """Omniglot's background alphabets to train on, and Lake's 20 runs as the test.

    Training and validation are those of :class:`Omniglot` with the split ``"alphabets"``. The test has 20 tasks, no
    more: 20 characters of one alphabet, a drawing of each to learn from, and one of each to be told apart. Its sizes
    are what they are.

    Args:
        root: the folder that holds ``omniglot/``; by default QUICKSTUDY_DATA or the platform's data folder.
        rotations: of training and validation, see :class:`Omniglot`; by default turned characters are new classes.
        size: pixels along a side; drawings are shrunk as :class:`Omniglot` does. 105 leaves them as they were drawn.
        channels: 1, the default; 3, all alike.

    Raises:
        UnknownName: no such mode of rotation.
        InputError: a size that makes no sense.
    """

    name = "omniglot-runs"
    named_in = "omniglot"
    """Its classes have the names that they have there."""

    def __init__(
        self,
        root: Path | None = None,
        *,
        rotations: OmniglotRotations | None = None,
        size: int = 28,
        channels: Literal[1, 3] | None = None,
    ) -> None:
        self._background = Omniglot(root, split="alphabets", rotations=rotations, size=size, channels=channels)
        self.splits, self.shape = self._background.splits, self._background.shape

    @property
    def note(self) -> str:
        """What a reader of a figure must know."""
        return f"Trained on background alphabets alone, tested on the 20 runs of all_runs.zip. {self._background.note}"

    @property
    def divided(self) -> dict[str, list[str]]:
        """Role -> names of its characters."""
        return self._background.divided | {"test": sorted({name for run in RUNS for name in run.names})}

    def fixed(self, role: str) -> Mapping[str, int]:
        """Sizes that tasks of a role have, whatever is asked for."""
        return _SIZES if role == "test" else {}

    def tasks(
        self,
        role: str,
        *,
        shot: Count,
        query: Count,
        seed: int,
        way: Count | None = None,
        dirichlet: float | None = None,
    ) -> TaskSource:
        """Tasks of one role; see :meth:`quickstudy.data.dataset.DataSet.tasks`. The seed leaves the runs as they are.

        Raises:
            InputError: the test in other sizes than 20-way 1-shot with a query of each class.
        """
        check_role(self, role)
        if role != "test":
            sizes: dict[str, Any] = {"way": way, "shot": shot, "query": query, "seed": seed, "dirichlet": dirichlet}
            return self._background.tasks(role, **sizes)
        asked = {"way": way, "shot": shot, "query": query}
        if asked != _SIZES or dirichlet:
            said = ", ".join(f"{name} {value}" for name, value in asked.items())
            uneven = f" and dirichlet {dirichlet:g}" if dirichlet else ""
            raise InputError(
                f"Cannot make the 20 runs with {said}{uneven}: they were published as 20-way 1-shot tasks with one "
                "query of each class. Leave these out, or test on the data set omniglot with split alphabets."
            )
        return LakeRuns(self._background.folder, self.shape)


class LakeRuns(TaskSource):
    """The 20 runs, in the order in which they were published.

    Support rows are the classes in their order; query rows the test items in theirs.

    Args:
        folder: that holds ``all_runs.zip``.
        shape: (channels, size, size) of a picture.

    Raises:
        DataError: the file is missing, damaged or not the published one.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        drawn = _read(read_zip(folder, _PART))
        self._names = tuple(sorted({name for run in RUNS for name in run.names}))
        place = {name: number for number, name in enumerate(self._names)}
        self._classes = np.array([[place[name] for name in run.names] for run in RUNS])
        self._support, self._query = (_pictures(ink, shape) for ink in (drawn.support, drawn.query))
        self._truth, self._digest, self._example = drawn.truth, drawn.digest, shape

    @property
    @override
    def shape(self) -> TaskShape:
        return TaskShape(self._example, "classes", outputs=WAY, classes=len(self._names))

    @property
    @override
    def hash(self) -> str:
        """Hex sha256 over the published drawings and answers, whatever size they are shown in."""
        return self._digest

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {"data": OmniglotRuns.name, "split": "test", **_SIZES, "seed": 0}

    @property
    @override
    def count(self) -> int:
        return len(RUNS)

    @cached_property
    @override
    def origin(self) -> Origin:
        return Origin((OmniglotRuns.named_in, None), self._names)

    @override
    def episodes(self, indices: range | Integers) -> Episode:
        """The runs with these numbers, from 0 to 19; pictures are uint8 ``[T, 20, size, size]``, ink 255 on 0."""
        tasks = as_indices(indices)
        if len(tasks) and tasks.max() >= len(RUNS):
            raise InputError(f"There is no run {int(tasks.max())}: Lake's runs are numbered from 0 to {len(RUNS) - 1}.")
        way = torch.full((len(tasks),), WAY)
        labels = torch.arange(WAY).expand(len(tasks), WAY).contiguous()
        return Episode(
            support=Examples(torch.from_numpy(self._support[tasks]), labels, Classes(way)),
            query=Examples(torch.from_numpy(self._query[tasks]), torch.from_numpy(self._truth[tasks]), Classes(way)),
            index=torch.from_numpy(tasks.copy()),
            classes=torch.from_numpy(self._classes[tasks]),
        )

    def names_of(self, episode: Episode) -> list[str]:
        """What the classes of the first task of an episode are called, label by label."""
        assert episode.classes is not None
        return [self._names[number] for number in episode.classes[0].tolist()]


def _pictures(ink: NDArray[np.bool_], shape: tuple[int, int, int]) -> Pictures:
    """Uint8 ``[20, 20, size, size]``, with a channel axis where there are three."""
    channels, size, _ = shape
    made = np.stack([shrink(drawing, size) for drawing in ink.reshape(-1, SIDE, SIDE)])
    made = made.reshape(*ink.shape[:2], size, size)
    return made if channels == 1 else np.repeat(made[:, :, None], channels, axis=2)


# --- the published file -------------------------------------------------------------------------


def has_published_runs(path: Path) -> bool:
    """Whether ``path`` is a zip file with exactly the published runs, however it was packed."""
    try:
        _read(read_zip(path.parent, path.stem))
    except DataError:
        return False
    return True


def _read(source: Zip) -> _Drawn:
    """The runs of the zip, checked to be the published ones."""
    with reading(source) as archive:
        members = _members(source, archive.namelist())
        truth = [_truth(source, run, archive.read(members[f"{run}/class_labels.txt"])) for run in _runs()]
        support, query = (_ink(archive, members, what) for what in ("training/class", "test/item"))
        drawn = _Drawn(support, query, np.stack(truth))
    if drawn.digest != _DIGEST:
        raise DataError(f"Cannot use {source.path}: its drawings or answers are not the published ones. {AGAIN}")
    return drawn


def _runs() -> list[str]:
    return [f"run{number:02}" for number in range(1, len(RUNS) + 1)]


def _members(source: Zip, names: list[str]) -> dict[str, str]:
    """``"run01/test/item01.png"`` -> its name in the zip; what is no part of a run is passed over."""
    found = {f"{match[1]}/{match[2]}": name for name in names if (match := _MEMBER.fullmatch(name))}
    each = [f"training/class{number:02}.png" for number in range(1, WAY + 1)]
    each += [f"test/item{number:02}.png" for number in range(1, WAY + 1)]
    wanted = {f"{run}/{name}" for run in _runs() for name in ("class_labels.txt", *each)}
    if missing := sorted(wanted - set(found)):
        raise DataError(
            f"Cannot use {source.path}: it lacks {len(missing)} of the {len(wanted)} files of the 20 runs, such as "
            f"{missing[0]}. {AGAIN}"
        )
    if surplus := sorted(set(found) - wanted):
        raise DataError(f"Cannot use {source.path}: it holds {surplus[0]}, which is no part of the 20 runs. {AGAIN}")
    return found


def _ink(archive: zipfile.ZipFile, members: Mapping[str, str], what: str) -> NDArray[np.bool_]:
    """Bool ``[20, 20, 105, 105]`` of all runs."""
    pixels = np.empty((len(RUNS), WAY, SIDE, SIDE), dtype=np.bool_)
    for place, run in enumerate(_runs()):
        for number in range(WAY):
            pixels[place, number] = read_ink(archive, members[f"{run}/{what}{number + 1:02}.png"])
    return pixels


def _truth(source: Zip, run: str, text: bytes) -> Integers:
    """The class of each test item, ``[20]``, from 0 on."""
    found: dict[int, int] = {}
    lines = text.decode("ascii", "replace").split("\n")
    for line in filter(None, map(str.strip, lines)):
        match = _LINE.fullmatch(line)
        if match is None or {match[1], match[3]} != {run}:
            raise DataError(
                f"Cannot use {source.path}: {run}/class_labels.txt holds the line {line[:80]!r}, not the names of a "
                f"test item and of its class. {AGAIN}"
            )
        found[int(match[2])] = int(match[4])
    if sorted(found) != list(range(1, WAY + 1)) or sorted(found.values()) != list(range(1, WAY + 1)):
        raise DataError(
            f"Cannot use {source.path}: {run}/class_labels.txt does not name each of the 20 items and classes once. "
            f"{AGAIN}"
        )
    return np.array([found[item] - 1 for item in range(1, WAY + 1)])
