"""FewShotClassifier and FewShotRegressor as scikit-learn's users meet them."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from quickstudy.data.ink import Ink
from quickstudy.errors import InputError, UnknownName
from quickstudy.estimators import FewShotClassifier, FewShotRegressor
from quickstudy.estimators.inputs import kind_of
from quickstudy.learners.maml import MAML
from quickstudy.nets import MLP

CHECKED = [
    FewShotClassifier(),
    FewShotRegressor(),
    FewShotClassifier(learner="logistic"),
    FewShotClassifier(learner="knn"),
    FewShotRegressor(learner="ridge"),
]


@parametrize_with_checks(CHECKED)  # type: ignore[untyped-decorator]
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    # One of them skips itself: check_array_api_input, unless SCIPY_ARRAY_API is set.
    check(estimator)


def test_in_a_pipeline_a_search_and_a_cross_validation() -> None:
    X, y = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), FewShotClassifier(learner="knn"))
    assert cross_val_score(model, X, y, cv=3).mean() > 0.9
    search = GridSearchCV(FewShotClassifier(), {"learner": ["knn", "logistic"]}, cv=3).fit(X, y)
    assert search.best_params_["learner"] in ("knn", "logistic")


def test_a_pickle_and_a_clone_say_the_same() -> None:
    X, y = load_iris(return_X_y=True)
    model = FewShotClassifier(learner="logistic").fit(X[::7], y[::7])
    said = model.predict_proba(X)
    assert (pickle.loads(pickle.dumps(model)).predict_proba(X) == said).all()
    assert (clone(model).fit(X[::7], y[::7]).predict_proba(X) == said).all()


@pytest.mark.parametrize("learner", ["knn", "logistic"])
def test_partial_fit_of_new_examples_and_new_classes_is_fitting_all_at_once(learner: str) -> None:
    X, y = load_iris(return_X_y=True)
    X, y = X[::5], y[::5]
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    step_by_step = FewShotClassifier(learner=learner).fit(X[y < 2], names[y < 2])
    step_by_step.partial_fit(X[y == 2], names[y == 2])
    at_once = FewShotClassifier(learner=learner).fit(
        np.concatenate([X[y < 2], X[y == 2]]), np.concatenate([names[y < 2], names[y == 2]])
    )
    assert step_by_step.classes_.tolist() == at_once.classes_.tolist()
    assert (step_by_step.predict_proba(X) == at_once.predict_proba(X)).all()


@pytest.mark.parametrize("labels", [[("a", 1), ("b", 2)], [("a", 1), 3], [None, "x"], [True, "x"], [frozenset({1}), 3]])
def test_any_hashable_label(labels: list[Any]) -> None:
    model = FewShotClassifier(learner="knn").fit(np.eye(4), [labels[0], labels[1], labels[0], labels[1]])
    assert list(model.predict(np.eye(4)[[1, 2]])) == [labels[1], labels[0]]


def test_pictures_as_arrays_images_and_files_are_one(tmp_path: Any) -> None:
    digits = load_digits()
    pixels = (digits.images[:40] / 16 * 255).round().astype(np.uint8)
    y = digits.target[:40]
    paths = []
    for number, picture in enumerate(pixels):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(picture).save(paths[-1])
    models = [
        FewShotClassifier(learner="knn").fit(pixels, y),
        FewShotClassifier(learner="knn").fit([Image.fromarray(picture) for picture in pixels], y),
        FewShotClassifier(learner="knn").fit(paths, y),
    ]
    said = [model.predict_proba(some) for model, some in zip(models, (pixels, pixels, paths), strict=True)]
    assert (said[0] == said[1]).all() and (said[0] == said[2]).all()
    assert [model.kind_ for model in models] == ["pictures"] * 3


def test_what_is_said_of_a_picture_does_not_depend_on_those_beside_it() -> None:
    digits = load_digits()
    model = FewShotClassifier(learner="knn").fit(digits.images[:30], digits.target[:30])
    together = model.predict_proba(digits.images[30:40])
    alone = np.concatenate([model.predict_proba(digits.images[[number]]) for number in range(30, 40)])
    assert np.allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("X", "kind"),
    [
        (np.zeros((2, 3)), "rows"),
        ([[1.0, 2.0], [3.0, 4.0]], "rows"),
        (np.zeros((2, 8, 8)), "pictures"),
        ([np.zeros((4, 4)), np.zeros((5, 6))], "pictures"),
        (["a text", "another"], "texts"),
        (np.array(["a text", "another"]), "texts"),
    ],
)
def test_the_kind_of_examples(X: Any, kind: str) -> None:
    assert kind_of(X) == kind
    assert kind_of(np.zeros((2, 100)), rate=8000) == "sounds"


def test_bad_input_is_one_sentence() -> None:
    model = FewShotClassifier(learner="knn")
    with pytest.raises(InputError, match="of several kinds: pictures, texts"):
        model.fit(["a", Image.new("L", (4, 4))], [0, 1])
    with pytest.raises(InputError, match="Put it into a list"):
        model.fit("a text", [0])
    with pytest.raises(InputError, match="All examples are of one class, 7"):
        model.fit(np.eye(2), [7, 7])
    with pytest.raises(InputError, match="2 examples and 3 labels"):
        model.fit([np.zeros((4, 4))] * 2, [0, 1, 2])
    with pytest.raises(InputError, match="picture 1: it has pixels that are negative, NaN or infinite"):
        model.fit([np.zeros((4, 4)), np.full((4, 4), np.nan)], [0, 1])
    with pytest.raises(InputError, match="hashable"):
        model.fit(np.eye(2), [[1], [2]])
    with pytest.raises(UnknownName, match="no learner called 'protonett'"):
        FewShotClassifier(learner="protonett").fit(np.eye(2), [0, 1])
    with pytest.raises(InputError, match="'protonet' is made of weights that have to be meta-trained first"):
        FewShotClassifier(learner="protonet").fit(np.eye(2), [0, 1])
    with pytest.raises(InputError, match="learner must be 'auto'"):
        FewShotClassifier(learner=3).fit(np.eye(2), [0, 1])
    with pytest.raises(InputError, match="knn does not learn real numbers"):
        FewShotRegressor(learner="knn").fit(np.eye(2), [0.0, 1.0])
    fitted = model.fit(np.eye(4), [0, 1, 0, 1])
    with pytest.raises(InputError, match="Cannot use texts: this FewShotClassifier learned rows"):
        fitted.predict(["a text"])


def digits_of(rng: np.random.Generator, shot: int, classes: list[int]) -> tuple[Any, Any, Any, Any]:
    """``shot`` labelled drawings of each class, and 15 others."""
    digits = load_digits()
    rows = [rng.permutation(np.flatnonzero(digits.target == label)) for label in classes]
    known = np.concatenate([some[:shot] for some in rows])
    asked = np.concatenate([some[shot : shot + 15] for some in rows])
    return digits.images[known], digits.target[known], digits.images[asked], digits.target[asked]


def test_few_known_ones_are_called_unknown_and_most_strangers_are() -> None:
    wrong, right = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X, y, asked, _ = digits_of(rng, 8, [0, 1, 2, 3, 4])
        model = FewShotClassifier(learner="knn", reject_unknown=0.1, unknown=-1).fit(X, y)
        strangers = digits_of(rng, 1, [5, 6, 7, 8, 9])[2]
        wrong.append((model.predict(asked) == -1).mean())
        right.append((model.predict(strangers) == -1).mean())
        assert model.promise_ == "own examples"
    assert np.mean(wrong) <= 0.1 + 0.03
    assert np.mean(right) > 0.4


def test_the_true_class_is_in_the_set_as_often_as_was_promised() -> None:
    covered, sizes = [], []
    for seed in range(12):
        X, y, asked, truth = digits_of(np.random.default_rng(seed), 6, list(range(10)))
        model = FewShotClassifier(learner="logistic").fit(X, y)
        found = model.predict_set(asked, coverage=0.8)
        covered.append(found[np.arange(len(truth)), truth].mean())
        sizes.append(found.sum(1).mean())
        assert model.set_promise_ == "own examples"
    assert np.mean(covered) >= 0.8 - 0.04
    assert np.mean(sizes) < 4


def test_with_few_examples_nothing_is_promised() -> None:
    X, y, asked, _ = digits_of(np.random.default_rng(0), 1, [0, 1, 2])
    model = FewShotClassifier(learner="knn").fit(X, y)
    assert model.promise_ == "not guaranteed"
    assert FewShotClassifier(learner="knn").fit(*digits_of(np.random.default_rng(0), 7, [0, 1, 2])[:2]).promise_ == (
        "own examples"
    )
    assert model.predict_set(asked).all()
    assert model.set_promise_ == "not guaranteed"
    with pytest.raises(InputError, match="coverage must be a number above 0 and below 1"):
        model.predict_set(asked, coverage=90)


@pytest.mark.parametrize("shot", [1, 5])
def test_the_default_beats_the_nearest_pixels_on_ten_digits(shot: int) -> None:
    better = []
    for seed in range(20):
        X, y, asked, truth = digits_of(np.random.default_rng(seed), shot, list(range(10)))
        model = FewShotClassifier().fit(X, y)
        assert model.chosen_.name == "drawings"
        apart = np.square(asked.reshape(len(asked), 1, -1) - X.reshape(1, len(X), -1)).sum(2)
        better.append(model.score(asked, truth) - (y[apart.argmin(1)] == truth).mean())
    assert np.mean(better) - 1.96 * np.std(better, ddof=1) / len(better) ** 0.5 > 0.03


def test_the_repr_and_chosen_say_which_learner_and_why() -> None:
    X, y = load_iris(return_X_y=True)
    assert repr(FewShotClassifier(learner="knn")) == "FewShotClassifier(learner='knn')"
    assert (FewShotClassifier().fit(X[::7], y[::7]).chosen_.name) == "rows"
    wide = np.random.default_rng(0).normal(size=(40, 50))
    chosen = FewShotClassifier().fit(wide, np.arange(40) % 2).chosen_
    assert (chosen.name, chosen.why) == (
        "logistic",
        "50 columns, where the in-context learner has room for 32",
    )
    assert "fewer than 3 rows a class" in FewShotClassifier().fit(X[::50], y[::50]).chosen_.why


def test_a_fitted_one_says_in_its_repr_which_learner_and_why() -> None:
    digits = load_digits()
    model = FewShotClassifier()
    assert repr(model) == "FewShotClassifier()" and "quickstudy-learner" not in model._repr_html_()
    model.fit(digits.images[:20], digits.target[:20])
    said = "drawings (grey, on even paper), from 20 pictures of 10 classes"
    assert repr(model) == f"FewShotClassifier()  # {said}"
    assert repr(clone(model)) == "FewShotClassifier()"
    assert eval(repr(model)).get_params() == model.get_params(), "still an expression"
    page = model._repr_html_()
    assert said in page and "sk-estimator" in page
    bundle = model._repr_mimebundle_()
    assert bundle.keys() == {"text/plain", "text/html"} and bundle["text/plain"] == repr(model)
    assert said in bundle["text/html"]
    numbers = FewShotRegressor(learner="ridge").fit(np.eye(3), [1.0, 2.0, 3.0])
    assert repr(numbers) == "FewShotRegressor(learner='ridge')  # ridge (as asked for), from 3 rows"
    pipeline = make_pipeline(StandardScaler(), FewShotClassifier(learner="knn")).fit(np.eye(4), [0, 1, 0, 1])
    assert "knn" in repr(pipeline) and "knn (as asked for)" in repr(pipeline[-1])


def test_what_a_label_or_a_name_says_does_not_become_html() -> None:
    model = FewShotClassifier(learner="knn").fit(np.eye(2), [0, 1])
    model.chosen_ = replace(model.chosen_, name="<script>alert(1)</script>")
    assert "<script>alert" not in model._repr_html_()


def test_rates_of_a_shipped_learner_hold_over_new_classes_with_one_example_of_each(data_root: Path) -> None:
    """Of the data that it was trained on, classes that neither training nor the measurement saw."""
    source = Ink(data_root).tasks("test", way=5, shot=1, query=15, seed=3)
    wrong, covered = [], []
    for number in range(60):
        episode = source.episodes(range(number, number + 1))
        assert isinstance(episode.support.x, torch.Tensor) and isinstance(episode.query.x, torch.Tensor)
        assert episode.support.y is not None and episode.query.y is not None
        model = FewShotClassifier(reject_unknown=0.1).fit(episode.support.x[0].numpy(), episode.support.y[0].tolist())
        asked, truth = episode.query.x[0].numpy(), episode.query.y[0].numpy()
        wrong.append(model.is_unknown(asked).mean())
        covered.append(model.predict_set(asked, coverage=0.9)[np.arange(len(truth)), truth].mean())
        assert model.promise_ == model.set_promise_ == "tasks like those of validation"
    assert np.mean(wrong) <= 0.1 + 1.96 * np.std(wrong) / len(wrong) ** 0.5
    assert np.mean(covered) >= 0.9 - 1.96 * np.std(covered) / len(covered) ** 0.5


@pytest.mark.parametrize("rate", [0, -1, 1.5, "16000", True])
def test_a_rate_that_is_none_is_refused(rate: Any) -> None:
    with pytest.raises(InputError, match="rate must be a whole number of samples a second"):
        FewShotClassifier(rate=rate).fit(np.ones((2, 800)), ["a", "b"])


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    X, y = load_iris(return_X_y=True)
    with pytest.raises(InputError, match=f"Cannot compute on the device '{device}' here"):
        FewShotClassifier(device=device).fit(X, y)


def test_the_loss_on_the_labelled_examples_falls_with_each_inner_step() -> None:
    X, y = load_iris(return_X_y=True)
    X, y = X[::10], y[::10]
    learner = MAML(MLP(4, (16,)), head="shared", inner_steps=2, test_inner_steps=4, inner_lr=0.05)
    model = FewShotClassifier(learner=learner).fit(X, y)
    losses = model.support_losses()
    assert losses is not None and len(losses) == 5
    assert losses[0] == pytest.approx(np.log(3))  # one row for every class
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 0.05
    assert losses[-1] == pytest.approx(log_loss(y, model.predict_proba(X)), rel=1e-6)  # where it has come to
    assert FewShotClassifier(learner="knn").fit(X, y).support_losses() is None


def test_of_many_inner_steps_ten_are_shown() -> None:
    X, y = load_iris(return_X_y=True)
    learner = MAML(MLP(4, (8,)), head="shared", inner_steps=2, test_inner_steps=200, inner_lr=0.05)
    losses = FewShotClassifier(learner=learner).fit(X[::10], y[::10]).support_losses()
    assert losses is not None and len(losses) == 11
