"""`quickstudy convert`, and the recipes of Meta-Dataset where there are records and where there are none."""

import json
from pathlib import Path

import pytest

import quickstudy as library
from quickstudy.data.fetch import _is_right
from quickstudy.data.metadataset.specs import COUNTS, LISTS
from quickstudy.data.published import FOLDERS, PUBLISHED
from quickstudy.errors import DataError
from tests.cli.conftest import Command
from tests.conftest import needed
from tests.data.metadataset import made


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with the raw files of Textures; its lists, too."""
    monkeypatch.setitem(COUNTS, "dtd", made.PARTS)
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("QUICKSTUDY_KERNELS", "torch")  # else they are compiled anew into that cache
    made.make("dtd", tmp_path)
    return tmp_path


def test_from_raw_files_to_a_figure(root: Path, quickstudy: Command) -> None:
    raw = root / "raw" / "dtd"
    done = quickstudy("convert", "dtd", raw, "--data-root", root, "--json")
    assert done.status == 0 and json.loads(done.out) == {"data": "dtd", "folder": str(root / "meta-dataset" / "dtd")}
    again = quickstudy("convert", "dtd", raw, "--data-root", root)
    assert again.status == 2 and "holds the records of dtd already" in again.err
    small = {"data.datasets": ["dtd"], "data.size": 16, "net.name": "conv4", "net.filters": 4, "train.steps": 2}
    small |= {"episodes.train.way": [2, 50], "episodes.test.way": [2, 50], "train.validate-every": 0}
    run = library.train("meta-dataset-all-protonet", overrides=small, data_root=root, runs=root / "runs")
    found = library.evaluate(run, episodes=3, data_root=root, report=False)
    assert found.episodes == 3 and found.source["data-sets"] == ["dtd"]
    assert "on meta-dataset (dtd), test, " in str(found), "which column of the table it is"
    with pytest.raises(DataError, match="Cannot find the records of fungi"):
        library.evaluate(run, episodes=3, data_root=root, overrides={"data.test": "fungi"}, report=False)


@pytest.mark.parametrize("protocol", ["imagenet", "all"])
@pytest.mark.parametrize("learner", ["protonet", "fo-protomaml"])
def test_without_records_a_sentence_says_which(
    tmp_path: Path, quickstudy: Command, protocol: str, learner: str
) -> None:
    done = quickstudy("train", f"meta-dataset-{protocol}-{learner}", "--data-root", tmp_path, "--runs", tmp_path)
    named = "ilsvrc_2012 that" if protocol == "imagenet" else "ilsvrc_2012, omniglot, aircraft, cu_birds, dtd, "
    assert done.status == 2 and f"Cannot find the records of {named}" in done.err
    assert "Traceback" not in done.err


def test_bad_input(root: Path, quickstudy: Command) -> None:
    for arguments, sentence in (
        (("convert", "birds"), "Did you mean 'cu_birds'?"),
        (("convert", "dtd"), "it is not said where its published files lie"),
        (("convert", "dtd", root / "nowhere"), "cannot be read (No such file or directory)"),
        (("convert", "fungi", root), "Run `quickstudy fetch meta-dataset`"),
    ):
        done = quickstudy(*arguments, "--data-root", root)
        assert done.status == 2 and sentence in done.err


def test_the_lists_that_are_fetched(data_root: Path) -> None:
    folder = needed(data_root / LISTS)
    assert data_root / FOLDERS["meta-dataset"] == folder
    files = PUBLISHED["meta-dataset"]
    assert all(_is_right(folder / file.path, file) for file in files)
    assert {f"dataset_specs/{name}_dataset_spec.json" for name in COUNTS} <= {file.path for file in files}
    assert all(file.url.endswith(f"/meta_dataset/dataset_conversion/{file.path}") for file in files)
