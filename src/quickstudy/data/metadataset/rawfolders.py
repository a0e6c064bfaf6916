"""Floor 1: raw data sets with a folder a class: Omniglot, Textures (DTD), CU-Birds, Traffic Signs, ILSVRC 2012."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from quickstudy.data.metadataset.raw import Pictures, RawFile, class_files, lines_of, refuse
from quickstudy.data.metadataset.specs import Spec
from quickstudy.errors import DataError

__all__ = ["cu_birds", "dtd", "ilsvrc", "omniglot", "traffic_sign"]

_PARTS = {"train": "images_background", "validation": "images_background", "test": "images_evaluation"}
_DUPLICATES = ("Caltech101", "Caltech256", "CUBirds")


def omniglot(raw: Path, spec: Spec, lists: Path) -> list[Pictures]:
    """``images_background`` and ``images_evaluation``, as folders or as zip files, with a folder an alphabet.

    Drawings are ink on paper and become light on dark, as the official conversion inverts them.
    """
    del lists
    trees = {part: _Tree.of(raw, part) for part in sorted(set(_PARTS.values()))}
    for part, tree in trees.items():
        known = {spec.classes[n] for split, numbers in spec.parts.items() if _PARTS[split] == part for n in numbers}
        refuse(("-".join(path) for path in tree.folders), known, raw / part, "characters")
    found: list[Pictures] = []
    for split, numbers in spec.parts.items():
        tree = trees[_PARTS[split]]
        for number in numbers:
            alphabet, _, character = spec.classes[number].rpartition("-")
            found.append(tree.drawings(alphabet, character))
    return found


class _Tree:
    """Drawings by alphabet and character."""

    def __init__(self, part: Path, folders: dict[tuple[str, str], list[str]], packed: Path | None) -> None:
        self._part, self.folders, self._packed = part, folders, packed
        self._archive: zipfile.ZipFile | None = None

    @staticmethod
    def of(raw: Path, part: str) -> _Tree:
        """A folder, or where there is none a zip file."""
        folder, packed = raw / part, raw / f"{part}.zip"
        if folder.is_dir():
            return _Tree(folder, _grouped(_below(folder)), None)
        if packed.is_file():
            return _Tree(Path(part), _grouped(_zipped(packed, part)), packed)
        raise DataError(
            f"Cannot convert Omniglot from {raw}: there is neither the folder {part} nor {packed.name}. Run "
            "`quickstudy fetch omniglot`, or say where they are."
        )

    def drawings(self, alphabet: str, character: str) -> Pictures:
        """Of one character, by their names."""
        names = sorted(self.folders[alphabet, character])
        if self._packed is None:
            return [RawFile.at(self._part / alphabet / character / name, inverted=True) for name in names]
        return [self._in_zip(f"{self._part}/{alphabet}/{character}/{name}") for name in names]

    def _in_zip(self, member: str) -> RawFile:
        return RawFile(f"{member} in {self._packed}", lambda: self._unpacked(member), inverted=True)

    def _unpacked(self, member: str) -> bytes:
        assert self._packed is not None
        try:
            if self._archive is None:  # opened once, as that reads the list of all drawings
                self._archive = zipfile.ZipFile(io.BytesIO(self._packed.read_bytes()))
            return self._archive.read(member)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError) as error:
            raise DataError(f"Cannot read {member} in {self._packed}: {error}. Fetch the file again.") from error


def _below(folder: Path) -> Iterator[list[str]]:
    for where, _, names in os.walk(folder):
        parts = os.path.relpath(where, folder).split(os.sep)
        yield from ([*parts, name] for name in names)


def _zipped(packed: Path, part: str) -> Iterator[list[str]]:
    try:
        with zipfile.ZipFile(packed) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"Cannot read {packed}: it is half downloaded or damaged ({error}). Fetch it again.") from error
    yield from (name.split("/")[1:] for name in names if name.startswith(f"{part}/"))


def _grouped(paths: Iterator[list[str]]) -> dict[tuple[str, str], list[str]]:
    """Pictures by alphabet and character; what lies elsewhere, and hidden files, are passed over."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        if len(path) == 3 and path[2].endswith(".png") and not path[2].startswith("."):
            found.setdefault((path[0], path[1]), []).append(path[2])
    return found


def dtd(raw: Path, spec: Spec, lists: Path) -> list[Pictures]:
    """``images/<texture>/*.jpg``. The texture "waffled" has a file ``.directory`` that was left there."""
    del lists
    return _folders(raw / "images", {name: name for name in spec.classes}, spec, lambda name: frozenset([".directory"]))


def cu_birds(raw: Path, spec: Spec, lists: Path) -> list[Pictures]:
    """``images/<number>.<bird>/*.jpg``, and ``classes.txt``, which lists them."""
    del lists
    listed = [line.partition(" ")[2].strip() for line in lines_of(raw / "classes.txt")]
    refuse(listed, spec.classes, raw / "classes.txt", "birds")
    return _folders(raw / "images", {name: name for name in spec.classes}, spec)


def traffic_sign(raw: Path, spec: Spec, lists: Path) -> list[Pictures]:
    """``Final_Training/Images/<five digits>/*.ppm``; each folder has annotations, too: ``GT-<five digits>.csv``."""
    del lists
    folders = {name: f"{number:05}" for number, name in enumerate(spec.classes)}
    parent = raw / "Final_Training" / "Images"
    return _folders(parent, folders, spec, lambda name: frozenset([f"GT-{folders[name]}.csv"]))


def ilsvrc(raw: Path, spec: Spec, lists: Path) -> list[Pictures]:
    """``<WordNet id>/*.JPEG``: the training pictures, without those that Caltech or CU-Birds have, too.

    Where ``wordnet.is_a.txt`` lies beside the folders, the published graph is compared with it.
    """
    edges = raw / "wordnet.is_a.txt"
    if edges.is_file():
        _check_graph(edges, spec)
    left_out = frozenset(name for other in _DUPLICATES for name in _listed(lists / f"ImageNet_{other}_duplicates.txt"))
    return _folders(raw, {name: name for name in spec.classes}, spec, lambda name: left_out)


def _listed(path: Path) -> list[str]:
    """Names of pictures before ``#``; a line that begins with one is a comment."""
    lines = (line.partition("#")[0].strip() for line in lines_of(path))
    return [os.path.basename(line) for line in lines if line]


def _check_graph(path: Path, spec: Spec) -> None:
    """Whether each edge of the published graph is a way down in WordNet (nodes with one child were left out there)."""
    children: dict[str, list[str]] = {}
    for line in lines_of(path):
        parent, _, child = line.partition(" ")
        children.setdefault(parent, []).append(child.strip())
    for graph in spec.source["split_subgraphs"].values():
        for node in graph:
            below = _reached(node["wn_id"], children)
            for child in node["children_ids"]:
                if child not in below:
                    raise DataError(
                        f"Cannot use {path}: in it nothing leads from {node['wn_id']} down to {child}, as in the "
                        "published graph. Copy the file again, or move it away: it is not needed."
                    )


def _reached(node: str, children: dict[str, list[str]]) -> set[str]:
    found: set[str] = set()
    left = list(children.get(node, ()))
    while left:
        here = left.pop()
        if here not in found:
            found.add(here)
            left += children.get(here, ())
    return found


def _folders(parent: Path, folders: dict[str, str], spec: Spec, left_out: object = None) -> list[Pictures]:
    """Pictures of each class from its folder below ``parent``.

    Args:
        parent: holds the folders, and no others.
        folders: class -> its folder.
        spec: of the data set.
        left_out: class -> names of files that are passed over.
    """
    try:
        names = [item.name for item in os.scandir(parent) if item.is_dir() and not item.name.startswith(".")]
    except OSError as error:
        raise DataError(
            f"Cannot convert {spec.name}: {parent} cannot be read ({error.strerror or error}). Unpack the published "
            "files there, or say where they are."
        ) from error
    refuse(names, folders.values(), parent, "folders of classes")
    found: list[Pictures] = []
    for name in spec.classes:
        passed = left_out(name) if callable(left_out) else frozenset[str]()
        found.append(_pictures(class_files(parent / folders[name], passed)))
    return found


def _pictures(paths: Sequence[Path]) -> Pictures:
    return [RawFile.at(path) for path in paths]
