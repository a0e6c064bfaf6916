"""MetaLearner: meta-training from arrays and tables."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.utils import estimator_checks

import quickstudy
from quickstudy import FewShotClassifier, FewShotRegressor, MetaLearner, SavedLearner, load_task
from quickstudy.data.arrays import Arrays, ArrayTask, ArrayTasks
from quickstudy.errors import DataError, InputError, UnknownName

pandas = pytest.importorskip("pandas")
QUICK: dict[str, Any] = {"steps": 3, "tasks_per_step": 2, "episodes": 4}


def rows(n: int, seed: int, classes: int = 2) -> tuple[Any, Any]:
    """Classes told apart by the sign of a sum of columns; what they are called is the task's own."""
    draw = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return draw.normal(size=(n, 4)) + 2.0 * y[:, None], np.array([f"{seed}-{label}" for label in y])


def wave(n: int, draw: np.random.Generator) -> tuple[Any, Any]:
    height, shift, x = draw.uniform(1, 5), draw.uniform(0, np.pi), draw.uniform(-5, 5, (n, 1))
    return x, 100 + 20 * height * np.sin(x[:, 0] - shift)


# --- what it is for ------------------------------------------------------------------------------------


def test_trained_on_waves_it_learns_a_new_one_from_ten_points_where_others_cannot() -> None:
    draw = np.random.default_rng(0)
    meta = MetaLearner(steps=400, lr=3e-3, episodes=100).meta_fit([wave(30, draw) for _ in range(100)])
    ours, plain = [], []
    for _ in range(16):
        X, y = wave(40, draw)
        ours.append(np.square(meta.adapt(X[:10], y[:10]).predict(X[10:]) - y[10:]).mean())
        plain.append(np.square(FewShotRegressor().fit(X[:10], y[:10]).predict(X[10:]) - y[10:]).mean())
    better = np.log(plain) - np.log(ours)
    assert better.mean() - 1.96 * better.std(ddof=1) / len(better) ** 0.5 > 0.5, "three fifths of the error, or less"
    assert meta.result_ is not None and meta.result_.metric == "mse"
    assert 0.2 < np.mean(ours) / meta.result_.mean < 2, "measured in the labels' own units"
    assert "acnp, trained on 80 tasks of rows; tasks set aside: mse" in repr(meta)


def test_a_table_with_a_column_of_tasks() -> None:
    draw = np.random.default_rng(0)
    frame = pandas.DataFrame(draw.normal(size=(300, 4)), columns=["age", "noise", "grams", "flat"])
    frame["flat"], frame["grams"] = 3.0, 1e6 * frame["grams"]
    frame["hospital"] = np.arange(300) % 12
    frame["sick"] = frame["grams"] > 0
    meta = MetaLearner(steps=60).meta_fit(frame, task="hospital", target="sick")
    assert meta.columns_ == ("age", "noise", "grams", "flat") and meta.target_ == "classes"
    assert len(meta.tasks_["train"]) == 10 and len(meta.tasks_["validation"]) == 2
    new = frame[frame["hospital"] == int(meta.tasks_["validation"][0])]
    model = meta.adapt(new[:10], new["sick"][:10])  # the columns of task and target stand in it too
    assert model.score(meta._in_order(new[10:]), new["sick"][10:]) > 0.75
    other_order = new[["flat", "grams", "age", "noise"]]
    again = meta.adapt(other_order[:10], new["sick"][:10]).support_
    assert isinstance(again, torch.Tensor) and isinstance(model.support_, torch.Tensor)
    assert (again == model.support_).all()
    with pytest.raises(InputError, match="has no column 'grams', which the tasks had"):
        meta.adapt(new[["age", "noise", "flat"]], new["sick"])


def test_pictures() -> None:
    digits = load_digits()
    tasks = []
    for seed in range(6):
        some = np.random.default_rng(seed).permutation(7)[:4]
        keep = np.isin(digits.target, some) & (np.arange(len(digits.target)) % 6 == seed)
        tasks.append((digits.images[keep], digits.target[keep]))
    meta = MetaLearner(steps=30, shot=(1, 3), tasks_per_step=2, episodes=10).meta_fit(tasks)
    assert meta.kind_ == "pictures" and meta.saved_.shape.example == (1, 28, 28)
    new = np.flatnonzero(digits.target >= 7)
    model = meta.adapt(digits.images[new[:15]], digits.target[new[:15]])
    assert model.score(digits.images[new[15:200]], digits.target[new[15:200]]) > 0.7
    assert model.reader_.settings == {"size": 28, "channels": 1, "white": 16.0}


def test_waveforms_and_arrays_of_any_shape() -> None:
    time = np.arange(2000) / 4000
    draw = np.random.default_rng(0)

    def sounds(low: float) -> tuple[Any, Any]:
        pitches = np.array([low, 2 * low] * 5)
        return [np.sin(2 * np.pi * pitch * time[: draw.integers(1500, 2000)]) for pitch in pitches], pitches > low

    meta = MetaLearner(rate=4000, **QUICK).meta_fit([sounds(100 + 20 * k) for k in range(5)])
    assert (
        meta.kind_ == "sounds" and meta.saved_.recipe.net is not None and meta.saved_.recipe.net.name == "sound-conv4"
    )
    assert meta.adapt(*sounds(300)).predict(sounds(300)[0]).shape == (10,)
    arrays = [(draw.normal(size=(8, 3, 20)), np.arange(8) % 2) for _ in range(4)]
    meta = MetaLearner(**QUICK).meta_fit(arrays)
    assert meta.kind_ == "arrays"
    assert meta.adapt(*arrays[0]).predict(arrays[1][0]).shape == (8,)
    with pytest.raises(InputError, match=r"trained on examples of shape \[3, 20\], received \[3, 19\]"):
        meta.adapt(arrays[0][0][:, :, 1:], arrays[0][1])


@pytest.mark.parametrize("learner", ["maml", "cavia", "matching", "r2d2", "in-context", "cnp", "protomaml", "relation"])
def test_learners_of_every_family(learner: str, tmp_path: Path) -> None:
    meta = MetaLearner(learner, **QUICK).meta_fit([rows(20, seed, 3) for seed in range(5)])
    X, y = rows(20, 9, 3)
    model = meta.adapt(X, y)
    meta.save(tmp_path / "learner")
    again = FewShotClassifier(learner=tmp_path / "learner").fit(X, y)
    assert np.allclose(again.predict_proba(X), model.predict_proba(X), atol=1e-9)


def test_numbers_several_at_once() -> None:
    draw = np.random.default_rng(1)
    tasks = [(draw.normal(size=(12, 2)), draw.normal(size=(12, 3)) * [1, 10, 100]) for _ in range(4)]
    for learner in ("auto", "maml"):
        meta = MetaLearner(learner, **QUICK).meta_fit(tasks)
        assert meta.adapt(*tasks[0]).predict(tasks[1][0]).shape == (12, 3)


# --- no leak -------------------------------------------------------------------------------------------


def weights(meta: MetaLearner) -> dict[str, torch.Tensor]:
    return dict(meta.learner_.state_dict())


def test_what_is_set_aside_has_no_say_in_what_is_learned() -> None:
    tasks = [rows(10 + seed, seed) for seed in range(10)]
    meta = MetaLearner(**QUICK).meta_fit(tasks)
    aside = {int(name) for name in meta.tasks_["validation"]}
    assert len(aside) == 2 and aside.isdisjoint(map(int, meta.tasks_["train"]))
    other = [(1e3 * X + 7, y) if place in aside else (X, y) for place, (X, y) in enumerate(tasks)]
    again = MetaLearner(**QUICK).meta_fit(other)
    assert again.saved_.recipe == meta.saved_.recipe, "how columns are scaled, too"
    assert all((leaf == weights(meta)[name]).all() for name, leaf in weights(again).items())
    assert again.result_ is not None and meta.result_ is not None
    assert again.result_.per_episode != meta.result_.per_episode
    seeds = [set(MetaLearner(seed=seed, **QUICK).meta_fit(tasks).tasks_["validation"]) for seed in range(4)]
    assert len(set(map(frozenset, seeds))) > 1, "another seed, other tasks"


def test_a_task_that_is_given_twice_is_on_one_side() -> None:
    tasks = [rows(10, seed % 4) for seed in range(8)]
    meta = MetaLearner(validation=0.5, **QUICK).meta_fit(tasks)
    train, aside = ({int(name) % 4 for name in meta.tasks_[role]} for role in ("train", "validation"))
    assert train | aside == {0, 1, 2, 3} and not train & aside


def test_the_same_again_is_the_same_and_global_generators_stay() -> None:
    tasks = [rows(12, seed) for seed in range(4)]
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, again = (MetaLearner(**QUICK).meta_fit(tasks) for _ in range(2))
    assert all((leaf == weights(first)[name]).all() for name, leaf in weights(again).items())
    assert (torch.random.get_rng_state() == before).all()


def test_one_task_alone_is_trained_on_and_nothing_is_measured() -> None:
    meta = MetaLearner(**QUICK).meta_fit([rows(12, 0)])
    assert meta.result_ is None and meta.tasks_ == {"train": ["0"], "validation": []}
    assert "not validated" in repr(meta)


# --- ragged tasks --------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), min_size=1, max_size=5),
    shot=st.tuples(st.integers(1, 3), st.integers(0, 2)),
    query=st.integers(1, 4),
    seed=st.integers(0, 99),
    real=st.booleans(),
)
def test_episodes_of_ragged_tasks(
    sizes: list[list[int]], shot: tuple[int, int], query: int, seed: int, real: bool
) -> None:
    ends = (shot[0], shot[0] + shot[1])
    tasks, first = [], 0
    for number, counts in enumerate(sizes):
        y = np.repeat(np.arange(len(counts)), counts)
        x = (first + np.arange(len(y), dtype=np.float32))[:, None]  # each example has a number of its own
        first += len(y)
        tasks.append(ArrayTask(str(number), x, y[:, None].astype(np.float32) if real else y))
    options: dict[str, Any] = {"data": "arrays", "split": "train", "shot": ends, "query": query, "seed": seed}
    try:
        source = ArrayTasks(tasks, **options)
    except InputError as error:
        assert "none of its" in str(error)
        return
    episode = source.episodes(range(6))
    episode.check()
    for t in range(6):
        support, asked = episode.support, episode.query
        assert isinstance(support.x, torch.Tensor) and isinstance(asked.x, torch.Tensor)
        assert support.y is not None and asked.y is not None and episode.classes is not None
        place = int(episode.classes[t, 0])
        numbers = [x[t][part.real[t], 0].tolist() for x, part in ((support.x, support), (asked.x, asked))]
        assert not set(numbers[0]) & set(numbers[1]), "no example is in both"
        assert set(numbers[0]) | set(numbers[1]) <= set(source.tasks[place].x[:, 0].tolist())
        labels = support.y[t][support.real[t]]
        if real:
            assert ends[0] <= len(labels) <= ends[1] and 1 <= len(numbers[1]) <= query
            continue
        shots = torch.bincount(labels)
        assert (shots >= ends[0]).all() and (shots <= ends[1]).all() and len(shots) >= 2
        of_query = torch.bincount(asked.y[t][asked.real[t]], minlength=len(shots))
        assert (of_query >= 1).all() and (of_query <= query).all() and len(of_query) == len(shots)
    one = source.episodes(range(3, 4))
    n = one.support.n_example
    assert isinstance(one.support.x, torch.Tensor) and isinstance(episode.support.x, torch.Tensor)
    assert (episode.support.x[3, :n] == one.support.x[0]).all(), "whatever is drawn beside it"


@pytest.mark.parametrize("learner", ["protonet", "maml"])
def test_ragged_tasks_are_trained_on_and_those_that_are_too_small_are_named(learner: str) -> None:
    tasks = [rows(8 + 5 * seed, seed, 2 + seed % 3) for seed in range(6)]
    tasks += [(np.ones((1, 4)), ["only"]), (np.ones((5, 4)), ["a"] * 5)]
    meta = MetaLearner(learner, **QUICK).meta_fit(tasks)
    assert meta.left_out_ == {
        "6": "0 classes of 2 examples or more, where 2 are needed",
        "7": "1 class of 2 examples or more, where 2 are needed",
    }
    assert meta.adapt(*rows(14, 9, 7)).predict_proba(rows(14, 9, 7)[0]).shape == (14, 7)


# --- as an estimator -----------------------------------------------------------------------------------

# scikit-learn's other checks call fit(X, y) and predict(X), which a learner of tasks does not have.
CHECKS = [
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_get_params_invariance",
    "check_set_params",
    "check_mixin_order",
    "check_parameters_default_constructible",
]


@pytest.mark.parametrize("check", CHECKS)
def test_scikit_learns_checks_of_what_it_has(check: str) -> None:
    getattr(estimator_checks, check)("MetaLearner", MetaLearner())


def test_pickle_clone_and_nesting() -> None:
    tasks = [rows(12, seed) for seed in range(4)]
    X, y = rows(30, 8)
    meta = MetaLearner(steps=20, episodes=4).meta_fit(tasks)
    said = meta.adapt(X[:10], y[:10]).predict_proba(X)
    assert (pickle.loads(pickle.dumps(meta)).adapt(X[:10], y[:10]).predict_proba(X) == said).all()
    assert not hasattr(clone(meta), "saved_") and repr(clone(meta)) == "MetaLearner(episodes=4, steps=20)"
    model = FewShotClassifier(learner=meta)
    assert (model.fit(X[:10], y[:10]).predict_proba(X) == said).all()
    assert model.chosen_.name == "meta-learner"
    assert (clone(model).fit(X[:10], y[:10]).predict_proba(X) == said).all(), "a trained one stays trained"
    assert cross_val_score(model, X, y, cv=3).mean() > 0.6
    page = meta._repr_html_()
    assert "protonet, trained on 3 tasks of rows" in page and "sk-estimator" in page
    assert meta._repr_mimebundle_()["text/html"].endswith("</p>")


def test_a_folder_is_enough_where_the_tasks_are_not(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    tasks = [wave(20, draw) for _ in range(6)]
    meta = MetaLearner(**QUICK).meta_fit(tasks)
    meta.save(tmp_path / "learner")
    X, y = wave(10, draw)
    said = meta.adapt(X, y).predict(X)
    assert (FewShotRegressor(learner=tmp_path / "learner").fit(X, y).predict(X) == said).all()
    meta.adapt(X, y).save(tmp_path / "task")
    assert (load_task(tmp_path / "task").predict(X) == said).all()
    saved = SavedLearner.load(tmp_path / "learner")
    assert saved.results[0].episodes == 4 and saved.recipe.data.name == "arrays"
    assert (quickstudy.load(tmp_path / "learner").state_dict().keys()) == weights(meta).keys()
    with pytest.raises(DataError, match=r"arrays in memory, given to quickstudy.MetaLearner, and no file has them"):
        Arrays().tasks("train", shot=1, query=1, seed=0)


# --- bad input -----------------------------------------------------------------------------------------


GOOD = [rows(12, seed) for seed in range(4)]


@pytest.mark.parametrize(
    ("tasks", "options", "said"),
    [
        (np.zeros((3, 4)), {}, "Expected tasks as a list of pairs"),
        ([], {}, "There are no tasks to learn from"),
        ([(1, 2, 3)], {}, r"Task 0: expected a pair \(X, y\) or a dict .* received tuple of 3"),
        ([{"X": 1}], {}, "Task 0: expected the keys X and y, received X"),
        ([*GOOD, (np.ones((2, 4)), [0])], {}, "Task 4 has 2 examples and 1 labels"),
        ([*GOOD, (np.ones((0, 4)), [])], {}, "Task 4 has no examples"),
        (
            [*GOOD, (np.full((12, 4), np.nan), [0, 1] * 6)],
            {"validation": 0},
            "Task 4: Cannot read example 0: it has NaN",
        ),
        ([*GOOD, (np.ones((12, 5)), [0, 1] * 6)], {"validation": 0}, r"Task 4: .*shape \[4\], received \[5\]"),
        ([*GOOD, (np.ones((12, 9, 9)), [0, 1] * 6)], {}, "Tasks are of several kinds: task 0 is made of rows"),
        ([(["a", "b"] * 3, [0, 1] * 3)], {}, "cannot be trained on texts"),
        ([(np.ones(6), [0, 1] * 3)], {}, r"Task 0 has examples of shape \[\]: expected an array \[n, columns\]"),
        ([(np.array([["a"], ["b"]] * 3), [0, 1] * 3)], {}, "Task 0"),
        ([(np.ones((4, 2)), [0.5, np.nan, 1.5, 2.0])], {}, "Task 0 has labels that are NaN or infinite"),
        ([(np.ones((2, 2)), ["a", "b"])], {}, r"None of the 1 tasks can be learned from \(task 0: 0 classes of 2"),
        ([{"name": "x", "X": np.ones((4, 2)), "y": [0, 1, 0, 1]}] * 2, {}, "Two tasks are called 'x'"),
        (GOOD, {"learner": "protonett"}, "no learner called 'protonett'. Did you mean 'protonet'"),
        (GOOD, {"learner": "knn"}, "The learner 'knn' has nothing to train"),
        (GOOD, {"learner": "baseline"}, "'baseline' is trained on plain labelled batches"),
        (GOOD, {"learner_options": {"distanse": "cosine"}}, "distanse"),
        (GOOD, {"net": "convv4"}, "convv4"),
        (GOOD, {"net": "conv4"}, "made for square pictures"),
        (GOOD, {"learner_options": {"temperature": object()}}, "Options must be numbers, texts"),
        (GOOD, {"target": "real"}, "target='real' needs labels that are numbers"),
        (GOOD, {"target": "number"}, "target must be 'auto', 'classes' or 'real', received 'number'"),
        (GOOD, {"way": 3}, r"None of the 4 tasks can be learned from .* where 3 are needed"),
        (GOOD, {"shot": 0}, "shot = 0: expected a whole number from 1 on"),
        (GOOD, {"steps": -1}, "steps must be a whole number of at least 0, received -1"),
        (GOOD, {"validation": 1}, "validation must be a share of the tasks"),
        (GOOD, {"device": "nonsense"}, "Cannot compute on the device 'nonsense' here"),
        (GOOD, {"lr": -1.0}, "lr"),
    ],
)
def test_bad_input_is_one_sentence(tasks: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        MetaLearner(**QUICK | options).meta_fit(tasks)


def test_bad_tables_are_one_sentence() -> None:
    frame = pandas.DataFrame({"a": [1.0, 2.0], "who": ["x", "y"], "sick": [0, 1], "when": ["mon", "tue"]})
    for options, said in [
        ({}, "Say which column of the table is the task"),
        ({"task": "whom", "target": "sick"}, "no column 'whom'. Did you mean 'who'"),
        ({"task": "who", "target": "who"}, "task and target are both the column 'who'"),
        ({"task": "who", "target": "sick"}, "The column 'when' holds no numbers"),
    ]:
        with pytest.raises(InputError, match=said):
            MetaLearner().meta_fit(frame, **options)
    with pytest.raises(InputError, match="task= and target= name columns of a DataFrame"):
        MetaLearner().meta_fit(GOOD, task="who")
    with pytest.raises(DataError, match="The column 'who' has 1 rows without a value"):
        MetaLearner().meta_fit(frame.assign(who=["x", None], when=0), task="who", target="sick")


def test_before_it_learned_anything() -> None:
    with pytest.raises(NotFittedError, match="has not learned anything yet"):
        MetaLearner().adapt(*GOOD[0])
    with pytest.raises(NotFittedError, match="has not learned anything yet"):
        FewShotClassifier(learner=MetaLearner()).fit(*GOOD[0])
    with pytest.raises(InputError, match="was trained on rows, and these are pictures"):
        MetaLearner(**QUICK).meta_fit(GOOD).adapt(np.ones((4, 9, 9)), [0, 1, 0, 1])
    with pytest.raises(UnknownName, match="no learner called '3'"):
        MetaLearner(3).meta_fit(GOOD)  # type: ignore[arg-type]
