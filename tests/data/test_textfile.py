"""Files of texts: what they may look like, and what each mistake is told."""

import csv
from pathlib import Path

import pytest

from quickstudy.data.corpus import corpus_of
from quickstudy.data.textfile import Labelled, read_texts
from quickstudy.errors import DataError


def pairs(path: Path, *names: str) -> list[tuple[str, str, int]]:
    return [(row.text, row.label, row.line) for row in read_texts(path, *names)]


def test_quoted_line_breaks_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('\ufefftext,label\r\n"one,\r\nand ""two""",x\r\n\r\nthree,y\r\n'.encode())
    assert pairs(path) == [('one,\r\nand "two"', "x", 2), ("three", "y", 5)]


def test_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("Label\tid\tText\nx\t1\thow, so\n")
    (tmp_path / "b.csv").write_text("intent;text\nx;how, so\n")
    (tmp_path / "c.jsonl").write_text('{"q": "how, so", "n": 3}\n\n{"q": "a\u2028b", "n": "x"}\n', encoding="utf-8")
    assert pairs(tmp_path / "a.tsv") == [("how, so", "x", 2)], "names of columns without regard to case"
    assert pairs(tmp_path / "b.csv", "text", "intent") == [("how, so", "x", 2)]
    assert pairs(tmp_path / "c.jsonl", "q", "n") == [("how, so", "3", 1), ("a\u2028b", "x", 3)]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", r"a\.csv: the file is empty"),
        ("a.csv", b"text,label\n", r"a\.csv: it holds none"),
        ("a.xlsx", b"x", r"its name ends in '\.xlsx'\. Give a file that ends in \.csv, \.tsv"),
        ("a.csv", b"words,label\na,b\n", r"line 1 of .*: there is no column 'text' among 'words', 'label'"),
        ("a.csv", b"text,text,label\na,b,c\n", r"line 1 of .*: two columns are called 'text'"),
        ("a.csv", b"text,label\na,x\nb, c,x\n", r"line 3 of .*: it has 3 columns, the first line names 2"),
        ("a.csv", b"text,label\na,x\n,x\n", r"line 3 of .*: the text is empty"),
        ("a.csv", b"text,label\na,x\nb,\n", r"line 3 of .*: the label is empty"),
        ("a.csv", b'text,label\na,x\n"b,x\nc,x\n', r"line 3 of .*: the record that begins here cannot be read"),
        ("a.csv", b"text,label\na,x\n\xffb,x\n", r"line 3 of .*: byte 15 of the file is not UTF-8"),
        ("a.jsonl", b'{"text": "a", "label": "x"}\nnot\n', r"line 2 of .*: it is no JSON"),
        ("a.jsonl", b"[1]\n", r"line 1 of .*: it is list, not an object"),
        ("a.jsonl", b'{"text": "a"}\n', r"line 1 of .*: it has no key 'label' among 'text'"),
        ("a.jsonl", b'{"text": 3, "label": "x"}\n', r"line 1 of .*: the text is 3, not words"),
        ("a.jsonl", b'{"text": "a \\ud83d", "label": "x"}\n', r"line 1 of .*: the text holds half a character"),
        ("a.jsonl", b'{"text": "a", "label": null}\n', r"line 1 of .*: the label is empty"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_texts(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read .*none\.csv: No such file"):
        read_texts(tmp_path / "none.csv")


def rows(*texts: str) -> list[Labelled]:
    found = [text.split(":") for text in texts]
    return [Labelled(text, label, line) for line, (label, text) in enumerate(found, 2)]


def test_a_text_longer_than_pythons_reader_takes(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    (tmp_path / "a.csv").write_text(f"text,label\n{'a ' * 100_000},x\n")
    assert len(pairs(tmp_path / "a.csv")[0][0]) == 199_999 and csv.field_size_limit() == limit


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"it is a folder\. Give a file that ends in \.csv"):
        read_texts(tmp_path)


def test_labels_that_differ_in_case_alone() -> None:
    """As two classes one of them might train and the other test."""
    with pytest.raises(
        DataError, match=r"line 4 of f: its label 'My  card' is that of line 2, 'my card', but for case"
    ):
        corpus_of("f", rows("my card:a", "x:b", "My  card:c"))


def test_each_text_once() -> None:
    found = corpus_of("f", rows("x:my card", "x:a", "x:My  card ", "y:b", "y:c"))
    assert len(corpus_of("f", rows("x:caf\u00e9", "x:CAFE\u0301", "x:cafe")).texts["x"]) == 2, "as composed, or not"
    assert found.texts == {"x": ("my card", "a"), "y": ("b", "c")} and found.left_out == {"repeated": 1}


def test_a_text_under_two_labels() -> None:
    given = rows("x:a", "x:b", "y:c", "y:d", "y:A")
    with pytest.raises(DataError, match=r"line 6 of f: the text 'A' has the label 'y' there and 'x' in line 2\."):
        corpus_of("f", given)
    found = corpus_of("f", [*given, *rows("x:e")], twice="drop")
    assert found.texts == {"x": ("b", "e"), "y": ("c", "d")} and found.left_out == {"ambiguous": 1}


def test_labels_of_few_texts() -> None:
    given = rows("x:a", "x:b", "y:c", "z:d", "z:e", "z:f")
    with pytest.raises(DataError, match=r"Cannot use the label 'y' in line 4 of f: it has a single text"):
        corpus_of("f", given)
    found = corpus_of("f", given, least=3)
    assert sorted(found.texts) == ["z"] and found.left_out == {"rare": 2}


def test_json_of_numbers_as_labels(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_text('{"text": "a", "label": 7}\n{"text": "b", "label": 7.0}\n')
    assert pairs(tmp_path / "a.ndjson") == [("a", "7", 1), ("b", "7", 2)]
