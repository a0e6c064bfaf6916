"""``quickstudy learn``, ``predict``, ``add`` and ``inspect``."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_wine

from quickstudy.cli import main

TEXTS = """text,label
where is my card,card
my card is lost,card
the card does not work,card
send money abroad,money
transfer money to a friend,money
how do I pay money in,money
"""


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def draw(folder: Path, labels: list[int], first: int = 0, n: int = 6) -> Path:
    """Drawings, a folder a class, dark on white, of several sizes."""
    digits = load_digits()
    for label in labels:
        place = folder / f"digit {label}"
        place.mkdir(parents=True)
        for number, row in enumerate(np.flatnonzero(digits.target == label)[first : first + n]):
            ink = Image.fromarray((255 - digits.images[row] * 15).astype(np.uint8))
            ink.resize((24 + 4 * number, 24 + 4 * number)).save(place / f"{number}.png")
    return folder


@pytest.fixture
def task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    status, out, _ = call(capsys, "learn", draw(tmp_path / "classes", [0, 1, 2]), "--out", tmp_path / "task")
    assert status == 0 and out.startswith("3 classes of pictures: digit 0 (6), digit 1 (6), digit 2 (6)\n")
    assert "learner: drawings" in out
    return tmp_path / "task"


def test_pictures(task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = draw(tmp_path / "new", [0, 1, 2], first=6, n=5)
    status, out, _ = call(capsys, "predict", task, new, "--json")
    assert status == 0
    answers = json.loads(out)["answers"]
    assert len(answers) == 15
    right = [Path(answer["name"]).parent.name == answer["label"] for answer in answers]
    assert sum(right) >= 13
    assert {"name", "label", "probability", "unknown", "nearest"} == answers[0].keys()
    near = answers[0]["nearest"]
    assert len(near) == 3 and near[0]["distance"] <= near[1]["distance"]
    assert Path(near[0]["name"]).is_file(), "an example that was shown"


def test_a_class_that_is_added_is_as_if_it_had_been_there(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = draw(tmp_path / "more", [5])
    assert call(capsys, "add", task, more / "digit 5")[0] == 0
    everything = draw(tmp_path / "all", [0, 1, 2, 5])
    assert call(capsys, "learn", everything, "--out", tmp_path / "at once")[0] == 0
    new = draw(tmp_path / "new", [0, 5], first=6, n=4)
    said = [
        json.loads(call(capsys, "predict", one, new, "--json")[1])["answers"] for one in (task, tmp_path / "at once")
    ]
    assert [a["label"] for a in said[0]] == [a["label"] for a in said[1]]
    assert [a["probability"] for a in said[0]] == pytest.approx([a["probability"] for a in said[1]], abs=1e-3)
    status, out, _ = call(capsys, "inspect", task, "--json")
    assert status == 0
    assert json.loads(out)["classes"][-1] == {"label": "digit 5", "examples": 6}


def test_texts_and_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text(TEXTS)
    assert call(capsys, "learn", tmp_path / "t.csv", "--out", tmp_path / "t", "--learner", "tf-idf")[0] == 0
    (tmp_path / "new.txt").write_text("what about my lost card\n\nmoney for a friend\n")
    status, out, _ = call(capsys, "predict", tmp_path / "t", tmp_path / "new.txt")
    assert status == 0
    assert [line.split()[1] for line in out.splitlines()] == ["card", "money"]
    wine = load_wine()
    with (tmp_path / "wine.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow([*wine.feature_names, "label"])
        rows.writerows([*wine.data[number], "abc"[wine.target[number]]] for number in range(0, 178, 5))
    assert "(rows of a small table)\n" in call(capsys, "learn", tmp_path / "wine.csv", "--out", tmp_path / "wine")[1]
    with (tmp_path / "asked.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["comment", *reversed(wine.feature_names)])  # in another order, and one more
        rows.writerows([0, *reversed(wine.data[number])] for number in range(1, 178, 10))
    _, out, _ = call(capsys, "predict", tmp_path / "wine", tmp_path / "asked.csv", "--json")
    labels = [answer["label"] for answer in json.loads(out)["answers"]]
    truth = ["abc"[wine.target[number]] for number in range(1, 178, 10)]
    assert sum(map(str.__eq__, labels, truth)) >= len(truth) - 3


def test_what_cannot_be_read_is_named_and_left_out_where_that_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = draw(tmp_path / "classes", [0, 1])
    (classes / "digit 0" / "broken.png").write_bytes(b"nonsense")
    status, _, err = call(capsys, "learn", classes, "--out", tmp_path / "task")
    assert status == 2 and "broken.png" in err and "Traceback" not in err
    assert not (tmp_path / "task").exists()
    status, out, err = call(capsys, "learn", classes, "--out", tmp_path / "task", "--skip")
    assert status == 0 and "digit 0 (6)" in out
    assert "left out: " in err and "broken.png" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("learn", "nowhere", "--out", "x"), "Cannot read nowhere: there is no such file"),
        (("learn", "empty", "--out", "x"), "Cannot find classes in empty: it has no subfolders"),
        (("learn", "half", "--out", "x"), "Cannot use the class 'b': half/b holds no picture and no recording"),
        (("learn", "one", "--out", "x"), "All examples are of one class, 'digit 0'"),
        (
            ("learn", "mixed", "--out", "x"),
            "it holds both pictures (mixed/digit 0/0.png) and recordings (mixed/s/a.wav)",
        ),
        (("learn", "t.csv", "--label", "lable", "--out", "x"), "there is no column 'lable' among 'text', 'label'"),
        (
            ("learn", "words.csv", "--out", "x", "--target", "size"),
            "as a number: row 2 has 'large'. Correct it, or learn",
        ),
        (("learn", "words.csv", "--out", "x", "--label", "size"), "no column says anything in the training rows"),
        (
            ("learn", "words.csv", "--out", "x", "--categories", "siz"),
            "no column in words.csv called 'siz'. Did you mean",
        ),
        (("learn", "mixed", "--out", "x", "--target", "size"), "Cannot learn a number from mixed: a folder names"),
        (("learn", "t.csv", "--out", "one"), "Cannot save a task to one: something else is there"),
        (("predict", "one", "t.csv"), "There is no saved task at one"),
        (("predict", "task", "t.csv"), "Cannot use t.csv: pictures were learned"),
        (("add", "task", "t.csv"), "Cannot add texts to task: it learned pictures"),
        (
            ("learn", "t.csv", "--reject-unknown", "5", "--out", "x"),
            "reject_unknown must be a number above 0 and below 1",
        ),
    ],
)
def test_bad_input(
    arguments: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "one", [0])
    draw(tmp_path / "mixed", [0])
    for folder in ("empty", "half/b", "mixed/s"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "half" / "a").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "half" / "a" / "x.png")
    (tmp_path / "mixed" / "s" / "a.wav").write_bytes(b"RIFF")
    (tmp_path / "t.csv").write_text(TEXTS)
    (tmp_path / "words.csv").write_text("size,label\nlarge,a\nsmall,a\n")
    if "task" in arguments:
        assert call(capsys, "learn", draw(tmp_path / "two", [0, 1]), "--out", "task", "--learner", "knn")[0] == 0
    status, out, err = call(capsys, *arguments)
    assert status == 2, err
    assert says in err and "Traceback" not in err and out == ""
    assert not (tmp_path / "x").exists()
