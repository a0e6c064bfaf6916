"""Shards and Parquet files of made-up pictures, and the same pictures in memory."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.picturefiles import SUFFIXES, read
from quickstudy.data.picturetasks import PictureTasks
from quickstudy.data.store import ArrayStore
from quickstudy.episode import Episode, Examples

SIZE = 20
SMALL: dict[str, Any] = {"way": 2, "shot": 1, "query": 2, "seed": 0}
RAGGED: dict[str, Any] = {"way": (2, 3), "shot": (1, 2), "query": (1, 2), "seed": 3}


def files_of(folder: Path) -> list[Path]:
    """All pictures below a folder, sorted by class and name."""
    return sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)


def in_memory(folder: Path, like: ClassTasks, **sizes: Any) -> PictureTasks:
    """Tasks of the pictures of a folder, all decoded and held in one array; named as ``like`` is."""
    classes: dict[str, list[Any]] = {}
    for path in files_of(folder):
        classes.setdefault(path.parent.name, []).append(read(path.read_bytes(), str(path), SIZE, 3))
    store = ArrayStore.from_classes({name: np.stack(pictures) for name, pictures in sorted(classes.items())})
    names = [like.store.classes[int(number)] for number in like._classes]
    data, split = str(like.settings["data"]), str(like.settings["split"])
    changes = like.changes if isinstance(like, PictureTasks) else None
    return PictureTasks(store, store.numbers(names), data=data, split=split, changes=changes, **sizes)


def tar(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    """A shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return path


def shards_of(folder: Path, into: Path, count: int = 3, label: str = "folder") -> Path:
    """The pictures of a folder as shards, dealt out one by one, so that no shard holds whole classes."""
    files = files_of(folder)
    for number in range(count):
        members: list[tuple[str, bytes]] = []
        for place, path in enumerate(files[number::count]):
            if label == "folder":
                members.append((f"{path.parent.name}/{path.name}", path.read_bytes()))
                continue
            key = f"{number:03}{place:05}"
            said = json.dumps({"species": path.parent.name}) if label == "json" else f"{path.parent.name}\n"
            members += [(f"{key}.png", path.read_bytes()), (f"{key}.{label}", said.encode())]
        tar(into / f"part-{number:03}.tar", members)
    return into


def parquet_of(folder: Path, into: Path, **changes: Any) -> Path:
    """The pictures of a folder as two Parquet files."""
    import pyarrow
    import pyarrow.parquet

    into.mkdir(parents=True, exist_ok=True)
    files = files_of(folder)
    half = len(files) // 2
    for number, part in enumerate((files[:half], files[half:])):
        columns = {
            "image": [{"bytes": path.read_bytes(), "path": path.name} for path in part],
            "label": [path.parent.name for path in part],
            "place": [[float(index), 1.0] for index in range(len(part))],
        }
        table = pyarrow.table(columns | changes.get(f"file_{number}", {}))
        pyarrow.parquet.write_table(table, into / f"{number}.parquet", row_group_size=7)
    return into


def alike(one: Episode, other: Episode) -> bool:
    """Whether two episodes are the same, bit for bit."""
    parts: list[tuple[Examples, Examples]] = [(one.support, other.support), (one.query, other.query)]
    return (
        all(same(a, b) for a, b in parts)
        and one.classes is not None
        and other.classes is not None
        and torch.equal(one.classes, other.classes)
        and torch.equal(one.indices, other.indices)
    )


def same(one: Examples, other: Examples) -> bool:
    """Whether two sets of examples are the same, bit for bit."""
    assert isinstance(one.x, torch.Tensor) and isinstance(other.x, torch.Tensor)
    assert one.y is not None and other.y is not None
    masks = (one.mask is None) == (other.mask is None) and (
        one.mask is None or other.mask is None or torch.equal(one.mask, other.mask)
    )
    return one.x.dtype == other.x.dtype and torch.equal(one.x, other.x) and torch.equal(one.y, other.y) and masks
