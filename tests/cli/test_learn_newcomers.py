"""``quickstudy learn`` and its kin, by whoever has not read the manual."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Command


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def learned(quickstudy: Command) -> None:
    Path("good.csv").write_text("text,label\nmy parcel,ship\nmoney back,refund\n", encoding="utf-8")
    assert quickstudy("learn", "good.csv", "--out", "t", "--learner", "tf-idf").status == 0


def test_lines_that_cannot_be_used_are_left_out_where_that_is_wanted(quickstudy: Command) -> None:
    Path("t.csv").write_text("text,label\nmy parcel,ship\n,ship\nmoney back,\na,b,c\nmoney,refund\n", encoding="utf-8")
    Path("t.jsonl").write_text(
        '{"text": "my parcel", "label": "ship"}\nno JSON\n{"text": "money"}\n{"text": "money", "label": "refund"}\n',
        encoding="utf-8",
    )
    for name, lines in (("t.csv", [3, 4, 5]), ("t.jsonl", [2, 3])):
        options = ("learn", name, "--out", f"{name}-task", "--learner", "tf-idf")
        refused = quickstudy(*options)
        assert refused.status == 2 and f"Cannot use line {lines[0]} of {name}" in refused.err
        assert not Path(f"{name}-task").exists()
        done = quickstudy(*options, "--skip", "--json")
        found = json.loads(done.out)
        assert done.status == 0 and list(found["left_out"]) == [f"{name}:{line}" for line in lines]
        assert [one["examples"] for one in found["classes"]] == [1, 1]
        said = quickstudy("predict", f"{name}-task", name, "--skip", "--json")
        assert said.status == 0 and f"{name}:{lines[0]}" in json.loads(said.out)["left_out"]
    done = quickstudy("learn", "t.csv", "--out", "u", "--learner", "tf-idf", "--skip")
    assert "left out: t.csv:3: the text is empty" in done.err


def test_a_column_that_was_named_and_is_not_there(quickstudy: Command) -> None:
    learned(quickstudy)
    done = quickstudy("learn", "good.csv", "--out", "u", "--text", "message")
    assert done.status == 2 and "there is no column 'message' among 'text', 'label'" in done.err
    Path("large.csv").write_text("Text,Label\nmy parcel,ship\nmoney back,refund\n", encoding="utf-8")
    done = quickstudy("learn", "large.csv", "--out", "u", "--learner", "tf-idf", "--json")
    assert done.status == 0 and json.loads(done.out)["kind"] == "texts"


def test_a_task_that_is_replaced_is_said(quickstudy: Command) -> None:
    learned(quickstudy)
    again = quickstudy("learn", "good.csv", "--out", "t", "--learner", "tf-idf")
    assert again.status == 0 and "the task that was at t is replaced" in again.err
    assert "replaced" not in quickstudy("learn", "good.csv", "--out", "new", "--learner", "tf-idf").err


def test_a_task_that_is_not_there_says_how_one_is_made(quickstudy: Command) -> None:
    done = quickstudy("inspect", "nowhere")
    assert done.status == 2 and "Name a folder that `quickstudy learn` or `save` wrote." in done.err


def test_columns_that_were_learned_are_named(quickstudy: Command) -> None:
    rows = [f"{number},{number % 3}.5,{'ab'[number % 2]}" for number in range(8)]
    Path("rows.csv").write_text("\n".join(["id,size,label", *rows]), encoding="utf-8")
    assert "columns: id, size" in quickstudy("learn", "rows.csv", "--out", "t", "--learner", "knn").out
    assert "columns: id, size" in quickstudy("inspect", "t").out


def test_that_examples_look_unlike_training_is_said_once(quickstudy: Command) -> None:
    for place, label in enumerate("abc", 1):
        Path("s", label).mkdir(parents=True)
        tone = (20_000 * np.sin(np.arange(8000) * 0.1 * place)).astype("<i2")  # sung by nobody
        with wave.open(f"s/{label}/0.wav", "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(tone.tobytes())
    done = quickstudy("learn", "s", "--out", "t", "--learner", "sounds")
    assert done.status == 0 and (done.out + done.err).count("These examples look unlike") == 1


def test_names_of_broken_files_are_said_once(quickstudy: Command) -> None:
    for label in "ab":
        Path("p", label).mkdir(parents=True)
        Image.new("L", (9, 9), 255 * (label == "a")).save(f"p/{label}/0.png")
    Path("p/a/broken.png").write_text("no picture", encoding="utf-8")
    done = quickstudy("learn", "p", "--out", "t", "--learner", "knn", "--skip")
    assert "left out: p/a/broken.png: it is no picture that can be read here" in done.err
