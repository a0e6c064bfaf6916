"""Tables with words and gaps."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quickstudy.errors import InputError
from quickstudy.estimators import FewShotClassifier, FewShotRegressor, load_task
from quickstudy.estimators.tablereader import TableReader

pandas = pytest.importorskip("pandas")


def frame(n: int = 40) -> Any:
    """Who is red or large; some cells are missing."""
    draw = np.random.default_rng(0)
    table = pandas.DataFrame(
        {"colour": draw.choice(["red", "blue", "green"], n), "size": draw.normal(size=n), "ok": draw.random(n) > 0.5}
    )
    y = np.where((table["colour"] == "red") | (table["size"] > 1), "yes", "no")
    table.loc[3, "size"] = np.nan
    table.loc[5, "colour"] = None
    return table, y


def test_words_and_gaps_are_learned_and_kept(tmp_path: Path) -> None:
    X, y = frame()
    model = FewShotClassifier(learner="logistic").fit(X[:30], y[:30])
    assert model.score(X[30:], y[30:]) >= 0.9
    assert isinstance(model.reader_, TableReader) and model.reader_.width == 6  # 3 colours, size, its gap, ok
    assert model.n_features_in_ == 3
    model.save(tmp_path / "task")
    again = load_task(tmp_path / "task")
    assert isinstance(again, FewShotClassifier)
    mixed = X[["size", "ok", "colour"]]  # found by name, as a DataFrame has them
    assert (again.predict_proba(mixed) == model.predict_proba(X)).all()
    rows = [["red", 0.0, True], [None, 2.0, False]]
    same = pandas.DataFrame(rows, columns=["colour", "size", "ok"])
    assert (again.predict_proba(rows) == model.predict_proba(same)).all()


def test_what_is_added_is_as_if_it_had_been_there(tmp_path: Path) -> None:
    X, y = frame()
    X.loc[20:, "colour"] = X.loc[20:, "colour"].replace("green", "violet")
    at_once = FewShotClassifier(learner="logistic").fit(X, y)
    FewShotClassifier(learner="logistic").fit(X[:10], y[:10]).save(tmp_path / "task")
    model = load_task(tmp_path / "task")
    assert isinstance(model, FewShotClassifier)
    model.partial_fit(X[10:], y[10:])
    assert np.allclose(model.predict_proba(X), at_once.predict_proba(X), atol=1e-6)


def test_nothing_of_the_asked_rows_is_measured() -> None:
    X, y = frame()
    model = FewShotClassifier(learner="knn").fit(X[:30], y[:30])
    together = model.predict_proba(X[30:])
    assert (together == np.concatenate([model.predict_proba(X[row : row + 1]) for row in range(30, 40)])).all()


def test_a_word_that_no_labelled_row_has_is_said() -> None:
    X, y = frame()
    model = FewShotClassifier(learner="knn").fit(X, y)
    asked = X[:2].assign(colour=["violet", "red"])
    with pytest.warns(UserWarning, match="no labelled row has, taken for none of those: colour: 'violet'"):
        model.predict(asked)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(X[:2])


def test_numbers_without_gaps_are_no_table_and_arrays_with_nan_are_refused() -> None:
    X, y = frame()
    plain = X[["size", "ok"]].fillna(0)
    assert not isinstance(FewShotClassifier(learner="knn").fit(plain, y).reader_, TableReader)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        FewShotClassifier(learner="knn").fit(np.array([[1.0, np.nan], [2.0, 3.0]]), ["a", "b"])


def test_a_number_is_learned_of_words() -> None:
    X, _ = frame()
    price = np.where(X["colour"] == "red", 10.0, 2.0)
    said = FewShotRegressor(learner="ridge").fit(X, price).predict(X[:6])
    assert np.abs(said - price[:6]).max() < 3


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pandas.to_datetime(["2020-01-01"] * 40), "the column 'new': it holds datetime64"),
        ([[1]] * 40, r"the column 'new': it holds list \(\[1\]\)"),
        ([1.0, np.inf] * 20, "row 1 of the table: new is inf, and a finite number is meant"),
    ],
)
def test_columns_that_cannot_be_used(column: Any, says: str) -> None:
    X, y = frame()
    with pytest.raises(InputError, match=says):
        FewShotClassifier(learner="knn").fit(X.assign(new=column), y)


def test_rows_that_do_not_fit_what_was_learned() -> None:
    X, y = frame()
    model = FewShotClassifier(learner="knn").fit(X, y)
    with pytest.raises(InputError, match="it has no column 'size', which the labelled rows had"):
        model.predict(X[["colour", "ok"]])
    with pytest.raises(InputError, match="row 0 of the table: size is 'large', and a finite number is meant"):
        model.predict(X[:2].assign(size=["large", "small"]))
    with pytest.raises(InputError, match=r"Rows of 3 columns were learned \(colour, size, ok\), received one of 2"):
        model.predict([["red", 1.0]])
    with pytest.raises(InputError, match="The column 'ok' stands twice"):
        FewShotClassifier(learner="knn").fit(pandas.concat([X, X[["ok"]]], axis=1), y)
