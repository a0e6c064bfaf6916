"""Lake's 20 runs: the published file and nothing else, made of characters that background alphabets do not have."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from quickstudy.data.dataset import DataSet
from quickstudy.data.lakeruns import RUNS, LakeRuns, OmniglotRuns, has_published_runs
from quickstudy.data.omniglot import Omniglot
from quickstudy.data.registry import data_sets
from quickstudy.data.store import ArrayStore
from quickstudy.episode import first_leaf
from quickstudy.errors import DataError, InputError, UnknownName

SIZES = {"way": 20, "shot": 1, "query": 1}


@pytest.fixture(scope="module")
def runs(data_root: Path) -> LakeRuns:
    found = OmniglotRuns(data_root).tasks("test", seed=0, **SIZES)
    assert isinstance(found, LakeRuns)
    return found


def test_each_drawing_is_that_of_the_character_and_person_that_it_is_said_to_be(
    runs: LakeRuns, omniglot: ArrayStore
) -> None:
    """By its pixels: nobody published which characters the runs are made of."""
    episode = runs.episodes(range(20))
    support, query = first_leaf(episode.support.x).numpy(), first_leaf(episode.query.x).numpy()
    assert support.shape == (20, 20, 28, 28) and support.dtype == np.uint8
    assert episode.query.y is not None
    for number, run in enumerate(RUNS):
        for label, class_number in enumerate(omniglot.numbers(run.names)):
            assert (support[number, label] == omniglot.of(class_number)[run.learned_from - 1]).all()
            (item,) = np.flatnonzero(episode.query.y[number].numpy() == label)
            assert (query[number, item] == omniglot.of(class_number)[run.asked - 1]).all()


def test_nothing_of_them_is_trained_or_validated_on(data_root: Path, runs: LakeRuns, omniglot: ArrayStore) -> None:
    """By alphabet, by character, and by picture, in four turns."""
    data = OmniglotRuns(data_root)
    learned = data.divided["train+validation"]
    assert len(learned) == 964 and not {n.split("/")[0] for n in learned} & {run.alphabet for run in RUNS}
    assert not set(learned) & set(data.divided["test"])
    episode = runs.episodes(range(20))
    asked = {
        p.tobytes() for part in (episode.support, episode.query) for p in first_leaf(part.x).numpy().reshape(-1, 784)
    }
    assert len(asked) == 800
    rows = np.concatenate([np.arange(omniglot.starts[n], omniglot.starts[n + 1]) for n in omniglot.numbers(learned)])
    assert not asked & {picture.tobytes() for turned in omniglot.turned for picture in turned[rows]}


def test_trains_on_background_alphabets_as_omniglot_does(data_root: Path) -> None:
    data: DataSet = data_sets.get("omniglot-runs")(data_root)
    assert isinstance(data, DataSet) and data.shape == (1, 28, 28)
    sizes = {"way": 5, "shot": 1, "query": 2, "seed": 3}
    mine, theirs = data.tasks("train", **sizes), Omniglot(data_root, split="alphabets").tasks("train", **sizes)
    assert mine.settings == theirs.settings
    a, b = mine.episodes(range(2)), theirs.episodes(range(2))
    assert torch.equal(first_leaf(a.support.x), first_leaf(b.support.x))


def test_one_of_each_and_the_same_for_every_seed(data_root: Path, runs: LakeRuns) -> None:
    episode = runs.episodes(range(20))
    assert episode.support.y is not None and episode.query.y is not None
    for y in (episode.support.y, episode.query.y):
        assert (y.sort(1).values == torch.arange(20)).all()
    episode.check()
    assert runs.count == 20 and runs.shape.outputs == 20 and runs.shape.classes == 200
    assert runs.names_of(runs.episodes(range(4, 5)))[0] == "Glagolitic/character01"
    again = OmniglotRuns(data_root).tasks("test", seed=5, **SIZES)
    assert again.settings == runs.settings and again.hash == runs.hash
    large = OmniglotRuns(data_root, size=105, channels=3).tasks("test", seed=0, **SIZES)
    assert first_leaf(large.episodes(range(1)).query.x).shape == (1, 20, 3, 105, 105)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"way": 5}, "with way 5, shot 1, query 1: they were published as 20-way 1-shot tasks"),
        ({"query": 15}, "with way 20, shot 1, query 15"),
        ({"dirichlet": 2.0}, "with way 20, shot 1, query 1 and dirichlet 2"),
    ],
)
def test_other_sizes_are_refused(data_root: Path, sizes: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        OmniglotRuns(data_root).tasks("test", seed=0, **{**SIZES, **sizes})  # type: ignore[arg-type]


def test_no_further_runs(runs: LakeRuns, data_root: Path) -> None:
    with pytest.raises(InputError, match="There is no run 20: Lake's runs are numbered from 0 to 19"):
        runs.episodes(range(15, 21))
    with pytest.raises(UnknownName, match=r"no split of omniglot-runs called 'tst'\. Did you mean 'test'"):
        OmniglotRuns(data_root).tasks("tst", seed=0, **SIZES)


# --- the file ---------------------------------------------------------------------------------


def packed(data_root: Path, folder: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The published file, with some of its members changed, packed anew."""
    with zipfile.ZipFile(data_root / "omniglot" / "all_runs.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    path = folder / "omniglot" / "all_runs.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def swapped(members: dict[str, bytes]) -> None:
    a, b = "run03/test/item01.png", "run03/test/item02.png"
    members[a], members[b] = members[b], members[a]


def renamed(members: dict[str, bytes]) -> None:
    members["run02/class_labels.txt"] = members["run02/class_labels.txt"].replace(b"class08", b"class09")


def foreign(members: dict[str, bytes]) -> None:
    members["run02/class_labels.txt"] = members["run02/class_labels.txt"].replace(b"run02/test", b"run03/test")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.pop("run07/training/class03.png"), r"lacks 1 of the 820 files .* such as run07/training/class03"),
        (lambda m: m.pop("run07/class_labels.txt"), r"lacks 1 of the 820 files .* such as run07/class_labels"),
        (lambda m: m.update({"run21/test/item01.png": b""}), "holds run21/test/item01.png, which is no part of the 20"),
        (lambda m: m.update({"run01/test/item21.png": b""}), "holds run01/test/item21.png, which is no part of the 20"),
        (lambda m: m.update({"run01/test/item01.png": b"no picture"}), "is half downloaded or damaged"),
        (swapped, "its drawings or answers are not the published ones"),
        (renamed, "run02/class_labels.txt does not name each of the 20 items and classes once"),
        (foreign, "run02/class_labels.txt holds the line 'run03/test/item01.png run02/training/class"),
    ],
)
def test_files_missing_surplus_or_altered(
    data_root: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None], said: str
) -> None:
    path = packed(data_root, tmp_path, change)
    with pytest.raises(DataError, match=said):
        OmniglotRuns(tmp_path).tasks("test", seed=0, **SIZES)
    assert not has_published_runs(path)


def test_packed_anew_with_what_file_managers_add(data_root: Path, tmp_path: Path, runs: LakeRuns) -> None:
    path = packed(data_root, tmp_path, lambda members: members.update({"__MACOSX/x": b"", ".DS_Store": b""}))
    assert has_published_runs(path)
    assert OmniglotRuns(tmp_path).tasks("test", seed=0, **SIZES).hash == runs.hash


def test_cut_off_or_absent(data_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "omniglot"
    folder.mkdir()
    with pytest.raises(DataError, match=r"there is no file .*all_runs\.zip. Run `quickstudy fetch omniglot`"):
        OmniglotRuns(tmp_path).tasks("test", seed=0, **SIZES)
    shutil.copy(data_root / "omniglot" / "all_runs.zip", folder)
    whole = (folder / "all_runs.zip").read_bytes()
    (folder / "all_runs.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"all_runs\.zip: it is half downloaded or damaged"):
        OmniglotRuns(tmp_path).tasks("test", seed=0, **SIZES)
