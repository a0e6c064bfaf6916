"""``quickstudy learn`` of tables as people have them: words, gaps, numbers to be said."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Command


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Houses: where, how large, an unsaid age here and there, the price; and whether they are dear."""
    draw = np.random.default_rng(1)
    lines = ["town,rooms,age,price,dear"]
    for number in range(60):
        town, rooms = draw.choice(["York", "Leeds", "Hull"]), int(draw.integers(1, 7))
        price = 50 * rooms + (100 if town == "York" else 0) + draw.normal()
        age = "?" if number % 7 == 0 else str(int(draw.integers(1, 90)))
        lines.append(f"{town},{rooms},{age},{price:.1f},{'yes' if price > 250 else 'no'}")
    monkeypatch.chdir(tmp_path)
    Path("houses.csv").write_text("\n".join(lines[:41]) + "\n")
    Path("new.csv").write_text("\n".join([lines[0], *lines[41:]]) + "\n")
    return tmp_path


def test_words_and_gaps(table: Path, quickstudy: Command) -> None:
    done = quickstudy("learn", "houses.csv", "--label", "dear", "--out", "dear")
    assert done.status == 0, done.err
    asked = quickstudy("predict", "dear", "new.csv", "--json")
    truth = [line.rsplit(",", 1)[1] for line in Path("new.csv").read_text().splitlines()[1:]]
    answers = json.loads(asked.out)["answers"]
    assert sum(a["label"] == b for a, b in zip(answers, truth, strict=True)) >= 17
    said = json.loads(quickstudy("inspect", "dear", "--json").out)
    assert said["columns"] == ["town", "rooms", "age", "price"]
    Path("odd.csv").write_text(Path("new.csv").read_text().replace("York", "Bath"))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        odd = quickstudy("predict", "dear", "odd.csv")
        both = quickstudy("predict", "dear", "new.csv", "odd.csv", "--json")
    assert odd.status == 0
    assert "warning: Words that no labelled row has, taken for none of those: town: 'Bath'." in odd.err
    assert json.loads(both.out)["answers"][:20] == answers


def test_a_number(table: Path, quickstudy: Command) -> None:
    done = quickstudy("learn", "houses.csv", "--target", "price", "--out", "price", "--learner", "ridge")
    assert done.status == 0 and done.out.startswith("a number for rows: 40 examples, "), done.err
    answers = json.loads(quickstudy("predict", "price", "new.csv", "--json").out)["answers"]
    truth = [float(line.split(",")[3]) for line in Path("new.csv").read_text().splitlines()[1:]]
    inside = [a["interval90"][0] <= b <= a["interval90"][1] for a, b in zip(answers, truth, strict=True)]
    assert 14 <= sum(inside) <= 20
    assert np.corrcoef([a["value"] for a in answers], truth)[0, 1] > 0.9
    assert quickstudy("predict", "price", "new.csv").out.startswith("new.csv:2  ")
    more = quickstudy("add", "price", "new.csv", "--target", "price", "--json")
    assert json.loads(more.out)["numbers"]["examples"] == 60, more.err
    wrong = quickstudy("add", "price", "new.csv", "--label", "dear")
    assert wrong.status == 2 and "it learned numbers; name their column: --target NAME" in wrong.err
    odd = quickstudy("learn", "houses.csv", "--target", "price", "--out", "x", "--reject-unknown", "0.1")
    assert odd.status == 2 and "--reject-unknown is for classes" in odd.err


def test_a_gap_where_none_was_learned_is_refused_or_left_out(table: Path, quickstudy: Command) -> None:
    Path("a.csv").write_text("x,y,label\n1,2,a\n2,1,a\n8,9,b\n9,8,b\n")
    assert quickstudy("learn", "a.csv", "--out", "a").status == 0
    Path("gap.csv").write_text("x,y\n1,1\n9,NaN\n9,9\n")
    refused = quickstudy("predict", "a", "gap.csv")
    assert refused.status == 2 and "Cannot use row 3 of gap.csv: y is missing, as in 1 row(s) in all" in refused.err
    kept = quickstudy("predict", "a", "gap.csv", "--skip", "--json")
    said = json.loads(kept.out)
    assert [a["label"] for a in said["answers"]] == ["a", "b"]
    assert list(said["left_out"]) == ["gap.csv:3"]
    Path("unlabelled.csv").write_text("x,y,label\n1,2,a\n2,1,\n8,9,b\n9,8,b\n")
    assert "its label is missing" in quickstudy("learn", "unlabelled.csv", "--out", "b").err
    assert "left out: unlabelled.csv:3" in quickstudy("learn", "unlabelled.csv", "--out", "b", "--skip").err


def test_numbers_that_are_names(table: Path, quickstudy: Command) -> None:
    Path("codes.csv").write_text("code,label\n1,a\n2,b\nnone,b\n1,a\n")
    refused = quickstudy("learn", "codes.csv", "--out", "x")
    assert refused.status == 2 and "say that its numbers are names: --categories 'code'" in refused.err
    assert "--data." not in refused.err
    assert quickstudy("learn", "codes.csv", "--out", "x", "--categories", "code").status == 0
    Path("t.csv").write_text("phrase,label\nhello,a\nbye,b\n")
    hint = quickstudy("learn", "t.csv", "--text", "phrase", "--label", "lable", "--out", "y").err
    assert "--text NAME, --label NAME" in hint and "--data." not in hint
