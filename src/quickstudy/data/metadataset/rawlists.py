"""Floor 1: raw data sets with lists of which picture is of which class: Aircraft, Flowers, Fungi, MSCOCO, QuickDraw."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.metadataset.raw import Box, Picture, Pictures, RawArray, RawFile, json_of, lines_of, refuse
from quickstudy.data.metadataset.specs import Spec
from quickstudy.errors import DataError

__all__ = ["aircraft", "fungi", "mscoco", "quickdraw", "vgg_flower"]

T = TypeVar("T")

_SCALE = 1.2  # a box of MSCOCO is made larger, as what is around an object tells something of it


def aircraft(raw: Path, spec: Spec, lists: Path) -> list[Pictures]:
    """``data/images/*.jpg`` with ``images_variant_trainval.txt``, ``images_variant_test.txt`` and ``images_box.txt``.

    Pictures are cut to their boxes, which leaves out other aircraft and the line of copyright below.
    """
    del lists
    folder = raw / "data"
    boxes: dict[str, Box] = {}
    for line in lines_of(folder / "images_box.txt"):
        name, *numbers = line.split()
        if len(numbers) != 4 or not all(number.isdecimal() for number in numbers):
            raise DataError(
                f"Cannot use {folder / 'images_box.txt'}: the line {line!r} is not a name and four whole numbers. Copy "
                "the file again."
            )
        left, upper, right, lower = map(int, numbers)
        boxes[name] = (left, upper, right, lower)
    of: dict[str, set[str]] = {}
    for part in ("trainval", "test"):
        for line in lines_of(folder / f"images_variant_{part}.txt"):
            name, _, variant = line.partition(" ")
            of.setdefault(variant, set()).add(name)
    refuse(of, spec.classes, folder, "variants")
    if missing := sorted(set().union(*of.values()) - set(boxes)):
        raise DataError(
            f"Cannot use {folder / 'images_box.txt'}: it has no box for {missing[0]}.jpg. Copy the file again."
        )
    return [
        [RawFile.at(folder / "images" / f"{name}.jpg", _fixed(boxes[name])) for name in sorted(of[variant])]
        for variant in spec.classes
    ]


def _fixed(box: Box) -> Callable[[int, int], Box]:
    return lambda width, height: box


def vgg_flower(raw: Path, spec: Spec, lists: Path) -> list[Pictures]:
    """``jpg/image_<five digits>.jpg`` and ``imagelabels.mat``, which has the class of each, from 1 on."""
    del lists
    path = raw / "imagelabels.mat"
    labels = _labels(path)
    of: dict[int, list[Picture]] = {}
    for number, label in enumerate(labels, 1):
        of.setdefault(label, []).append(RawFile.at(raw / "jpg" / f"image_{number:05}.jpg"))
    # The published names of classes begin with their numbers in that file.
    numbers = {name: int(name.partition(".")[0]) for name in spec.classes}
    refuse(map(str, of), map(str, numbers.values()), path, "numbers of classes")
    return [of[numbers[name]] for name in spec.classes]


def _labels(path: Path) -> list[int]:
    from scipy.io import loadmat  # here, because it takes a while

    if not path.is_file():
        raise DataError(f"Cannot read {path}: No such file or directory. Copy the file there.")
    try:
        return [int(label) for label in np.asarray(loadmat(path)["labels"]).reshape(-1)]
    except Exception as error:  # of a damaged file it raises anything
        raise DataError(
            f"Cannot read {path}: it is no MATLAB file with 'labels' ({error}). Copy the file again."
        ) from error


def fungi(raw: Path, spec: Spec, lists: Path) -> list[Pictures]:
    """``train.json`` and ``val.json`` in COCO's form, and the files that they name; the test has no labels."""
    del lists
    parts = {name: json_of(raw / name, ("images", "annotations", "categories")) for name in ("train.json", "val.json")}
    if parts["train.json"]["categories"] != parts["val.json"]["categories"]:
        raise DataError(f"Cannot use {raw / 'val.json'}: its categories are not those of train.json. Copy both again.")
    images: dict[int, str] = {}
    classes: dict[int, int] = {}
    for name, part in parts.items():
        for image in part["images"]:
            number, file = _field(raw / name, image, "id", int), _field(raw / name, image, "file_name", str)
            _once(raw / name, images, number)[number] = file
        for note in part["annotations"]:
            number, kind = (_field(raw / name, note, key, int) for key in ("image_id", "category_id"))
            _once(raw / name, classes, number)[number] = kind
    of: dict[int, list[Picture]] = {}
    for number, file in images.items():
        if number not in classes:
            raise DataError(f"Cannot convert {raw}: the picture {file} has no class in train.json or val.json.")
        of.setdefault(classes[number], []).append(RawFile.at(raw / file))
    numbers = {name: int(name.partition(".")[0]) for name in spec.classes}
    refuse(map(str, of), map(str, numbers.values()), raw, "numbers of classes")
    return [of[numbers[name]] for name in spec.classes]


def mscoco(raw: Path, spec: Spec, lists: Path) -> list[Pictures]:
    """``train2017/<twelve digits>.jpg`` and ``instances_train2017.json`` (there, or in ``annotations``).

    Each object is a picture: its box, made larger by a fifth, and cut off where the photograph ends.
    """
    del lists
    path = raw / "instances_train2017.json"
    path = path if path.is_file() else raw / "annotations" / path.name
    notes = json_of(path, ("annotations", "categories"))
    names = {_field(path, one, "id", int): _field(path, one, "name", str) for one in notes["categories"]}
    refuse(names.values(), spec.classes, path, "categories")
    of: dict[str, list[Picture]] = {name: [] for name in spec.classes}
    for note in notes["annotations"]:
        number, kind = (_field(path, note, key, int) for key in ("image_id", "category_id"))
        box = _field(path, note, "bbox", list)
        if kind not in names or len(box) != 4 or not all(isinstance(side, int | float) for side in box):
            raise DataError(
                f"Cannot use {path}: an annotation of the image {number} has no category or no box of four numbers. "
                "Copy the file again."
            )
        of[names[kind]].append(RawFile.at(raw / "train2017" / f"{number:012}.jpg", _enlarged(box)))
    return [of[name] for name in spec.classes]


def _enlarged(box: list[float]) -> Callable[[int, int], Box]:
    x, y, width, height = box
    x, y = x - 0.5 * width * (_SCALE - 1.0), y - 0.5 * height * (_SCALE - 1.0)
    width, height = width * _SCALE, height * _SCALE

    def cut(image_width: int, image_height: int) -> Box:
        # COCO counts from the middle of a pixel, Pillow from its corner.
        right = min(round(x + width - 0.5) + 1, image_width)
        lower = min(round(y + height - 0.5) + 1, image_height)
        return max(round(x - 0.5), 0), max(round(y - 0.5), 0), right, lower

    return cut


def quickdraw(raw: Path, spec: Spec, lists: Path) -> list[Pictures]:
    """``<class>.npy``: a row of 28 x 28 grey values a drawing."""
    del lists
    refuse((path.stem for path in raw.glob("*.npy")), spec.classes, raw, "classes (.npy)")
    found: list[Pictures] = []
    for name in spec.classes:
        path = raw / f"{name}.npy"
        found.append(RawArray(str(path), len(_rows(path)), partial(_rows, path)))
    return found


def _rows(path: Path) -> NDArray[Any]:
    """Memory-mapped."""
    try:
        rows: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read {path}: {error}. Copy the file again.") from error
    side = round(rows.shape[-1] ** 0.5) if rows.ndim == 2 else 0
    if rows.dtype not in (np.uint8, np.bool_) or not side or side * side != rows.shape[-1]:
        raise DataError(
            f"Cannot use {path}: expected uint8 [n, 784], a row of 28 x 28 pixels a drawing, found {rows.dtype} "
            f"{list(rows.shape)}. Copy the file again."
        )
    return rows


def _field(path: Path, given: Any, key: str, kind: type[T]) -> T:
    found = given.get(key) if isinstance(given, dict) else None
    if not isinstance(found, kind):
        raise DataError(
            f"Cannot use {path}: an entry has no {key!r} of type {kind.__name__}: {str(given)[:80]}. Copy the file "
            "again."
        )
    return found


def _once(path: Path, known: dict[int, T], number: int) -> dict[int, T]:
    if number in known:
        raise DataError(f"Cannot use {path}: the picture with the id {number} stands there twice. Copy the file again.")
    return known
