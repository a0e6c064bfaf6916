"""The letters of matplotlib's fonts: which there are, which are one class, and what is left out."""

import re
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from quickstudy.data.letters import FONTS, Letter, font_hashes, fonts_folder, letters
from quickstudy.errors import DataError


@pytest.fixture(scope="module")
def found() -> list[Letter]:
    return letters(fonts_folder())


@pytest.fixture(scope="module")
def class_of(found: list[Letter]) -> dict[str, int]:
    return {chr(point): number for number, letter in enumerate(found) for point in letter.points}


def test_how_many(found: list[Letter], class_of: dict[str, int]) -> None:
    """Pinned: another number means other classes and other figures everywhere."""
    assert len(found) == 3209
    assert len(class_of) == 3697
    assert sum(len(letter.shapes) for letter in found) == 6637
    assert [letter.points for letter in found] == sorted(letter.points for letter in found)
    assert sum(len(letter.points) for letter in found) == len(class_of), "a letter in two classes"


def test_only_letters_without_a_number(class_of: dict[str, int]) -> None:
    for character in class_of:
        assert unicodedata.category(character) in ("Lu", "Ll", "Lt", "Lo")
        assert unicodedata.numeric(character, None) is None


@pytest.mark.parametrize("character", "IlOЗбƧ" + "oθBıƨƼƄ")
def test_what_could_pass_for_a_digit_is_left_out(character: str, class_of: dict[str, int]) -> None:
    assert character not in class_of


def test_no_drawing_correlates_with_a_digit(found: list[Letter]) -> None:
    """Measured anew, by NumPy's own correlation, on drawings that are sharper than those that decided."""
    digits = np.stack([_boxed(name, digit) for name in FONTS for digit in "0123456789"])
    shapes = np.concatenate([letter.shapes for letter in found])[:, 12:72, 12:72]
    thumbs = shapes.reshape(-1, 20, 3, 20, 3).mean((2, 4))
    rows = [(table - table.mean(1, keepdims=True)) for table in (thumbs.reshape(-1, 400), digits.reshape(-1, 400))]
    unit = [table / np.linalg.norm(table, axis=1, keepdims=True) for table in rows]
    assert 0.8 < (unit[0] @ unit[1].T).max() < 0.9


def _boxed(font: str, character: str) -> NDArray[np.float64]:
    page = Image.new("L", (200, 200))
    drawn_with = ImageFont.truetype(str(fonts_folder() / font), 80)
    ImageDraw.Draw(page).text((50, 50), character, fill=255, font=drawn_with)
    cut = page.crop(page.getbbox())
    width, height = (max(1, round(20 * side / max(cut.size))) for side in cut.size)
    square = Image.new("L", (20, 20))
    square.paste(cut.resize((width, height), Image.Resampling.BOX), ((20 - width) // 2, (20 - height) // 2))
    return np.asarray(square) / 255


def test_look_alikes_are_one_class(class_of: dict[str, int]) -> None:
    for alike in ("AΑАꓮ", "EΕЕ", "XΧХ", "cсϲ"):
        assert len({class_of[character] for character in alike}) == 1, alike
    for different in ("AÀÁÂ", "EF", "RЯ", "جح", "éèê", "A𝔄"):
        assert len({class_of[character] for character in different}) == len(different), different


def test_families_hold_styles_and_accents_together(found: list[Letter], class_of: dict[str, int]) -> None:
    def family(character: str) -> int:
        return found[class_of[character]].family

    assert {family(character) for character in "AÁẤ𝔄𝑨ΆÅ"} == {ord("A")}
    assert family("é") == family("ê") == ord("e") != family("E")
    assert family("ö") == ord("o"), "also where the plain letter is left out"
    assert family("ﺝ") == family("ج"), "an Arabic letter and its initial form"


def test_shapes_fill_their_box(found: list[Letter]) -> None:
    shapes: NDArray[np.bool_] = np.concatenate([letter.shapes for letter in found])
    assert shapes.dtype == np.bool_ and shapes.shape[1:] == (84, 84)
    longest = np.zeros(len(shapes), dtype=int)
    for axis in (1, 2):
        line = np.asarray(shapes.any(axis))
        first, last = line.argmax(1), 83 - line[:, ::-1].argmax(1)
        assert (abs(first + last - 83) <= 2).mean() > 0.99, "centred"
        longest = np.maximum(longest, last - first + 1)
    assert longest.max() == 60 and np.quantile(longest, 0.01) >= 58, "20 pixels of 3 points"
    assert (shapes.sum((1, 2)) > 50).all(), "a letter without ink"


def test_drawings_of_a_class_differ(found: list[Letter]) -> None:
    for letter in found:
        assert len({shape.tobytes() for shape in letter.shapes}) == len(letter.shapes)
    counts = np.bincount([len(letter.shapes) for letter in found])
    assert counts[0] == 0 and counts[1] > 1000 and counts[3:].sum() > 500, "one drawing a font"


@pytest.fixture
def other_fonts(tmp_path: Path) -> Iterator[Path]:
    for name in FONTS:
        shutil.copy(fonts_folder() / name, tmp_path)
    yield tmp_path


def test_fonts_are_as_pinned() -> None:
    assert font_hashes(fonts_folder()) == tuple(FONTS.values())


def test_another_font_is_said(other_fonts: Path) -> None:
    with open(other_fonts / "DejaVuSerif.ttf", "ab") as file:
        file.write(b"\0")
    sentence = "The font DejaVuSerif.ttf of the installed matplotlib is not the one that glyphs is made of"
    with pytest.warns(UserWarning, match=re.escape(sentence)):
        found = font_hashes(other_fonts)
    assert [a == b for a, b in zip(found, FONTS.values(), strict=True)] == [True, False, True, True]


def test_a_missing_font_is_an_error(other_fonts: Path) -> None:
    (other_fonts / "STIXGeneral.ttf").unlink()
    sentence = r"Cannot draw letters: matplotlib's font .*STIXGeneral.ttf cannot be read \(No such file or directory\)"
    with pytest.raises(DataError, match=sentence):
        font_hashes(other_fonts)
