"""`quickstudy evaluate RUN --texts FILE`, `--data.test FILE`: other texts, read with the words of the training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quickstudy.data import Texts
from tests.cli.conftest import Command

pytest.importorskip("transformers")

SMALL = (
    *("--train.steps", "2", "--train.validate-every", "0", "--net.width", "8", "--net.heads", "1"),
    *("--episodes.train.way", "2", "--episodes.validation.way", "2", "--episodes.test.way", "2", "--ranks", "1"),
)
SIZES = ("--episodes", "4", "--ranks", "1", "--json")


def texts(path: Path, labels: list[str], word: str) -> Path:
    rows = [f"{word} {label} {word} number {n},{label}" for label in labels for n in range(6)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return texts(tmp_path / "mine.csv", [f"label{n}" for n in range(8)], "please")


@pytest.fixture
def run(quickstudy: Command, mine: Path, tmp_path: Path) -> Path:
    done = quickstudy("train", "texts-protonet-fast", "--texts", mine, *SMALL, "--runs", tmp_path / "runs")
    assert done.status == 0, done.err
    return Path(done.out.strip())


def test_the_split_and_the_vocabulary_are_kept(run: Path, mine: Path) -> None:
    assert json.loads((run / "split.json").read_text()) == Texts(mine).divided
    assert json.loads((run / "environment.json").read_text())["numbering"] == Texts(mine).numbering


def test_another_file_of_longer_texts_beside_the_first(run: Path, tmp_path: Path, quickstudy: Command) -> None:
    other = texts(tmp_path / "other.csv", ["x", "y", "z"], "a much longer text than all of those in training")
    done = quickstudy("evaluate", run, "--data.test", other, *SIZES)
    assert done.status == 0, done.err


def test_labels_that_train(run: Path, mine: Path, tmp_path: Path, quickstudy: Command) -> None:
    copy = tmp_path / "copy.csv"
    copy.write_text(mine.read_text())
    refused = quickstudy("evaluate", run, "--texts", copy, "--data.split", "test", *SIZES)
    assert refused.status != 0 and "was trained on them (split.json)" in refused.err, refused.err
    beside = quickstudy("evaluate", run, "--data.test", copy, *SIZES)
    assert beside.status != 0 and "no label has two left" in beside.err, beside.err


def test_words_of_other_numbers(run: Path, tmp_path: Path, quickstudy: Command) -> None:
    other = texts(tmp_path / "other.csv", [f"other{n}" for n in range(8)], "kindly")
    refused = quickstudy("evaluate", run, "--texts", other, *SIZES)
    assert refused.status != 0 and "words have other numbers" in refused.err and "--data.test FILE" in refused.err
