"""Floor 1: which classes a data set of Meta-Dataset has, in which split, with how many pictures: its specification.

The ten specifications were published as JSON with the official code, and stand beside the records of each data set,
too. A class has a number, and its records the file ``<number>.tfrecords``; training classes have the lowest numbers,
then come those of validation and test. There are three kinds:

    DatasetSpecification               just classes
    BiLevelDatasetSpecification        Omniglot: classes (characters) in groups (alphabets), which are divided whole
    HierarchicalDatasetSpecification   ILSVRC: for each split a part of WordNet, whose leaves are the classes
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quickstudy.errors import DataError, UnknownName
from quickstudy.files import data_root

__all__ = ["COUNTS", "LISTS", "SPEC", "Group", "Spec", "check_published", "published", "read_spec", "spec_of"]

COUNTS = {
    "ilsvrc_2012": (712, 158, 130),
    "omniglot": (883, 81, 659),
    "aircraft": (70, 15, 15),
    "cu_birds": (140, 30, 30),
    "dtd": (33, 7, 7),
    "quickdraw": (241, 52, 52),
    "fungi": (994, 200, 200),
    "vgg_flower": (71, 15, 16),
    "traffic_sign": (0, 0, 43),
    "mscoco": (0, 40, 40),
}
"""The ten data sets, in the order of the leaderboard, and their classes in training, validation and test."""

LISTS = Path("splits") / "meta-dataset"
"""Below the data root: where the published specifications and lists lie."""

SPEC = "dataset_spec.json"
"""The specification in a folder of records."""

_SPLITS = {"train": "TRAIN", "validation": "VALID", "test": "TEST"}


@dataclass(frozen=True)
class Group:
    """Classes that belong together, such as an alphabet.

    Args:
        name: of the group.
        first: number of its first class.
        size: how many classes it has, all in a row.
    """

    name: str
    first: int
    size: int


@dataclass(frozen=True, eq=False)
class Spec:
    """A specification.

    Args:
        name: of the data set.
        classes: names of the classes, by their numbers.
        images: how many pictures each has.
        parts: ``"train"``, ``"validation"``, ``"test"`` -> the numbers of its classes.
        groups: split -> its groups, of a data set of two levels; else None.
        spans: split -> for each inner node of its graph, sorted by their names, the numbers of the classes below it,
            sorted by their names; of a data set with a graph; else None.
        source: the JSON that it was read from.
    """

    name: str
    classes: tuple[str, ...]
    images: tuple[int, ...]
    parts: Mapping[str, range]
    groups: Mapping[str, tuple[Group, ...]] | None = None
    spans: Mapping[str, tuple[tuple[int, ...], ...]] | None = None
    source: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def with_images(self, images: tuple[int, ...]) -> dict[str, Any]:
        """The JSON, saying that there are so many pictures of each class."""
        found = dict(self.source)
        if self.spans is None:
            return found | {"images_per_class": {str(number): count for number, count in enumerate(images)}}
        of = dict(zip(self.classes, images, strict=True))
        return found | {
            "images_per_class": {
                part: {node: sum(of[leaf] for leaf in leaves) for node, leaves in _leaves(graph).items()}
                for part, graph in self.source["split_subgraphs"].items()
            }
        }


def published(name: str, root: Path | None = None) -> Spec:
    """The published specification of one of the ten data sets.

    Args:
        name: such as ``"omniglot"``; see :data:`COUNTS`.
        root: the data root; by default QUICKSTUDY_DATA or the platform's data folder.

    Raises:
        UnknownName: no such data set.
        DataError: the list is missing, damaged or not the published one.
    """
    if name not in COUNTS:
        raise UnknownName.among("data set of Meta-Dataset", name, COUNTS)
    path = data_root(root) / LISTS / "dataset_specs" / f"{name}_dataset_spec.json"
    if not path.is_file():
        raise DataError(
            f"Cannot find the published list of {name}: there is no file {path}. Run `quickstudy fetch meta-dataset`."
        )
    spec = read_spec(path)
    check_published(spec, name, path, "Fetch it again.")
    return spec


def check_published(spec: Spec, name: str, path: Path, advice: str) -> None:
    """Whether a specification is of this data set, divided as it was published.

    Args:
        spec: from a file.
        name: of the data set.
        path: of the file, for the error.
        advice: what to do.

    Raises:
        DataError: it is not.
    """
    has = tuple(len(part) for part in spec.parts.values())
    if has != COUNTS[name] or spec.name != name:
        raise DataError(
            f"Cannot use {path}: it lists {spec.name} with {', '.join(map(str, has))} classes for training, validation "
            f"and test; {name} was published with {', '.join(map(str, COUNTS[name]))}. {advice}"
        )


def spec_of(folder: Path) -> Spec:
    """The specification in a folder of records.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = folder / SPEC
    if path.is_file():
        return read_spec(path)
    old = folder / "dataset_spec.pkl"
    if old.exists():
        raise DataError(
            f"Cannot use {folder}: its specification is a pickle ({old.name}), which may run any code and is not read. "
            f"Copy the published one there, {LISTS}/dataset_specs/{folder.name}_dataset_spec.json, as {SPEC}."
        )
    raise DataError(
        f"Cannot use {folder}: it has no {SPEC}, which says what its records are. Convert the data set with "
        f"`quickstudy convert {folder.name}`, or copy the file there."
    )


def read_spec(path: Path) -> Spec:
    """A specification from its JSON.

    Raises:
        DataError: the file cannot be read, or is no specification.
    """
    try:
        given = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise DataError(f"Cannot read {path}: it is not JSON ({error}). Copy it again.") from error
    try:
        return _spec(given)
    except _Wrong as error:
        raise DataError(f"Cannot use the specification {path}: {error}. Copy it again.") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"Cannot use {path}: it is no specification of Meta-Dataset ({why}). Expected the JSON of a "
            "DatasetSpecification, with class_names, images_per_class and the sizes of the splits."
        ) from error


class _Wrong(Exception):
    """A specification contradicts itself; the text says how."""


def _spec(given: dict[str, Any]) -> Spec:
    kind = given["__class__"]
    if given["file_pattern"] != "{}.tfrecords":
        raise _Wrong(f"files are called {given['file_pattern']!r}; expected '{{}}.tfrecords', one file a class")
    classes = _numbered(given["class_names"], "class_names")
    if len(set(classes)) != len(classes):
        raise _Wrong("two classes have the same name")
    if kind == "HierarchicalDatasetSpecification":
        return _of_graph(given, classes)
    images = tuple(int(count) for count in _numbered(given["images_per_class"], "images_per_class"))
    if len(images) != len(classes):
        raise _Wrong(f"it names {len(classes)} classes and counts the pictures of {len(images)}")
    groups = None
    if kind == "BiLevelDatasetSpecification":
        groups = _groups(given)
        sizes = {split: sum(group.size for group in found) for split, found in groups.items()}
    elif kind == "DatasetSpecification":
        sizes = {split: int(given["classes_per_split"][key]) for split, key in _SPLITS.items()}
    else:
        raise ValueError(f"a {kind!r} is not known")
    return Spec(given["name"], classes, images, _parts(sizes, len(classes)), groups, source=given)


def _numbered(given: Mapping[str, Any], what: str) -> tuple[Any, ...]:
    """Values by the numbers that are their keys."""
    found = {int(key): value for key, value in given.items()}
    if sorted(found) != list(range(len(found))):
        raise _Wrong(f"the numbers in {what} are not 0 to {len(found) - 1}")
    return tuple(found[number] for number in range(len(found)))


def _parts(sizes: Mapping[str, int], count: int) -> dict[str, range]:
    found, first = {}, 0
    for split, size in sizes.items():
        found[split] = range(first, first + size)
        first += size
    if first != count or min(sizes.values()) < 0:
        raise _Wrong(f"its splits have {', '.join(map(str, sizes.values()))} classes, and {count} are named")
    return found


def _groups(given: Mapping[str, Any]) -> dict[str, tuple[Group, ...]]:
    names = _numbered(given["superclass_names"], "superclass_names")
    sizes = _numbered(given["classes_per_superclass"], "classes_per_superclass")
    counts = {split: int(given["superclasses_per_split"][key]) for split, key in _SPLITS.items()}
    if not len(names) == len(sizes) == sum(counts.values()):
        raise _Wrong(
            f"it names {len(names)} groups, counts the classes of {len(sizes)} and divides {sum(counts.values())}"
        )
    all_groups, first = [], 0
    for name, size in zip(names, sizes, strict=True):
        all_groups.append(Group(name, first, int(size)))
        first += int(size)
    found, place = {}, 0
    for split, count in counts.items():
        found[split] = tuple(all_groups[place : place + count])
        place += count
    return found


def _of_graph(given: Mapping[str, Any], classes: tuple[str, ...]) -> Spec:
    numbers = {name: number for number, name in enumerate(classes)}
    images, spans, sizes = [0] * len(classes), {}, {}
    for split, key in _SPLITS.items():
        graph, counts = given["split_subgraphs"][key], given["images_per_class"][key]
        leaves = _leaves(graph)
        own = {node["wn_id"] for node in graph if not node["children_ids"]}
        if unnamed := sorted(own - set(numbers)):
            raise _Wrong(f"the leaf {unnamed[0]} of the graph of {key} is no class")
        for name in own:
            images[numbers[name]] = int(counts[name])
        sizes[split] = len(own)
        inner = sorted(node["wn_id"] for node in graph if node["children_ids"])
        spans[split] = tuple(tuple(numbers[leaf] for leaf in sorted(leaves[node])) for node in inner)
    parts = _parts(sizes, len(classes))
    for split, part in parts.items():
        if any(number not in part for span in spans[split] for number in span):
            raise _Wrong(f"a class below the graph of {_SPLITS[split]} belongs to another split")
    return Spec(given["name"], classes, tuple(images), parts, spans=spans, source=given)


def _leaves(graph: list[dict[str, Any]]) -> dict[str, frozenset[str]]:
    """Each node -> the leaves that can be reached from it; of a leaf itself."""
    children = {node["wn_id"]: node["children_ids"] for node in graph}
    found: dict[str, frozenset[str]] = {}
    above: set[str] = set()

    def reach(node: str) -> frozenset[str]:
        if node not in found:
            if node in above:
                raise _Wrong(f"the graph goes round in a ring through {node}")
            if node not in children:
                raise _Wrong(f"the graph leads to {node}, which it does not have")
            above.add(node)
            below = [reach(child) for child in children[node]]
            above.remove(node)
            found[node] = frozenset().union(*below) if below else frozenset([node])
        return found[node]

    for node in children:
        reach(node)
    return found
