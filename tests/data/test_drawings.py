"""Omniglot's zip files: damaged, incomplete and foreign ones are told from the real thing, each in one sentence.

On a small stand-in with two alphabets; the real files are read in test_omniglot.py.
"""

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from quickstudy.data import drawings
from quickstudy.data.alphabets import Alphabet, Part
from quickstudy.data.drawings import decode, has_published_drawings, read_zip
from quickstudy.errors import DataError

PART = "images_background"
CHARACTERS = {"Aleph": 2, "Beth_(new)": 1}
Files = dict[str, bytes]


def png(pixels: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> bytes:
    """Black on white where ``pixels`` is True, one bit a pixel."""
    file = io.BytesIO()
    Image.fromarray(np.where(pixels, 0, 255).astype(np.uint8)).convert("1").save(file, "PNG")
    return file.getvalue()


def ink(alphabet: int, character: int, drawing: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Blots on an otherwise white sheet."""
    blots = np.random.default_rng((alphabet, character, drawing)).random((15, 15)) < 0.2
    return blots.repeat(7, 0).repeat(7, 1)


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Files:
    """The files of a small Omniglot, which is made the published one."""
    made: Files = {}
    table = {}
    for a, (name, characters) in enumerate(CHARACTERS.items()):
        digest = hashlib.sha256()
        for c in range(1, characters + 1):
            for d in range(1, 21):
                made[f"{PART}/{name}/character{c:02}/{100 * a + c:04}_{d:02}.png"] = png(ink(a, c, d))
                digest.update(np.packbits(~ink(a, c, d)).tobytes())
        table[name] = Alphabet(PART, characters, digest.hexdigest()[:32])
    monkeypatch.setattr(drawings, "ALPHABETS", table | {"Gimel": Alphabet("images_evaluation", 3, "")})
    monkeypatch.setattr(drawings, "PARTS", {PART: Part(2, 3, "none")})
    return made


def pack(folder: Path, files: Files) -> Path:
    path = folder / f"{PART}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_decodes(tmp_path: Path, files: Files) -> None:
    path = pack(tmp_path, files)
    classes = decode(read_zip(tmp_path, PART), 105)
    assert list(classes) == ["Aleph/character01", "Aleph/character02", "Beth_(new)/character01"]
    for number, name in enumerate(classes):
        a, c = (0, number + 1) if number < 2 else (1, 1)
        expected = np.stack([ink(a, c, d) for d in range(1, 21)]) * np.uint8(255)
        assert np.array_equal(classes[name], expected), "ink is 255, in the order of the drawings' numbers"
    assert has_published_drawings(path)


def test_shrinks_smoothly(tmp_path: Path, files: Files) -> None:
    pack(tmp_path, files)
    small = decode(read_zip(tmp_path, PART), 15)["Aleph/character01"][0]
    assert small.shape == (15, 15) and small.dtype == np.uint8
    assert np.corrcoef(small.reshape(-1), ink(0, 1, 1)[3::7, 3::7].reshape(-1))[0, 1] > 0.95
    assert len(np.unique(small)) > 2, "shades of grey, not the nearest pixel"


def test_packed_otherwise_is_the_same(tmp_path: Path, files: Files) -> None:
    """Another order, other compression, folders and system files in between, pictures of 8 bits: all the same."""
    first = decode(read_zip(pack(tmp_path, files).parent, PART), 28)
    with zipfile.ZipFile(tmp_path / f"{PART}.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{PART}/", b"")
        archive.writestr(f"__MACOSX/{PART}/Aleph/character01/._0001_01.png", b"junk")
        archive.writestr(f"{PART}/Aleph/.DS_Store", b"junk")
        for name, data in reversed(files.items()):
            grey = io.BytesIO()
            Image.open(io.BytesIO(data)).convert("L").save(grey, "PNG")
            archive.writestr(name, grey.getvalue())
    again = decode(read_zip(tmp_path, PART), 28)
    assert all(np.array_equal(first[name], again[name]) for name in first) and list(first) == list(again)


def test_published_zip_is_right_by_definition(tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    files[f"{PART}/Aleph/character02/0002_07.png"] = png(~ink(0, 2, 7))
    path = pack(tmp_path, files)
    assert not has_published_drawings(path)
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(drawings, "PARTS", {PART: Part(2, 3, md5)})
    assert has_published_drawings(path)


def without(files: Files, what: str) -> Files:
    return {name: data for name, data in files.items() if what not in name}


WRONG: dict[str, tuple[Callable[[Files], Files], str]] = {
    "a drawing less": (
        lambda files: without(files, "0002_07"),
        r"it holds 19 drawings of Aleph/character02, not 20\. Delete it and run `quickstudy fetch omniglot`\.",
    ),
    "a drawing more": (
        lambda files: files | {f"{PART}/Aleph/character02/0002_21.png": png(ink(9, 9, 9))},
        r"it holds 21 drawings of Aleph/character02, not 20\.",
    ),
    "a character less": (
        lambda files: without(files, "Aleph/character01"),
        r"it holds 1 characters of the alphabet Aleph, not 2 \(see character01\)\.",
    ),
    "a character more": (
        lambda files: files | {f"{PART}/Aleph/character03/0003_01.png": b""},
        r"it holds 3 characters of the alphabet Aleph, not 2 \(see character03\)\.",
    ),
    "an alphabet less": (
        lambda files: without(files, "Beth"),
        r"it lacks 1 of its 2 alphabets, such as Beth_\(new\)\. Delete it",
    ),
    "another alphabet": (
        lambda files: files | {f"{PART}/Gimel/character01/0001_01.png": b""},
        r"it holds 'Gimel', which is no alphabet of this part of Omniglot\.",
    ),
    "nothing": (lambda files: {}, r"it lacks 2 of its 2 alphabets, such as Aleph\."),
    "another drawing": (
        lambda files: files | {f"{PART}/Aleph/character02/0002_07.png": png(ink(9, 9, 9))},
        r"its drawings of the alphabet Aleph are not the published ones\. Delete it",
    ),
    "two drawings swapped": (
        lambda files: (
            files
            | {
                f"{PART}/Aleph/character02/0002_07.png": files[f"{PART}/Aleph/character01/0001_07.png"],
                f"{PART}/Aleph/character01/0001_07.png": files[f"{PART}/Aleph/character02/0002_07.png"],
            }
        ),
        r"its drawings of the alphabet Aleph are not the published ones\.",
    ),
    "another size": (
        lambda files: files | {f"{PART}/Aleph/character02/0002_07.png": png(np.zeros((28, 28), dtype=np.bool_))},
        r"it is half downloaded or damaged \(.*0002_07\.png has 28 x 28 pixels instead of 105 x 105\)\. Delete it",
    ),
    "no picture": (
        lambda files: files | {f"{PART}/Aleph/character02/0002_07.png": b"junk"},
        r"it is half downloaded or damaged \(cannot identify image file",
    ),
    "half a picture": (
        lambda files: (
            files | {f"{PART}/Aleph/character02/0002_07.png": files[f"{PART}/Aleph/character02/0002_07.png"][:70]}
        ),
        r"it is half downloaded or damaged \(image file is truncated\)\.",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_content(tmp_path: Path, files: Files, wrong: str) -> None:
    change, sentence = WRONG[wrong]
    path = pack(tmp_path, change(files))
    with pytest.raises(DataError, match=rf"Cannot (use|read) .*{PART}\.zip: {sentence}"):
        decode(read_zip(tmp_path, PART), 28)
    assert not has_published_drawings(path)


@pytest.mark.parametrize("kept", [0, 1, 1000, -100, -1])
def test_half_downloaded(tmp_path: Path, files: Files, kept: int) -> None:
    path = pack(tmp_path, files)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        DataError, match=rf"Cannot read .*{PART}\.zip: it is half downloaded or damaged \(.*Delete it and"
    ):
        decode(read_zip(tmp_path, PART), 28)


def test_damaged_anywhere(tmp_path: Path, files: Files) -> None:
    """300 bytes spoilt one at a time: a sentence each time, unless the byte does not matter."""
    path = pack(tmp_path, files)
    sound, right = path.read_bytes(), decode(read_zip(tmp_path, PART), 28)
    refused = 0
    for where in np.random.default_rng(0).integers(0, len(sound), 300):
        spoilt = bytearray(sound)
        spoilt[where] ^= 1 + int(where) % 255
        path.write_bytes(spoilt)
        try:
            found = decode(read_zip(tmp_path, PART), 28)
        except DataError:
            refused += 1
        else:
            assert all(np.array_equal(found[name], right[name]) for name in right)
    assert refused > 200


@pytest.mark.parametrize(
    "error",
    [EOFError(), SyntaxError("broken PNG file"), zlib.error("-3"), struct.error("unpack"), NotImplementedError("flag")],
    ids=lambda error: type(error).__name__,
)
def test_whatever_the_decoders_raise(
    tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Seen when 20,000 zips and PNGs were spoilt at random; rare, so raised here on purpose."""
    pack(tmp_path, files)

    def spoilt(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(drawings, "_read_alphabet", spoilt)
    why = str(error) or type(error).__name__
    with pytest.raises(DataError, match=rf"Cannot read .*: it is half downloaded or damaged \({why}\)\. Delete it and"):
        decode(read_zip(tmp_path, PART), 28)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"Cannot find Omniglot: there is no file .*_background\.zip\. Run `quickstudy fetch"
    ):
        read_zip(tmp_path / "omniglot", PART)
    (tmp_path / f"{PART}.zip.part").touch()
    with pytest.raises(
        DataError, match=r"\.zip \(its download was begun but not finished\)\. Run .*--data-root or QUICK"
    ):
        read_zip(tmp_path, PART)


def test_unreadable(tmp_path: Path) -> None:
    (tmp_path / f"{PART}.zip").mkdir()
    with pytest.raises(DataError, match=r"Cannot read .*images_background\.zip: Is a directory\."):
        read_zip(tmp_path, PART)
