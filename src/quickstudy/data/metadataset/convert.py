"""Floor 1: raw layouts -> folders of records, as the official conversion writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

from quickstudy.data.metadataset.examples import write_example
from quickstudy.data.metadataset.raw import Pictures
from quickstudy.data.metadataset.rawfolders import cu_birds, dtd, ilsvrc, omniglot, traffic_sign
from quickstudy.data.metadataset.rawlists import aircraft, fungi, mscoco, quickdraw, vgg_flower
from quickstudy.data.metadataset.records import record_starts, write_records
from quickstudy.data.metadataset.specs import LISTS, SPEC, Spec, published, spec_of
from quickstudy.errors import DataError, InputError
from quickstudy.files import atomic_write_bytes, data_root, storage_error

__all__ = ["READERS", "RECORDS", "convert"]

_BEGUN = "conversion.json"
RECORDS = "meta-dataset"
"""Below the data root: where records are written and looked for."""

READERS: dict[str, Callable[[Path, Spec, Path], list[Pictures]]] = {
    "ilsvrc_2012": ilsvrc,
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
"""Data set -> (raw folder, specification, folder of published lists) -> the pictures of each class."""


def convert(
    name: str,
    raw: Path | None = None,
    to: Path | None = None,
    *,
    root: Path | None = None,
    counts: Literal["published", "found"] = "published",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write the records of one of the ten data sets; where it was stopped, or files were lost, those that are missing.

    Args:
        name: of the data set, such as ``"omniglot"``.
        raw: the folder with its published files, unpacked; by default, for Omniglot alone, that which
            ``quickstudy fetch omniglot`` fills.
        to: where its records shall lie; by default ``meta-dataset/<name>`` below the data root.
        root: the data root.
        counts: ``"published"``: each class has to have as many pictures as were published; ``"found"``: as many as
            there are, where another edition of the data set is all that is to be had.
        progress: told how many pictures are written, of how many.

    Returns:
        The folder with the records.

    Raises:
        UnknownName: no such data set.
        InputError: the raw folder was not said, or the records are there already, or some of another conversion.
        DataError: files are missing, surplus or damaged.
        StorageError: the disk refused.
    """
    spec = published(name, root)
    target = data_root(root) / RECORDS / name if to is None else Path(to).expanduser()
    if target.is_file():
        raise InputError(f"Cannot convert {name} into {target}: it is a file, not a folder. Say another: --to FOLDER.")
    whole = (target / SPEC).exists()
    if whole:
        _check_missing(target, name)
    if raw is None and name != "omniglot":
        raise InputError(f"Cannot convert {name}: it is not said where its published files lie. Give the folder.")
    folder = data_root(root) / name if raw is None else Path(raw).expanduser()
    pictures = READERS[name](folder, spec, data_root(root) / LISTS)
    found = tuple(map(len, pictures))
    if counts == "published":
        _check_counts(spec, pictures, folder)
    _check_least(spec, found, folder)
    if not whole:  # of a whole one only files that are missing are made
        _begin(target, {"name": name, "raw": str(folder.resolve())})
    done, total = 0, sum(found)
    for number, of_class in enumerate(pictures):
        path = target / f"{number}.tfrecords"
        if not _written(path, len(of_class)):
            write_records(path, _examples(number, of_class, partial(_told, progress, done, total)))
        done += len(of_class)
        progress(done, total)
    for left in target.glob(".*.tfrecords.*.tmp"):  # by a conversion that was killed
        left.unlink(missing_ok=True)
    said = spec.with_images(found) | {"path": str(target)}
    atomic_write_bytes(target / SPEC, json.dumps(said, indent=2).encode())
    (target / _BEGUN).unlink(missing_ok=True)
    return target


def _check_missing(target: Path, name: str) -> None:
    """Whether a folder with a specification is one of this data set that has lost files.

    Raises:
        InputError: it is of another one, or has all files.
    """
    spec = spec_of(target)
    if spec.name != name:
        raise InputError(
            f"Cannot convert {name} into {target}: it holds the records of {spec.name}. Say another folder: "
            "--to FOLDER."
        )
    if all((target / f"{number}.tfrecords").exists() for number in range(sum(map(len, spec.parts.values())))):
        raise InputError(
            f"There is nothing to convert: {target} holds the records of {name} already. Remove the folder to make "
            "them anew, or say another: --to FOLDER."
        )


def _begin(target: Path, about: dict[str, str]) -> None:
    """Say what is being converted there, so that a second conversion does not take its files for its own.

    Raises:
        InputError: another one was begun there, or there are records of nobody knows what.
        StorageError: the disk refused.
    """
    begun = target / _BEGUN
    if not begun.exists() and (record := next(target.glob("*.tfrecords"), None)) is not None:
        raise _taken(target, about, f"there are records, such as {record.name}, of which nothing says what they are")
    try:
        target.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), begun.open("x", encoding="utf-8") as file:  # of two at once one makes it
            json.dump(about, file)
        before = json.loads(begun.read_bytes())
    except OSError as error:
        raise storage_error(begun, error) from error
    except ValueError:  # somebody else's file
        before = None
    if before != about:
        whose = f"{before['name']} from {before['raw']}" if _says_both(before) else f"{_BEGUN} does not say of what"
        raise _taken(target, about, f"another conversion was begun there and is running or was stopped ({whose})")


def _taken(target: Path, about: dict[str, str], why: str) -> InputError:
    return InputError(
        f"Cannot convert {about['name']} from {about['raw']} into {target}: {why}. Say another folder (--to FOLDER), "
        "or remove this one if it is not needed."
    )


def _says_both(before: object) -> bool:
    return isinstance(before, dict) and {"name", "raw"} <= before.keys()


def _written(path: Path, count: int) -> bool:
    """Whether a conversion that was stopped has written this file, whole."""
    try:
        return len(record_starts(path)) - 1 == count
    except DataError:  # it is not there, or somebody cut it off: it is made anew
        return False


def _told(progress: Callable[[int, int], None], before: int, total: int, of_class: int) -> None:
    progress(before + of_class, total)


def _check_counts(spec: Spec, pictures: Sequence[Pictures], folder: Path) -> None:
    for name, of_class, count in zip(spec.classes, pictures, spec.images, strict=True):
        if len(of_class) != count:
            what = "lacks some" if len(of_class) < count else "holds too many"
            such = f" (such as {of_class[0].name})" if of_class else ""
            raise DataError(
                f"Cannot convert {folder}: it {what} pictures of {name!r}{such}, {len(of_class)} instead of {count} "
                "published. Unpack the published files again; to convert what is there, say --counts found."
            )


def _check_least(spec: Spec, found: Sequence[int], folder: Path) -> None:
    """Before hours of work, and not when the records are read."""
    for name, count in zip(spec.classes, found, strict=True):
        if count < 2:
            raise DataError(
                f"Cannot convert {folder}: its class {name!r} has {count} picture{'s' * (count != 1)}, and a task "
                "needs one to learn from and another to ask for. Add some, or take the published files."
            )


def _examples(number: int, pictures: Pictures, done: Callable[[int], None]) -> Iterator[bytes]:
    for count, picture in enumerate(pictures, 1):
        yield write_example({"image": [picture.jpeg()], "label": [number]})
        if count % 50 == 0:
            done(count)
