"""The splits of Omniglot: their sizes, and that what is tested was never trained on."""

import hashlib
from pathlib import Path

import pytest

from quickstudy.data.splits import SPLITS, note, roles, split_names
from quickstudy.errors import DataError, UnknownName

SIZES = {
    "vinyals": {"train": 1028, "validation": 172, "test": 423, "train+validation": 1200},
    "alphabets": {"train": 808, "validation": 156, "test": 659, "train+validation": 964},
    "maml": {"train": 1100, "validation": 100, "test": 423, "train+validation": 1200},
    "reptile": {"train": 1200, "test": 423},
}


@pytest.mark.parametrize("split", SPLITS)
def test_sizes_and_no_overlap(data_root: Path, split: str) -> None:
    found = split_names(split, data_root / "omniglot")
    assert {role: len(names) for role, names in found.items()} == SIZES[split]
    assert set(found) == set(roles(split))
    parts = [set(found[role]) for role in ("train", "validation", "test") if role in found]
    assert len(set().union(*parts)) == sum(map(len, parts)) == 1623, "no character twice, none left out"
    if "validation" in found:
        assert found["train+validation"] == sorted(found["train"] + found["validation"])


def test_what_one_paper_trains_on_the_other_never_tests_on() -> None:
    maml, reptile = split_names("maml", Path()), split_names("reptile", Path())
    assert maml["test"] == reptile["test"]
    assert maml["train+validation"] == reptile["train"]


def test_fixed_lists_stay_what_they_are() -> None:
    maml = split_names("maml", Path())
    digests = [hashlib.sha256("\n".join(maml[role]).encode()).hexdigest()[:16] for role in ("test", "validation")]
    assert digests == ["154f70be45f5db0f", "f15b609f50e0ebbc"]


def test_alphabets_stay_whole() -> None:
    found = split_names("alphabets", Path())
    alphabets = [{name.split("/")[0] for name in found[role]} for role in ("train", "validation", "test")]
    assert [len(names) for names in alphabets] == [25, 5, 20]
    assert len(set().union(*alphabets)) == 50


def test_what_is_not_as_published_is_said() -> None:
    assert note("vinyals") == ""
    assert "1,100 / 100 / 423 characters), not its characters" in note("maml")
    assert "1,200 / 423 characters), not its characters" in note("reptile")
    assert "Sanskrit serve for validation" in note("alphabets")


def test_unknown_split() -> None:
    with pytest.raises(UnknownName, match=r"There is no split of omniglot called 'vinyal'\. Did you mean 'vinyals'\?"):
        roles("vinyal")


def test_missing_list(tmp_path: Path) -> None:
    sentence = (
        r"Cannot find the Vinyals split of Omniglot: there is no file .*train\.txt\. Run `quickstudy fetch omniglot`"
    )
    with pytest.raises(DataError, match=sentence):
        split_names("vinyals", tmp_path)


@pytest.mark.parametrize("wrong", ["cut off", "a line less", "a foreign name", "a line twice"])
def test_list_that_is_not_the_published(data_root: Path, tmp_path: Path, wrong: str) -> None:
    folder = tmp_path / "splits" / "vinyals"
    folder.mkdir(parents=True)
    for name in ("train.txt", "val.txt", "test.txt"):
        text = (data_root / "omniglot" / "splits" / "vinyals" / name).read_text()
        (folder / name).write_text(text)
    lines = (folder / "test.txt").read_text().splitlines()
    changed = {
        "cut off": lines[:1000],
        "a line less": lines[1:],
        "a foreign name": [line.replace("Gurmukhi/", "Gurkha/") for line in lines],
        "a line twice": [*lines, "Angelic/character01/rot000"],
    }[wrong]
    (folder / "test.txt").write_text("\n".join(changed))
    with pytest.raises(
        DataError, match=r"Cannot use .*test\.txt: it lists \d+ characters in \d+ lines, not the published"
    ):
        split_names("vinyals", tmp_path)


def test_list_that_is_no_text(data_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "splits" / "vinyals"
    folder.mkdir(parents=True)
    (folder / "train.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"Cannot read .*train\.txt: 'utf-8' codec can't decode"):
        split_names("vinyals", tmp_path)
