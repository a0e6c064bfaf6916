"""`--sounds DIR`: trained, tested, and tested on recordings that lie elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import quickstudy as library
from quickstudy.data import Sounds
from quickstudy.errors import InputError
from quickstudy.evaluate import meta_test
from tests.cli.conftest import Command
from tests.data.soundfiles import folder_of_words

SMALL = (
    *("--train.steps", "2", "--train.validate-every", "0", "--net.filters", "4", "--ranks", "1"),
    *("--episodes.train.way", "2", "--episodes.test.way", "2", "--episodes.train.query", "1"),
)
SIZES = ("--episodes", "4", "--ranks", "1")
SPEAKERS = {"anna": 16000, "ben": 8000, "cy": 44100}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pitches = {f"word {n}": 200.0 * 1.2**n for n in range(8)}
    return folder_of_words(tmp_path_factory.mktemp("own") / "words", pitches, SPEAKERS)


@pytest.fixture
def run(quickstudy: Command, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(words.parent / "cache"))
    done = quickstudy("train", "sounds-protonet-fast", "--sounds", words, *SMALL, "--runs", tmp_path / "runs")
    assert done.status == 0, done.err
    return Path(done.out.strip())


def test_the_report_shows_what_was_heard(run: Path, words: Path, quickstudy: Command) -> None:
    assert json.loads((run / "split.json").read_text()) == Sounds(words).divided
    done = quickstudy("evaluate", run, *SIZES)
    assert done.status == 0, done.err
    page = (run / "report.html").read_text()
    assert "Spectrograms: sounds, test" in page and "one recording to learn from, then 3 asked for: &#39;word" in page


def test_the_same_recordings_elsewhere(run: Path, words: Path, tmp_path: Path, quickstudy: Command) -> None:
    name = json.loads((run / "split.json").read_text())["train"][0]
    other = folder_of_words(tmp_path / "other", {"x": 333.0, "y": 555.0}, SPEAKERS)
    done = quickstudy("evaluate", run, "--sounds", other, "--data.split", "test", *SIZES)
    assert done.status == 0, done.err
    shutil.copytree(words / name, other / "z")
    refused = quickstudy("evaluate", run, "--sounds", other, "--data.split", "test", *SIZES)
    assert refused.status == 2 and "on 'z': it was trained on the same examples (6 of 6 of 'z')" in refused.err
    tasks = Sounds(other, split="test").tasks("test", way=2, shot=1, query=1, seed=0)
    with pytest.raises(InputError, match=r"on 'z': it was trained on the same examples"):
        meta_test(library.load(run), tasks, episodes=2)
    longer = Sounds(other, split="test", seconds=2.0).tasks("test", way=2, shot=1, query=1, seed=0)
    with pytest.raises(
        InputError, match=r"of shape \[8000\], and theirs is \[16000\] .*--data\.rate and --data\.seconds of sounds"
    ):
        meta_test(library.load(run), longer, episodes=2)
