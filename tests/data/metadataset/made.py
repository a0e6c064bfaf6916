"""Small data sets in the ten published layouts, and their specifications, as files."""

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from quickstudy.data.metadataset.specs import LISTS

PARTS = (3, 2, 2)  # classes for training, validation and test
EACH = 4  # pictures of each


def pixels(seed: int, height: int = 20, width: int = 30) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A smooth picture, so that JPEG keeps it."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


def file(seed: int, form: str = "JPEG", mode: str = "RGB", **size: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(seed, **size)).convert(mode).save(buffer, format=form)
    return buffer.getvalue()


def put(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def spec_json(name: str, classes: list[str], parts: tuple[int, ...] = PARTS, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "classes_per_split": dict(zip(("TRAIN", "VALID", "TEST"), parts, strict=True)),
        "images_per_class": {str(n): EACH for n in range(len(classes))},
        "class_names": {str(n): name for n, name in enumerate(classes)},
        "path": "/path/to/records",
        "file_pattern": "{}.tfrecords",
        "__class__": "DatasetSpecification",
    } | more


def write_spec(root: Path, given: dict[str, Any]) -> None:
    put(root / LISTS / "dataset_specs" / f"{given['name']}_dataset_spec.json", json.dumps(given))


def omniglot(raw: Path) -> dict[str, Any]:
    alphabets = {
        "Bactrian-A": ("images_background", 3),
        "Greek": ("images_background", 2),
        "Oriya": ("images_evaluation", 2),
    }
    classes = []
    for number, (alphabet, (part, size)) in enumerate(alphabets.items()):
        for character in range(1, size + 1):
            classes.append(f"{alphabet}-character{character:02}")
            for drawing in range(EACH):
                name = (
                    raw / part / alphabet / f"character{character:02}" / f"{number:02}{character:02}_{drawing:02}.png"
                )
                put(name, file(number * 100 + character * 10 + drawing, "PNG", "1", height=105, width=105))
    spec = spec_json(
        "omniglot",
        classes,
        superclasses_per_split={"TRAIN": 1, "VALID": 1, "TEST": 1},
        classes_per_superclass={"0": 3, "1": 2, "2": 2},
        superclass_names={str(n): name for n, name in enumerate(alphabets)},
        __class__="BiLevelDatasetSpecification",
    )
    del spec["classes_per_split"]
    return spec


def dtd(raw: Path) -> dict[str, Any]:
    classes = ["waffled", "banded", "dotted", "grid", "lined", "matted", "woven"]
    for number, name in enumerate(classes):
        for k in range(EACH):
            put(raw / "images" / name / f"{name}_{k:04}.jpg", file(number * 10 + k))
    put(raw / "images" / "waffled" / ".directory", "[Dolphin]")
    return spec_json("dtd", classes)


def cu_birds(raw: Path) -> dict[str, Any]:
    classes = [f"{n:03}.Bird_{n}" for n in (3, 1, 2, 4, 5, 6, 7)]
    for number, name in enumerate(classes):
        for k in range(EACH):
            put(raw / "images" / name / f"Bird_{k}.jpg", file(number * 10 + k, mode="L" if k == 0 else "RGB"))
    put(raw / "classes.txt", "".join(f"{n} {name}\n" for n, name in enumerate(sorted(classes), 1)))
    return spec_json("cu_birds", classes)


def traffic_sign(raw: Path) -> dict[str, Any]:
    for number in range(7):
        folder = raw / "Final_Training" / "Images" / f"{number:05}"
        put(folder / f"GT-{number:05}.csv", "Filename;Width\n")
        for k in range(EACH):
            put(folder / f"00000_{k:05}.ppm", file(number * 10 + k, "PPM"))
    return spec_json("traffic_sign", [f"{n:02}.Sign {n}" for n in range(7)], (0, 0, 7))


def ilsvrc_2012(raw: Path) -> dict[str, Any]:
    names = [f"n0000000{n}" for n in range(1, 8)]
    for number, name in enumerate(names):
        for k in range(EACH):
            put(raw / name / f"{name}_{k}.JPEG", file(number * 10 + k))
    put(raw / names[0] / f"{names[0]}_99.JPEG", file(999))  # is in Caltech-101, too
    put(
        raw / "wordnet.is_a.txt",
        "n1 n2\nn2 n00000001\nn2 n00000002\nn2 n00000003\nn3 n00000004\nn3 n00000005\nn4 n00000006\nn4 n00000007\n",
    )

    def node(name: str, *children: str) -> dict[str, Any]:
        return {"wn_id": name, "words": "", "children_ids": list(children), "parents_ids": []}

    graphs = {"TRAIN": ("n1", names[:3]), "VALID": ("n3", names[3:5]), "TEST": ("n4", names[5:])}
    spec = spec_json(
        "ilsvrc_2012",
        names,
        split_subgraphs={key: [node(root, *leaves), *map(node, leaves)] for key, (root, leaves) in graphs.items()},
        images_per_class={
            key: {root: EACH * len(leaves)} | dict.fromkeys(leaves, EACH) for key, (root, leaves) in graphs.items()
        },
        __class__="HierarchicalDatasetSpecification",
    )
    del spec["classes_per_split"]
    return spec


def aircraft(raw: Path) -> dict[str, Any]:
    classes = ["A 340", "737-200", "Falcon 2000", "F/A-18", "An-12", "MD-80", "DC-6"]
    boxes, lists = [], {"trainval": "", "test": ""}
    for number, name in enumerate(classes):
        for k in range(EACH):
            key = f"{number}{EACH - k:06}"
            put(raw / "data" / "images" / f"{key}.jpg", file(number * 10 + k))
            boxes.append(f"{key} 2 3 {12 + k} 15\n")
            lists["test" if k == 0 else "trainval"] += f"{key} {name}\n"
    put(raw / "data" / "images_box.txt", "".join(boxes))
    for part, text in lists.items():
        put(raw / "data" / f"images_variant_{part}.txt", text)
    return spec_json("aircraft", classes)


def vgg_flower(raw: Path) -> dict[str, Any]:
    from scipy.io import savemat

    labels = [1 + n % 7 for n in range(7 * EACH)]
    for number in range(len(labels)):
        put(raw / "jpg" / f"image_{number + 1:05}.jpg", file(number))
    raw.mkdir(parents=True, exist_ok=True)
    savemat(raw / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    return spec_json("vgg_flower", [f"{n:03}.flower {n}" for n in (5, 1, 2, 3, 4, 7, 6)])


def fungi(raw: Path) -> dict[str, Any]:
    categories = [{"id": n, "name": f"Fungus {n}"} for n in range(7)]
    for part, ks in (("train", range(EACH - 1)), ("val", range(EACH - 1, EACH))):
        images, notes = [], []
        for number in range(7):
            for k in ks:
                name = f"images/{number}/{k}.JPG"
                put(raw / name, file(number * 10 + k))
                images.append({"id": number * 10 + k, "file_name": name})
                notes.append({"image_id": number * 10 + k, "category_id": number})
        put(raw / f"{part}.json", json.dumps({"images": images, "annotations": notes, "categories": categories}))
    return spec_json("fungi", [f"{n:04}.Fungus {n}" for n in (6, 0, 1, 2, 3, 4, 5)])


def mscoco(raw: Path) -> dict[str, Any]:
    classes = ["person", "car", "dog", "cat", "cup", "bus", "kite"]
    notes = []
    for number in range(len(classes)):
        put(raw / "train2017" / f"{number:012}.jpg", file(number))
        for k in range(EACH):
            notes.append({"image_id": number, "category_id": 10 + (number + k) % 7, "bbox": [2.3 + k, 3.5, 10.0, 8.25]})
    categories = [{"id": 10 + n, "name": name} for n, name in enumerate(classes)]
    put(raw / "annotations" / "instances_train2017.json", json.dumps({"annotations": notes, "categories": categories}))
    return spec_json("mscoco", classes, (0, 4, 3))


def quickdraw(raw: Path) -> dict[str, Any]:
    classes = ["swan", "police car", "horse", "van", "duck", "oven", "crown"]
    raw.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(classes):
        rng = np.random.default_rng(number)
        np.save(raw / f"{name}.npy", rng.integers(0, 256, (EACH, 784), dtype=np.uint8))
    return spec_json("quickdraw", classes)


MADE: dict[str, Callable[[Path], dict[str, Any]]] = {
    "ilsvrc_2012": ilsvrc_2012,
    "omniglot": omniglot,
    "aircraft": aircraft,
    "cu_birds": cu_birds,
    "dtd": dtd,
    "quickdraw": quickdraw,
    "fungi": fungi,
    "vgg_flower": vgg_flower,
    "traffic_sign": traffic_sign,
    "mscoco": mscoco,
}


def make(name: str, root: Path) -> Path:
    """Raw files below ``root / "raw"`` and the lists in ``root``."""
    raw = root / "raw" / name
    write_spec(root, MADE[name](raw))
    for other in ("Caltech101", "Caltech256", "CUBirds"):
        content = f"## ImageNet  # {other}\n"
        if other == "Caltech101":
            content += "n00000001/n00000001_99.JPEG  # ants/image_0001.jpg\n"
        put(root / LISTS / f"ImageNet_{other}_duplicates.txt", content)
    return raw


def framed(content: bytes) -> bytes:
    """A record with checksums by hand, for what the writer would not write."""
    from quickstudy.data.metadataset.crc import crc32c, masked

    length = struct.pack("<Q", len(content))
    return length + struct.pack("<I", masked(crc32c(length))) + content + struct.pack("<I", masked(crc32c(content)))
