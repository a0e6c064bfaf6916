"""What people hand over who have not read the manual: answered as they meant it, or refused in a sentence."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from quickstudy.errors import InputError
from quickstudy.estimators import FewShotClassifier, FewShotRegressor, load_task
from quickstudy.exportfile import _cannot
from quickstudy.shipped import shipped

pd: Any = pytest.importorskip("pandas")
DIGITS = load_digits()


@pytest.mark.parametrize(
    "wrong",
    [[Path("nowhere.png")], [np.full((8, 8), np.nan)], ["a text"], [np.zeros((2, 2, 9))]],
    ids=["no file", "NaN", "a text", "no picture"],
)
def test_what_fails_leaves_what_was_learned(wrong: Any) -> None:
    names = [f"digit {label}" for label in DIGITS.target[:10]]
    model = FewShotClassifier(learner="knn").fit(DIGITS.images[:10], names)
    said = model.predict_proba(DIGITS.images[10:20])
    for learn in (model.partial_fit, model.fit):
        with pytest.raises(InputError):
            learn(wrong, ["a new class"])
        assert model.classes_.tolist() == sorted(names)
        assert model.kind_ == "pictures" and len(model.labels_) == 10
        assert (model.predict_proba(DIGITS.images[10:20]) == said).all()


@pytest.mark.parametrize("form", [torch.tensor, lambda y: list(torch.tensor(y)), lambda y: pd.Series(y, dtype="Int64")])
def test_labels_as_tensors_and_as_columns_are_numbers(form: Any) -> None:
    model = FewShotClassifier(learner="knn").fit(DIGITS.images[:30], form(DIGITS.target[:30]))
    assert model.classes_.tolist() == list(range(10))


@pytest.mark.parametrize("missing", [float("nan"), np.float64("nan"), pd.NA, pd.NaT, np.datetime64("NaT")])
def test_a_missing_label_is_named(missing: Any) -> None:
    for X in (DIGITS.images[:4], DIGITS.data[:4]):
        for y in (["a", "b", missing, "a"], pd.Series(["a", "b", missing, "a"], dtype=object)):
            with pytest.raises(InputError, match="label of example 2 is missing"):
                FewShotClassifier(learner="knn").fit(X, y)
    with pytest.raises(InputError, match="label of example 1 is missing"):
        FewShotClassifier(learner="knn").fit(DIGITS.images[:2], np.array([1.0, np.nan]))


def test_sets_as_labels_stand_in_the_order_in_which_they_came() -> None:
    labels = [frozenset({name}) for name in "dacb"]  # sorted they would stand in another order in each process
    assert FewShotClassifier(learner="knn").fit(np.eye(4), labels).classes_.tolist() == labels


def test_many_classes_with_one_row_each_are_classes_and_no_numbers() -> None:
    X, _ = load_iris(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = FewShotClassifier().fit(X[:30], np.arange(30))
    assert len(model.classes_) == 30


def test_gaps_and_ragged_lists_and_nothing_are_said() -> None:
    model = FewShotClassifier(learner="knn")
    for gap in (None, float("nan"), pd.NA):
        with pytest.raises(InputError, match="Text 1 is missing"):
            model.fit(["a text", gap], [0, 1])
    with pytest.raises(InputError, match=r"found 3 to 4\. If they are waveforms.*FewShotClassifier\(rate=16000\)"):
        model.fit([np.zeros(4), np.zeros(3)], [0, 1])
    nothing: Any
    for nothing in ([], np.zeros((0, 3)), np.zeros((0, 8, 8)), pd.Series([], dtype=str)):
        with pytest.raises(InputError, match="There are no examples"):
            model.fit(nothing, [])
    with pytest.raises(InputError, match="one for each example, received one str: 'ab'"):
        model.fit(np.eye(2), "ab")


def test_names_of_files_are_not_learned_by_how_they_are_spelt() -> None:
    with pytest.raises(InputError, match=r"names of files, such as 'cats/1\.jpg'.*pathlib\.Path"):
        FewShotClassifier(learner="tf-idf").fit(["cats/1.jpg", "dogs/2.PNG"], ["cat", "dog"])
    said = ["a photo, cats/1.jpg", "another one"]
    assert FewShotClassifier(learner="tf-idf").fit(said, ["cat", "dog"]).predict(said).tolist() == ["cat", "dog"]


def test_a_single_picture_is_wanted_in_a_list() -> None:
    model = FewShotClassifier(learner="knn").fit(DIGITS.images[:10], DIGITS.target[:10])
    with pytest.raises(InputError, match=r"Cannot use rows.* Put a single picture into a list: \[x\]"):
        model.predict(DIGITS.images[0])
    assert model.predict([DIGITS.images[0]]).tolist() == [0]


def test_a_picture_is_the_same_as_a_file_and_as_one_of_pillows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    deep = Image.fromarray(rng.integers(0, 65536, (12, 12), dtype=np.uint16))
    clear = Image.fromarray(rng.integers(0, 256, (12, 12, 4), dtype=np.uint8))
    turned = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    pictures, files = [deep, clear, turned], []
    for number, picture in enumerate(pictures):
        files.append(tmp_path / f"{number}.png")
        exif = Image.Exif()
        exif[0x0112] = 6 if picture is turned else 1  # which side is up
        picture.save(files[-1], exif=exif)
    opened = [Image.open(file) for file in files]
    model = FewShotClassifier(learner="knn").fit(files, ["deep", "clear", "turned"])
    of_files = model.transform(files)
    assert np.allclose(model.transform(opened), of_files)
    assert np.allclose(model.transform([np.asarray(clear)]), of_files[1:2])  # what is clear may have any colour
    for picture in opened:
        picture.close()


def test_tensors_have_their_channels_first() -> None:
    X = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    first = FewShotClassifier(learner="knn").fit(X, [0, 1, 0, 1])
    last = FewShotClassifier(learner="knn").fit(X.movedim(1, 3).numpy(), [0, 1, 0, 1])
    assert np.allclose(first.transform(X), last.transform(X.movedim(1, 3).numpy()))
    with pytest.raises(InputError, match=r"found shape \[3, 12, 12\]. Where channels come first, move them"):
        FewShotClassifier(learner="knn").fit(X.numpy(), [0, 1, 0, 1])


def test_a_regressor_says_that_it_learns_numbers() -> None:
    for X in (DIGITS.images[:2], DIGITS.data[:2]):
        for y in (["a", "b"], [1j, 2]):
            with pytest.raises(InputError, match=r"learns numbers.*take a FewShotClassifier"):
                FewShotRegressor(learner="ridge").fit(X, y)
    with pytest.raises(InputError, match="label of example 1 is no finite number"):
        FewShotRegressor(learner="ridge").fit(DIGITS.images[:2], [1.0, np.inf])
    with pytest.raises(InputError, match="label of example 1 is no finite number"):
        FewShotRegressor(learner="ridge").fit(DIGITS.data[:2], [1.0, None])


def test_in_a_pipeline_that_hands_on_tables() -> None:
    X, y = load_iris(return_X_y=True, as_frame=True)
    tables = make_pipeline(StandardScaler(), FewShotClassifier(learner="knn")).set_output(transform="pandas")
    found = tables.fit(X[::5], y[::5]).transform(X[1:4])
    assert found.columns.tolist() == [f"fewshotclassifier{number}" for number in range(4)]
    assert found.index.tolist() == [1, 2, 3]
    shown = FewShotClassifier(learner="knn").set_output(transform="pandas").fit(DIGITS.images[:9], DIGITS.target[:9])
    assert shown.transform(DIGITS.images[:2]).shape[0] == 2


def test_labels_that_are_numbers_of_numpy_are_kept_in_a_file(tmp_path: Path) -> None:
    labels = [np.int64(3), np.str_("x"), np.bool_(False)]
    FewShotClassifier(learner="knn").fit(DIGITS.images[:3], labels).save(tmp_path / "task")
    assert list(load_task(tmp_path / "task").predict(DIGITS.images[:3])) == [3, "x", False]


def test_texts_that_no_graph_can_hold_are_refused_in_a_sentence(tmp_path: Path) -> None:
    model = FewShotClassifier(learner="tf-idf").fit(["a parcel", "some money"], [0, 1])
    with pytest.raises(InputError, match=r"task of tf-idf: it reads texts letter by letter.* no graph of tensors"):
        model.export_onnx(tmp_path / "task.onnx")


def test_a_table_of_texts_says_how_texts_are_read() -> None:
    table = pd.DataFrame({"message": [f"text {number}" for number in range(30)]})
    with pytest.raises(
        InputError, match=r"\(message: 30 different words.*\)\. A column of texts is read as such where"
    ):
        FewShotClassifier().fit(table, [0, 1] * 15)


def test_why_a_file_cannot_be_exported_is_said_without_the_steps_of_pytorch() -> None:
    error = RuntimeError("Failed.\n\x1b[96mThis is step 3/3\x1b[0m of exporting the model to ONNX. Next steps:")
    error.__cause__ = NotImplementedError("\x1b[91mno such operator\x1b[0m: topk. Please write one.")
    said = _cannot("the task of knn", error)
    assert "(NotImplementedError: no such operator: topk). Use it through quickstudy" in said


def test_a_saved_learner_shows_itself_in_a_line() -> None:
    assert repr(shipped("drawings")).startswith("SavedLearner(protonet, by ")
    assert len(repr(shipped("drawings"))) < 400
