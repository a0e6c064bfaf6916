"""Specifications: the published ones are what the paper counts, and those that contradict themselves are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from quickstudy.data.metadataset.specs import COUNTS, LISTS, SPEC, published, read_spec, spec_of
from quickstudy.errors import DataError, UnknownName
from tests.conftest import needed


@pytest.fixture(scope="session")
def lists(data_root: Path) -> Path:
    needed(data_root / LISTS)
    return data_root


def test_the_published_counts(lists: Path) -> None:
    assert sum(map(sum, COUNTS.values())) == 4934
    specs = {name: published(name, lists) for name in COUNTS}
    assert {name: tuple(map(len, spec.parts.values())) for name, spec in specs.items()} == COUNTS
    for name, spec in specs.items():
        listed = lists / LISTS / "splits" / f"{name}_splits.json"
        if listed.exists():  # of eight; Omniglot and ILSVRC are divided by alphabets and by the graph
            parts = json.loads(listed.read_text())
            assert list(spec.classes) == parts["train"] + parts["valid"] + parts["test"]
        assert spec.with_images(spec.images) == spec.source  # counts of inner nodes included


def test_alphabets(lists: Path) -> None:
    spec = published("omniglot", lists)
    assert spec.groups is not None
    assert [len(groups) for groups in spec.groups.values()] == [25, 5, 20]
    assert [group.size for group in spec.groups["validation"]] == [14, 14, 16, 17, 20]
    for groups in spec.groups.values():
        for group in groups:
            names = spec.classes[group.first : group.first + group.size]
            assert {name.rsplit("-", 1)[0] for name in names} == {group.name}


def small(kind: str = "DatasetSpecification") -> dict[str, Any]:
    spec: dict[str, Any] = {
        "name": "dtd",
        "__class__": kind,
        "file_pattern": "{}.tfrecords",
        "class_names": {str(n): f"c{n}" for n in range(4)},
        "images_per_class": {str(n): 5 for n in range(4)},
        "classes_per_split": {"TRAIN": 2, "VALID": 1, "TEST": 1},
    }
    if kind == "BiLevelDatasetSpecification":
        spec |= {
            "superclass_names": {"0": "A", "1": "B", "2": "C"},
            "classes_per_superclass": {"0": 2, "1": 1, "2": 1},
            "superclasses_per_split": {"TRAIN": 1, "VALID": 1, "TEST": 1},
        }
    if kind == "HierarchicalDatasetSpecification":
        spec["split_subgraphs"] = {
            "TRAIN": [node("r", ["c0", "c1"]), node("c0"), node("c1")],
            "VALID": [node("c2")],
            "TEST": [node("c3")],
        }
        spec["images_per_class"] = {"TRAIN": {"c0": 5, "c1": 6, "r": 11}, "VALID": {"c2": 7}, "TEST": {"c3": 8}}
    return spec


def node(name: str, children: list[str] | None = None) -> dict[str, Any]:
    return {"wn_id": name, "words": name, "children_ids": children or [], "parents_ids": []}


def test_each_kind(tmp_path: Path) -> None:
    for kind in ("DatasetSpecification", "BiLevelDatasetSpecification", "HierarchicalDatasetSpecification"):
        (tmp_path / SPEC).write_text(json.dumps(small(kind)))
        spec = spec_of(tmp_path)
        assert spec.parts == {"train": range(2), "validation": range(2, 3), "test": range(3, 4)}
    assert spec.spans == {"train": ((0, 1),), "validation": (), "test": ()} and spec.images == (5, 6, 7, 8)
    assert spec.with_images((1, 2, 3, 4))["images_per_class"]["TRAIN"] == {"c0": 1, "c1": 2, "r": 3}


GRAPH = "HierarchicalDatasetSpecification"
GROUPS = "BiLevelDatasetSpecification"


@pytest.mark.parametrize(
    ("kind", "change", "sentence"),
    [
        ("DatasetSpecification", {"class_names": {"0": "a", "2": "b"}}, "the numbers in class_names are not 0 to 1"),
        ("DatasetSpecification", {"class_names": {str(n): "a" for n in range(4)}}, "two classes have the same name"),
        ("DatasetSpecification", {"images_per_class": {"0": 5}}, "names 4 classes and counts the pictures of 1"),
        ("DatasetSpecification", {"file_pattern": "{}_{}.tfrecords"}, r"files are called '\{\}_\{\}\.tfrecords'"),
        (
            "DatasetSpecification",
            {"classes_per_split": {"TRAIN": 2, "VALID": 2, "TEST": 1}},
            "its splits have 2, 2, 1 classes, and 4 are named",
        ),
        ("DatasetSpecification", {"class_names": None}, "no specification of Meta-Dataset"),
        ("DatasetSpecification", {"__class__": "Other"}, "a 'Other' is not known"),
        (GROUPS, {"classes_per_superclass": {"0": 2, "1": 1}}, "names 3 groups, counts the classes of 2 and divides 3"),
        (GROUPS, {"superclasses_per_split": {"TRAIN": 1}}, "'VALID' is missing"),
        (
            GRAPH,
            {"split_subgraphs": {"TRAIN": [node("x")], "VALID": [], "TEST": []}},
            "the leaf x of the graph of TRAIN",
        ),
        (
            GRAPH,
            {"split_subgraphs": {"TRAIN": [node("r", ["s"]), node("s", ["r"])], "VALID": [], "TEST": []}},
            "the graph goes round in a ring through r",
        ),
        (GRAPH, {"split_subgraphs": {"TRAIN": [node("r", ["s"])], "VALID": [], "TEST": []}}, "the graph leads to s"),
    ],
)
def test_what_contradicts_itself(tmp_path: Path, kind: str, change: dict[str, Any], sentence: str) -> None:
    path = tmp_path / SPEC
    path.write_text(json.dumps(small(kind) | change))
    with pytest.raises(DataError, match=f"Cannot use .*{SPEC}.*{sentence}"):
        read_spec(path)


def test_files_that_are_no_specification(tmp_path: Path) -> None:
    folder = tmp_path / "dtd"
    folder.mkdir()
    with pytest.raises(DataError, match=r"it has no dataset_spec\.json, .* `quickstudy convert dtd`"):
        spec_of(folder)
    (folder / "dataset_spec.pkl").write_bytes(b"\x80\x04")
    with pytest.raises(DataError, match=r"its specification is a pickle \(dataset_spec\.pkl\), which may run any code"):
        spec_of(folder)
    (folder / SPEC).write_text("{")
    with pytest.raises(DataError, match=r"it is not JSON"):
        spec_of(folder)
    (folder / SPEC).write_text("[]")
    with pytest.raises(DataError, match=r"it is no specification of Meta-Dataset"):
        spec_of(folder)


def test_the_published_lists(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"no data set of Meta-Dataset called 'birds'.*Known: aircraft, cu_birds"):
        published("birds", tmp_path)
    with pytest.raises(DataError, match=r"Cannot find the published list of dtd.*Run `quickstudy fetch meta-dataset`"):
        published("dtd", tmp_path)
    path = tmp_path / LISTS / "dataset_specs" / "dtd_dataset_spec.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(small()))
    with pytest.raises(DataError, match=r"lists dtd with 2, 1, 1 classes .* published with 33, 7, 7\. Fetch it again"):
        published("dtd", tmp_path)
