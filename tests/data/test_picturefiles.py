"""Picture files of every kind become square pictures of 8 bits; what cannot is named."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quickstudy.data.picturefiles import SUFFIXES, read
from quickstudy.errors import DataError
from tests.data.picturesmade import drawn


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


WIDE = Image.fromarray(np.repeat(np.arange(0, 200, 2, dtype=np.uint8)[None], 60, 0)).convert("RGB")  # 100 x 60


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "JPEG", "WEBP"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_format(kind: str, channels: int) -> None:
    found = read(saved(WIDE, kind, **({"lossless": True} if kind == "WEBP" else {})), "x", 30, channels)
    assert found.dtype == np.uint8 and found.shape == ((30, 30) if channels == 1 else (3, 30, 30))
    grey = found if channels == 1 else found[0]
    # The middle 60 of 100 columns, of brightness 40 to 158.
    assert abs(int(grey[15, 0]) - 41) < 5 and abs(int(grey[15, -1]) - 157) < 5
    assert (np.diff(grey[15].astype(int)) > -3).all()


def test_red_is_red_and_first() -> None:
    found = read(saved(Image.new("RGB", (20, 20), (200, 20, 60)), "PNG"), "x", 16, 3)
    assert [int(c.mean()) for c in found] == [200, 20, 60] and found.flags.c_contiguous


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16", "CMYK", "F"])
def test_every_mode_of_white(mode: str) -> None:
    if mode == "I;16":
        picture = Image.fromarray(np.full((20, 20), 65535, dtype=np.uint16))
    elif mode == "F":
        picture = Image.fromarray(np.ones((20, 20), dtype=np.float32))
    else:
        picture = Image.new("RGB", (20, 20), "white").convert(mode)
    found = read(saved(picture, "TIFF" if mode in ("CMYK", "F") else "PNG"), "x", 16, 3)
    assert (found == 255).all(), mode


def test_sixteen_bits() -> None:
    ramp = np.repeat((np.arange(64) * 1028).astype(np.uint16)[None], 64, 0)
    for kind in ("PNG", "TIFF"):
        found = read(saved(Image.fromarray(ramp), kind), "x", 64, 1)
        assert np.array_equal(found[3], np.arange(64) * 4), kind


def test_what_is_transparent_is_white() -> None:
    pixels = np.zeros((20, 20, 4), dtype=np.uint8)
    pixels[:10] = (255, 0, 0, 255)
    found = read(saved(Image.fromarray(pixels), "PNG"), "x", 20, 3)
    assert found[:, 3, 3].tolist() == [255, 0, 0] and found[:, 15, 3].tolist() == [255, 255, 255]
    palette = Image.fromarray(np.repeat([[0], [1]], 20, 1).repeat(10, 0).astype(np.uint8), "P")
    palette.putpalette([10, 20, 30, 0, 0, 0])
    found = read(saved(palette, "GIF", transparency=1), "x", 20, 3)
    assert found[:, 3, 3].tolist() == [10, 20, 30] and found[:, 15, 3].tolist() == [255, 255, 255]


def test_the_right_side_up() -> None:
    """As a phone saves it: lying, with a note of which side is up."""
    half = np.zeros((40, 40, 3), dtype=np.uint8)
    half[:20] = 255
    turned = Image.fromarray(half).rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees, clockwise
    found = read(saved(turned, "JPEG", exif=exif, quality=95), "x", 40, 1)
    assert found[2:15].min() > 240 and found[25:38].max() < 15


def test_the_first_picture_of_several() -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "lime")]
    found = read(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), "x", 16, 3)
    assert found[:, 0, 0].tolist() == [255, 0, 0]


def test_no_warning_of_large_pictures_or_odd_notes() -> None:
    content = saved(Image.new("L", (8060, 8060)), "PNG")  # about the largest that is read
    assert read(content, "x", 16, 1).shape == (16, 16)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"Cannot read a/x\.png: the file is empty \(0 bytes\)\. Copy it again or remove it\."),
        (
            b"no picture at all",
            r"a/x\.png: it is no picture that can be read here\. Expected the contents of \.png, \.jpg",
        ),
        (saved(drawn(1, 1), "PNG")[:-400], r"Cannot read a/x\.png: it is cut off or damaged \(.*\)\. Copy it again"),
        (saved(drawn(1, 1), "JPEG")[:-300], r"it is cut off or damaged"),
        (saved(drawn(1, 1), "BMP")[:-900], r"it is cut off or damaged"),
        (saved(drawn(1, 1), "TIFF")[:-900], r"(it is cut off or damaged|it is no picture)"),
        (saved(drawn(1, 1), "WEBP")[:-60], r"(it is cut off or damaged|it is no picture)"),
        (saved(drawn(1, 1), "PNG")[:-1], r"it is cut off or damaged \(a PNG file without its end\)"),
        (saved(drawn(1, 1), "PNG")[:20], r"(it is cut off or damaged|it is no picture)"),
        (
            saved(Image.new("1", (10001, 10000)), "PNG"),
            r"^Cannot use a/x\.png: it has 10001 x 10000 pixels; .* 65 million",
        ),
        (saved(Image.new("1", (20001, 20000)), "PNG"), r"Cannot use a/x\.png: it has .* pixels; expected at most 65"),
        (
            saved(Image.fromarray(np.array([[0.0, 2.5]], dtype=np.float32)), "TIFF"),
            r"its pixels are floats from 0 to 2\.5; expected 0 to 1",
        ),
        (
            saved(Image.fromarray(np.array([[0.0, np.nan]], dtype=np.float32)), "TIFF"),
            r"its pixels are floats from nan to nan",
        ),
        (
            saved(Image.fromarray(np.array([[0, 100_000]], dtype=np.int32)), "TIFF"),
            r"its pixels are numbers from 0 to 100000; expected 16 bits",
        ),
    ],
)
def test_what_cannot_be_used(content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(content, "a/x.png", 16, 3)


def test_bytes_of_every_kind_give_a_sentence_or_a_picture() -> None:
    """Nothing else is raised, whatever was damaged."""
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        whole = np.frombuffer(saved(drawn(2, 0), kind), dtype=np.uint8)
        for _ in range(60):
            broken = whole.copy()
            broken[rng.integers(0, len(whole), 3)] = rng.integers(0, 256, 3)
            try:
                assert read(broken.tobytes(), "x", 16, 3).shape == (3, 16, 16)
            except DataError as error:
                assert "Cannot" in str(error)


def test_suffixes_are_small() -> None:
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)
