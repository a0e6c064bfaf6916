"""`quickstudy evaluate RUN --texts FILE`, `--data.test FILE`: other texts, read with the words of the training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quickstudy.data import Texts
from tests.cli.conftest import Command
from tests.nets.encoders import saved, with_tokenizer

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
    report = (run / "report.html").read_text()
    assert "<h2>Texts: 2-way 1-shot, texts, another file</h2>" in report and "a much longer text than all" in report


def test_labels_that_train(run: Path, mine: Path, tmp_path: Path, quickstudy: Command) -> None:
    copy = tmp_path / "copy.csv"
    copy.write_text(mine.read_text())
    refused = quickstudy("evaluate", run, "--texts", copy, "--data.split", "test", *SIZES)
    assert refused.status != 0 and "was trained on them (split.json)" in refused.err, refused.err
    beside = quickstudy("evaluate", run, "--data.test", copy, *SIZES)
    assert beside.status != 0 and "no label has two left" in beside.err, beside.err


def test_texts_that_train_under_other_labels(mine: Path, tmp_path: Path, quickstudy: Command) -> None:
    """A pretrained tokenizer numbers the words of any file alike; what was trained on is known all the same."""
    folder = with_tokenizer(saved("bert", tmp_path / "encoder"), ["please", "number", *(f"label{n}" for n in range(8))])
    pretrained = ("--data.tokenizer", folder, "--net.model", folder, "--data.length", "8")
    done = quickstudy("train", "texts-protonet-fast", "--texts", mine, *SMALL, *pretrained, "--runs", tmp_path / "runs")
    assert done.status == 0, done.err
    run, divided = Path(done.out.strip()), Texts(mine).divided
    other = tmp_path / "other.csv"
    seen = [f"Please {divided['train'][0]}  please number {n},old {n % 2}" for n in range(6)]
    fresh = [f"please {divided['test'][0]} please number {n},old {n % 2}" for n in range(6)]
    other.write_text("\n".join(["text,label", *seen, *fresh]) + "\n")
    tested = quickstudy("evaluate", run, "--texts", other, "--data.split", "test", "--query", "1", *SIZES)
    assert tested.status == 0 and json.loads(tested.out)["source"]["left_out"] == {"trained": 6}, tested.err
    other.write_text("\n".join(["text,label", *seen]) + "\n")
    refused = quickstudy("evaluate", run, "--texts", other, "--data.split", "test", "--query", "1", *SIZES)
    assert refused.status == 2 and "trained on 6 of its texts, and without them no label" in refused.err, refused.err
    capital = tmp_path / "capital.csv"
    capital.write_text(
        "text,label\n" + "".join(f"new {n},{divided['train'][0].upper()}\nold {n},y\n" for n in range(4))
    )
    refused = quickstudy("evaluate", run, "--texts", capital, "--data.split", "test", "--query", "1", *SIZES)
    assert refused.status == 2 and "it was trained on them (split.json)" in refused.err, refused.err


def test_words_of_other_numbers(run: Path, tmp_path: Path, quickstudy: Command) -> None:
    other = texts(tmp_path / "other.csv", [f"other{n}" for n in range(8)], "kindly")
    refused = quickstudy("evaluate", run, "--texts", other, *SIZES)
    assert refused.status != 0 and "words have other numbers" in refused.err and "--data.test FILE" in refused.err
