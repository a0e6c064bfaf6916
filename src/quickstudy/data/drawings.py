"""Floor 1: Omniglot's published zip files -> checked, decoded drawings.

A drawing is a file ``<part>/<Alphabet>/characterNN/NNNN_MM.png`` of 105 x 105 one-bit pixels, black ink on white,
MM being the number of the person who drew it.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quickstudy.data.alphabets import ALPHABETS, DRAWINGS, PARTS, Alphabet
from quickstudy.data.store import Pictures
from quickstudy.errors import DataError

__all__ = ["AGAIN", "SIDE", "Zip", "decode", "has_published_drawings", "read_ink", "read_zip", "reading", "shrink"]

SIDE = 105
AGAIN = "Delete it and run `quickstudy fetch omniglot`."
# What zipfile, zlib and Pillow raise on damaged bytes.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,
    OSError,
    ValueError,
    SyntaxError,
    Image.DecompressionBombError,
)

Index: TypeAlias = dict[str, dict[str, list[str]]]
"""Alphabet -> character -> the names of its drawings in the zip, by number."""


@dataclass(frozen=True, eq=False)
class Zip:
    """One of the published zip files, read into memory.

    Args:
        path: where it lay.
        part: ``"images_background"``, ``"images_evaluation"`` or ``"all_runs"``.
        data: its bytes.
    """

    path: Path
    part: str
    data: bytes

    @property
    def digest(self) -> str:
        """Hex sha256 of its bytes."""
        return hashlib.sha256(self.data).hexdigest()


def read_zip(folder: Path, part: str) -> Zip:
    """Read one zip file, not yet looking inside.

    Raises:
        DataError: it is not there.
    """
    path = folder / f"{part}.zip"
    try:
        return Zip(path, part, path.read_bytes())
    except FileNotFoundError as error:
        unfinished = (
            " (its download was begun but not finished)" if path.with_name(f"{path.name}.part").exists() else ""
        )
        raise DataError(
            f"Cannot find Omniglot: there is no file {path}{unfinished}. Run `quickstudy fetch omniglot`, or say with "
            "--data-root or QUICKSTUDY_DATA which folder holds omniglot/."
        ) from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error


def decode(source: Zip, size: int) -> dict[str, Pictures]:
    """All drawings of one zip file, checked to be the published ones.

    Args:
        source: the zip.
        size: pixels along a side of the result.

    Returns:
        ``"<Alphabet>/characterNN"`` -> uint8 ``[20, size, size]``, ink 255 on 0.

    Raises:
        DataError: the file is damaged, or drawings are missing, surplus or other than the published.
    """
    classes: dict[str, Pictures] = {}
    for name, drawings in _drawings(source).items():
        for number, pixels in enumerate(drawings, 1):
            classes[f"{name}/character{number:02}"] = np.stack([shrink(drawing, size) for drawing in pixels])
    return classes


def has_published_drawings(path: Path) -> bool:
    """Whether ``path`` is a zip file with exactly the published drawings, however it was packed."""
    try:
        _drawings(read_zip(path.parent, path.stem))
    except DataError:
        return False
    return True


def _drawings(source: Zip) -> dict[str, NDArray[np.bool_]]:
    """Alphabet -> whether there is ink, bool ``[characters, 20, 105, 105]``; checked."""
    expected = {name: alphabet for name, alphabet in ALPHABETS.items() if alphabet.part == source.part}
    # The published file is right by definition; of any other, the drawings are compared one and all.
    published = hashlib.md5(source.data, usedforsecurity=False).hexdigest() == PARTS[source.part].md5
    found = {}
    with reading(source) as archive:
        index = _index(archive.namelist(), source.part)
        _check_index(source.path, index, expected)
        for name in sorted(index):
            found[name] = _read_alphabet(archive, index[name])
            if not published and _digest(found[name]) != expected[name].digest:
                raise DataError(
                    f"Cannot use {source.path}: its drawings of the alphabet {name} are not the published ones. {AGAIN}"
                )
    return found


@contextmanager
def reading(source: Zip) -> Iterator[zipfile.ZipFile]:
    """The zip, opened.

    Raises:
        DataError: in place of whatever damaged bytes raise inside.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(source.data)) as archive:
            yield archive
    except DataError:
        raise
    except _DAMAGE as error:
        why = str(error) or type(error).__name__
        raise DataError(f"Cannot read {source.path}: it is half downloaded or damaged ({why}). {AGAIN}") from error


def _index(names: list[str], part: str) -> Index:
    """The drawings among the names in a zip; whatever else it holds (folders, system files) is passed over."""
    pattern = re.compile(rf"{part}/([^/]+)/(character\d\d)/\d{{4}}_(\d\d)\.png")
    found: dict[str, dict[str, dict[str, str]]] = {}
    for name in names:
        if match := pattern.fullmatch(name):
            alphabet, character, number = match.groups()
            found.setdefault(alphabet, {}).setdefault(character, {})[number] = name
    return {
        alphabet: {
            character: [members[n] for n in sorted(members)] for character, members in sorted(characters.items())
        }
        for alphabet, characters in found.items()
    }


def _check_index(path: Path, index: Index, expected: Mapping[str, Alphabet]) -> None:
    """Refuse a zip that lacks, or adds to, the published alphabets, characters and drawings."""
    if surplus := sorted(set(index) - set(expected)):
        raise DataError(f"Cannot use {path}: it holds {surplus[0]!r}, which is no alphabet of this part of Omniglot.")
    if missing := sorted(set(expected) - set(index)):
        raise DataError(
            f"Cannot use {path}: it lacks {len(missing)} of its {len(expected)} alphabets, such as {missing[0]}. "
            f"{AGAIN}"
        )
    for name, alphabet in expected.items():
        wanted = [f"character{number:02}" for number in range(1, alphabet.characters + 1)]
        if list(index[name]) != wanted:
            odd = sorted(set(wanted) ^ set(index[name]))[0]
            raise DataError(
                f"Cannot use {path}: it holds {len(index[name])} characters of the alphabet {name}, not "
                f"{alphabet.characters} (see {odd}). {AGAIN}"
            )
        for character, members in index[name].items():
            if len(members) != DRAWINGS:
                found = f"{len(members)} drawings of {name}/{character}"
                raise DataError(f"Cannot use {path}: it holds {found}, not {DRAWINGS}. {AGAIN}")


def _read_alphabet(archive: zipfile.ZipFile, characters: Mapping[str, list[str]]) -> NDArray[np.bool_]:
    """Bool ``[characters, 20, 105, 105]``, True where there is ink."""
    pixels = np.empty((len(characters), DRAWINGS, SIDE, SIDE), dtype=np.bool_)
    for number, members in enumerate(characters.values()):
        for drawing, member in enumerate(members):
            pixels[number, drawing] = read_ink(archive, member)
    return pixels


def read_ink(archive: zipfile.ZipFile, member: str) -> NDArray[np.bool_]:
    """Bool ``[105, 105]``, True where there is ink; inside :func:`reading`."""
    with Image.open(io.BytesIO(archive.read(member))) as image:
        if image.size != (SIDE, SIDE):
            raise ValueError(f"{member} has {image.size[0]} x {image.size[1]} pixels instead of {SIDE} x {SIDE}")
        ink: NDArray[np.bool_] = np.asarray(image.convert("L")) <= 127
    return ink


def _digest(pixels: NDArray[np.bool_]) -> str:
    digest = hashlib.sha256()
    for drawing in pixels.reshape(-1, SIDE, SIDE):
        digest.update(np.packbits(~drawing).tobytes())
    return digest.hexdigest()[:32]


def shrink(ink: NDArray[np.bool_], size: int) -> Pictures:
    """Uint8 ``[size, size]``, ink 255 on 0.

    Grey first: on one-bit pictures Pillow overrules the filter that is asked for with the nearest pixel, which
    breaks thin strokes.
    """
    paper = Image.fromarray(np.where(ink, 0, 255).astype(np.uint8))
    return 255 - np.asarray(paper.resize((size, size), Image.Resampling.LANCZOS))
