"""``--json`` of the commands for one's own examples; texts that are no files; many files."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Command

TEXTS = "text,label\nmy card is lost,card\na stolen card,card\nsend money,money\nmoney for a friend,money\n"


@pytest.fixture(autouse=True)
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quickstudy: Command) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(TEXTS)
    done = quickstudy("learn", "t.csv", "--out", "task", "--learner", "tf-idf", "--json")
    said = json.loads(done.out)
    assert said["kind"] == "texts" and said["learner"] == "tf-idf" and said["left_out"] == {}
    assert said["classes"] == [{"label": "card", "examples": 2}, {"label": "money", "examples": 2}]


def test_one_document_each_and_none_where_something_is_wrong(quickstudy: Command) -> None:
    Path("more.csv").write_text("text,label\nspeak to somebody,person\nmy card is lost,card\n")
    added = json.loads(quickstudy("add", "task", "more.csv", "--json").out)
    assert [one["examples"] for one in added["classes"]] == [2, 2, 1] and list(added["left_out"]) == ["more.csv:3"]
    assert json.loads(quickstudy("inspect", "task", "--json").out)["classes"] == added["classes"]
    asked = json.loads(quickstudy("predict", "task", "t.csv", "--json").out)
    assert asked["task"] == "task" and asked["promise"] is None and len(asked["answers"]) == 4
    for wrong in (
        ("inspect", "x"),
        ("predict", "task", "x.csv"),
        ("add", "task", "x.csv"),
        ("learn", "x", "--out", "y"),
    ):
        done = quickstudy(*wrong, "--json")
        assert done.status == 2 and done.out == "" and done.err.startswith("error: ") and done.err.count("\n") == 1


def test_texts_that_are_no_files(quickstudy: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    done = quickstudy("predict", "task", "--text-value", "lost card", "--text-value", "wire money")
    assert [line.split()[:3] for line in done.out.splitlines()] == [["text", "1", "card"], ["text", "2", "money"]]
    monkeypatch.setattr("sys.stdin", io.StringIO("a card\n\nsome money\n"))
    answers = json.loads(quickstudy("predict", "task", "-", "t.csv", "--json").out)["answers"]
    assert [one["name"] for one in answers[:3]] == ["stdin:1", "stdin:3", "t.csv:2"] and len(answers) == 6
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert "There is nothing to say anything of: no texts" in quickstudy("predict", "task", "-").err
    assert "no texts" in quickstudy("predict", "task").err
    blank = quickstudy("predict", "task", "--text-value", " ")
    assert blank.status == 2 and "Cannot read text 0: expected words" in blank.err


def test_examples_that_look_unlike_training_are_said_once(quickstudy: Command) -> None:
    wild = np.exp(4 * np.random.default_rng(0).normal(size=(40, 4)))
    rows = [",".join([*map(str, row), f"c{number % 2}"]) for number, row in enumerate(wild.tolist())]
    Path("wild.csv").write_text("\n".join(["a,b,c,d,label", *rows]) + "\n")
    done = quickstudy("learn", "wild.csv", "--out", "wild", "--learner", "rows")
    assert (done.out + done.err).count("look unlike what rows was trained on") == 1
    warning = json.loads(quickstudy("inspect", "wild", "--json").out)["warning"]
    assert f"warning: {warning}\n" in done.out


def test_a_folder_is_answered_piece_by_piece(quickstudy: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    for label, level in (("dark", 40), ("light", 200)):
        Path("p", label).mkdir(parents=True)
        for number in range(4):
            pixels = draw.integers(level, level + 50, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"p/{label}/{number}.png")
    Path("p/dark/bad.png").write_bytes(b"nothing")
    assert quickstudy("learn", "p", "--out", "q", "--learner", "knn", "--skip").status == 0
    whole = quickstudy("predict", "q", "p", "--skip", "--json").out
    monkeypatch.setattr(sys.modules["quickstudy.cli.learn"], "_AT_ONCE", 3)
    pieces = quickstudy("predict", "q", "p", "--skip", "--json").out
    assert json.loads(pieces) == json.loads(whole) and len(json.loads(whole)["answers"]) == 8
    stopped = quickstudy("predict", "q", "p")
    assert stopped.status == 2 and "bad.png" in stopped.err and len(stopped.out.splitlines()) == 3
    wrong = quickstudy("predict", "q", "--text-value", "x")
    assert wrong.status == 2 and "Cannot use texts: the task learned pictures" in wrong.err
