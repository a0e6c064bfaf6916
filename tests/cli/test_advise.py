"""``quickstudy advise``."""

import json
from pathlib import Path

import pytest

from quickstudy.errors import InputError
from quickstudy.estimators import encoders
from tests.cli.conftest import Command

WORDS = {"card": "lost stolen broken frozen late new old blocked", "money": "send wire pay lend owe save spend borrow"}

RATED = [("awful", 1), ("bad", 2), ("fair", 3), ("good", 4), ("great", 5)]


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise InputError(f"Cannot find {name}.")

    monkeypatch.setattr(encoders, "Reader", missing)  # an encoder of sentences takes its time
    monkeypatch.chdir(tmp_path)
    lines = ["text,label"]
    for label, words in WORDS.items():
        lines += [f"my {label} {word},{label}" for word in words.split()]
    lines += ["My money: wire!,money", "my card LATE,money", "alone,single"]
    Path("t.csv").write_text("\n".join(lines) + "\n")


def test_in_words(texts: None, quickstudy: Command) -> None:
    done = quickstudy("advise", "t.csv", "--episodes", "5", "--learner", "tf-idf")
    assert done.status == 0, done.err
    for said in (
        "19 texts of 3 classes: card (8), money (10), single (1)",
        "not tried: minilm-logistic: Cannot find minilm.",
        "tasks they allow: up to 2 classes, with up to 6 example(s) of each",
        "too few: 'single' has fewer than two",
        "the same example twice: t.csv:11, t.csv:18",
        "the same example with different labels: t.csv:6 (card), t.csv:19 (money); correct or remove it",
        "quickstudy learn t.csv --out task --learner ",
        "guess ",
    ):
        assert said in done.out, said
    assert not Path("task").exists()


def test_as_json(texts: None, quickstudy: Command) -> None:
    done = quickstudy("advise", "t.csv", "--episodes", "5", "--json")
    said = json.loads(done.out)
    assert said["kind"] == "texts" and said["examples"] == 19 and said["usable"] == 15
    assert said["duplicates"] and said["at_odds"] == [{"t.csv:6": "card", "t.csv:19": "money"}]
    best = {one["learner"]: one["shots"][-1] for one in said["tried"]}
    assert best["guess"]["mean"] <= 0.6 and 0 <= best[said["take"]]["low"] <= best[said["take"]]["high"] <= 1
    assert {"lead_over_plain", "plain_is_enough", "as_chosen", "growth", "not_tried", "episodes"} <= said.keys()
    Path("few.csv").write_text("x,label\n1,a\n2,b\n")
    few = json.loads(quickstudy("advise", "few.csv", "--json").out)
    assert few["take"] is None and few["too_few"] == ["a", "b"] and "0 class(es)" in few["why_not"]


def test_bad_input(texts: None, quickstudy: Command) -> None:
    Path("d/a").mkdir(parents=True)
    Path("d/a/x.png").write_bytes(b"nothing")
    done = quickstudy("advise", "d")
    assert done.status == 2 and "There is not a single example in d that can be read" in done.err
    assert quickstudy("advise", "nowhere").status == 2
    assert "There is no learner called 'tfidf'" in quickstudy("advise", "t.csv", "--learner", "tfidf").err
    Path("rated.csv").write_text(
        "text,stars\n"
        + "".join(f"{word} {noun},{stars}\n" for word, stars in RATED for noun in ("film", "book", "play"))
    )
    rated = json.loads(quickstudy("advise", "rated.csv", "--target", "stars", "--episodes", "5", "--json").out)
    assert rated["metric"] == "R2" and rated["take"] == "words-ridge" and "minilm-ridge" in rated["not_tried"]
    assert {"words-ridge", "guess"} == {one["learner"] for one in rated["tried"]}
    told = quickstudy("advise", "rated.csv", "--target", "stars", "--episodes", "5").out
    assert "quickstudy learn rated.csv --out task --learner words-ridge --target stars" in told
    numbers = quickstudy("advise", "t.csv", "--target", "label")
    assert numbers.status == 2 and "as a number: row 2 has 'card'" in numbers.err
